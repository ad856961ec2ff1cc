"""Furnishes rooms: a seed in, a `Room` out. Host code (NumPy), called once per room.

Pieces are built in their own frame: origin on the floor in the middle of the back side, x along
the wall, y into the room, z up.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from ace_jax.synthetic.room import (
    SHELL_FACES,
    Doorway,
    Illumination,
    Materials,
    Pattern,
    Primitives,
    Room,
)

MAX_BOXES, MAX_CONES, MAX_ELLIPSOIDS = 384, 64, 96

WOODS = ((176, 128, 82), (140, 92, 56), (205, 165, 115), (105, 68, 44), (190, 175, 155))
WALLS = ((222, 214, 198), (196, 208, 212), (214, 200, 170), (190, 202, 182), (216, 192, 184))
CLOTHS = (
    (120, 40, 44), (40, 66, 98), (92, 104, 74), (170, 122, 54), (88, 80, 96), (160, 150, 138),
    (52, 90, 92), (150, 84, 60),
)  # fmt: skip
VIVID = (
    (190, 48, 40), (30, 84, 150), (228, 176, 40), (40, 120, 84), (236, 228, 212), (28, 30, 36),
    (200, 104, 40), (110, 60, 120), (70, 160, 180), (220, 130, 140), (96, 110, 50), (60, 60, 66),
)  # fmt: skip


def linear(rgb) -> np.ndarray:
    """sRGB 0-255 to linear 0-1."""
    return (np.asarray(rgb, np.float64) / 255.0) ** 2.2


@dataclasses.dataclass(frozen=True)
class Style:
    """What rooms that look alike have in common: the designs that their things are chosen from.

    Attributes:
        timbers: sRGB colours of the furniture.
        prints: materials of posters, magazines and labels.
        pictures: materials of paintings.
        cloths: materials of cushions, quilts and curtains.
        rugs: materials of rugs.
        shell: materials of the walls, the floor and the ceiling.
    """

    timbers: list[np.ndarray]
    prints: list[dict]
    pictures: list[dict]
    cloths: list[dict]
    rugs: list[dict]
    shell: list[dict]


class Builder:
    """Collects primitives and their materials; knows the frame of the current piece."""

    def __init__(self, rng: np.random.Generator, style: Style | None = None):
        self.rng = rng
        self.style = style
        # furniture of one room matches: a few timbers
        self.timbers = style.timbers if style else [self.pick(WOODS) for _ in range(3)]
        self.timber = self.timbers[0]
        self.parts: dict[str, list[dict]] = {"boxes": [], "cones": [], "ellipsoids": []}
        self.frame = np.eye(4)
        self.group = -1
        self.groups = 0

    def place(self, position, yaw: float, movable: bool = True) -> None:
        """Starts a piece: its frame stands at `position`, turned by `yaw` about z."""
        c, s = np.cos(yaw), np.sin(yaw)
        self.frame = np.eye(4)
        self.frame[:3, :3] = [[c, -s, 0], [s, c, 0], [0, 0, 1]]
        self.frame[:3, 3] = position
        self.group = self.groups if movable else -1
        self.groups += movable
        self.timber = self.timbers[self.rng.integers(len(self.timbers))]

    def fits(self, maxima: dict[str, int], before: dict[str, int]) -> bool:
        """Drops what was added since `before` if a maximum is exceeded; True if all fits."""
        if all(len(self.parts[kind]) <= most for kind, most in maxima.items()):
            return True
        for kind, count in before.items():
            del self.parts[kind][count:]
        return False

    def counts(self) -> dict[str, int]:
        """Primitives so far, per kind."""
        return {kind: len(parts) for kind, parts in self.parts.items()}

    def _add(self, kind, center, size, material, yaw=0.0, pitch=0.0, roll=0.0, shadow=True):
        cy, sy, cp, sp, cr, sr = (
            f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin)
        )  # fmt: skip
        rz = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        ry = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
        rx = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
        self.parts[kind].append({
            "center": self.frame[:3, :3] @ np.asarray(center, float) + self.frame[:3, 3],
            "rotation": self.frame[:3, :3] @ rz @ ry @ rx,
            "size": np.asarray(size, float),
            # sheets and trims would only cost time
            "casts_shadow": shadow and min(size) > 0.0101,
            "group": self.group,
            "material": material,
        })  # fmt: skip

    def box(self, center, full_size, material, **kw) -> None:
        """A box; `full_size` are its edge lengths."""
        self._add("boxes", center, np.asarray(full_size, float) / 2, material, **kw)

    def cone(self, bottom, r_bottom, r_top, height, material, **kw) -> None:
        """A truncated cone standing with its bottom's centre at `bottom`."""
        x, y, z = bottom
        self._add("cones", (x, y, z + height / 2), (r_bottom, r_top, height / 2), material, **kw)

    def ellipsoid(self, center, semi_axes, material, **kw) -> None:
        """An ellipsoid."""
        self._add("ellipsoids", center, semi_axes, material, **kw)

    # materials

    def material(self, pattern, colors, scale=(0.5, 0.5), aux=0.0, contrast=0.5, gloss=0.0,
                 emission=0.0) -> dict:  # fmt: skip
        """A material row; colours are sRGB 0-255."""
        colors = [linear(c) for c in colors]
        return {
            "pattern": int(pattern), "seed": int(self.rng.integers(1 << 31)),
            "colors": np.stack([colors[min(i, len(colors) - 1)] for i in range(3)]),
            "scale": np.broadcast_to(np.asarray(scale, float), (2,)),
            "aux": aux, "contrast": contrast, "gloss": gloss, "emission": emission,
        }  # fmt: skip

    def shade(self, color, amount=18):
        """A colour jittered a little."""
        color = np.asarray(color, float) + self.rng.normal(0, amount / 2, 3)
        return np.clip(color + self.rng.normal(0, amount), 8, 250)

    def pick(self, palette):
        """A jittered colour of a palette."""
        color = np.asarray(palette[self.rng.integers(len(palette))], float)
        return self.shade(0.85 * color + 0.15 * color.mean(), 14)  # real things are duller

    def wood(self, color=None, plank=(2.4, 0.16), gloss=0.06) -> dict:
        """Wood with planks of (length, width) metres."""
        color = self.shade(self.timber if color is None else color, 5)
        dark = np.asarray(color) * self.rng.uniform(0.45, 0.65)
        return self.material(Pattern.WOOD, [dark, color], plank, -1.0, 0.9, gloss)

    def plain(self, color, contrast=0.6, wavelength=0.25, spread=0.75, gloss=0.03) -> dict:
        """Mottled paint, cloth or leaf."""
        color = np.asarray(color)
        return self.material(Pattern.NOISE, [color * spread, color], wavelength, 0, contrast, gloss)

    def design(self, designs: list[dict]) -> dict:
        """A copy of one of the style's materials."""
        row = designs[self.rng.integers(len(designs))]
        return {**row, "colors": row["colors"].copy()}

    def cloth(self, color=None) -> dict:
        """Plaid or mottled cloth."""
        if self.style:
            return self.design(self.style.cloths)
        color = self.pick(CLOTHS) if color is None else color
        if self.rng.random() < 0.5:
            return self.plain(color, 0.9, 0.05, 0.6, 0.0)
        other, third = self.pick(CLOTHS), self.pick(VIVID)
        return self.material(
            Pattern.PLAID, [color, other, third], self.rng.uniform(0.12, 0.3), 0, 0.5
        )

    def print(self, text=0.012) -> dict:
        """A poster, magazine or box label; `text` is the letters' height in metres."""
        if self.style:
            return self.design(self.style.prints)
        ground = self.pick(((236, 230, 214), (40, 44, 60), (214, 180, 120), (160, 190, 190)))
        colors = [ground, self.pick(VIVID), self.pick(VIVID)]
        return self.material(Pattern.PRINT, colors, 1.0, text, 0.5, 0.04)

    def rug(self) -> dict:
        """A kilim."""
        if self.style:
            return self.design(self.style.rugs)
        colors = [self.pick(CLOTHS), self.pick(CLOTHS), self.pick(((220, 200, 160), (40, 40, 60)))]
        return self.material(Pattern.KILIM, colors, self.rng.uniform(0.018, 0.028), 0, 0.5)

    def picture(self) -> dict:
        """A landscape painting."""
        if self.style:
            return self.design(self.style.pictures)
        skies = ((120, 160, 205), (226, 170, 120), (150, 170, 170))
        lands = ((70, 92, 50), (110, 84, 56), (58, 76, 96))
        colors = [self.pick(skies), self.pick(((240, 220, 190), (200, 220, 235))), self.pick(lands)]
        return self.material(Pattern.PICTURE, colors, 0.3, 0, 0.6, 0.05)

    # small things; (x, y, z) is the point that they stand on

    def book(self, x, y, z, thick, height, depth, lean=0.0) -> None:
        """A standing book, its spine towards +y. Its shadow would fall on books: not worth it."""
        color = self.pick(VIVID)
        light = np.mean(color) > 120
        colors = [color, self.pick(VIVID), (30, 28, 30) if light else (230, 214, 170)]
        material = self.material(Pattern.SPINE, colors, 0.1, 0, 0.5, 0.03)
        self.box((x, y, z + height / 2), (thick, depth, height), material, pitch=lean,
                 shadow=False)  # fmt: skip

    def book_row(self, x0, x1, y, z, room_above, depth) -> None:
        """Books from x0 to x1, sometimes ending in a leaning one or a small pile."""
        x = x0
        stop = x1 - self.rng.uniform(0.0, 0.25) * (x1 - x0)
        while True:
            thick = self.rng.uniform(0.02, 0.055)
            if x + thick > stop:
                break
            height = room_above * self.rng.uniform(0.62, 0.92)
            d = depth * self.rng.uniform(0.65, 0.9)
            self.book(x + thick / 2, y - depth / 2 + d / 2, z, thick - 0.002, height, d)
            x += thick + (0.0 if self.rng.random() < 0.9 else 0.03)
        if x1 - x > 0.16:
            self.trinket((x + x1) / 2, y, z, min(room_above * 0.8, 0.2))

    def book_pile(self, x, y, z, count=3) -> None:
        """Books lying on each other, a print on the top one."""
        for _ in range(count):
            w, d, t = self.rng.uniform((0.14, 0.19, 0.015), (0.2, 0.27, 0.04))
            self.box((x, y, z + t / 2), (w, d, t), self.print(0.009), yaw=self.rng.normal(0, 0.25))
            z += t

    def trinket(self, x, y, z, height) -> None:
        """A vase, a ball, a mug or a small box."""
        kind = self.rng.integers(4)
        color = self.pick(VIVID)
        if kind == 0:
            r = height * self.rng.uniform(0.22, 0.3)
            glaze = self.material(
                Pattern.WALLPAPER, [color, self.shade(color, 30), self.pick(VIVID)],
                (0.05, 0.05), self.rng.integers(3), 0.7, 0.25,
            )  # fmt: skip
            self.cone((x, y, z), r * 0.7, r, height * 0.6, glaze)
            self.cone((x, y, z + height * 0.6), r, r * 0.45, height * 0.4, glaze)
        elif kind == 1:
            r = height * 0.45
            self.ellipsoid((x, y, z + r), (r, r, r), self.plain(color, 1.0, 0.05, 0.4, 0.3))
        elif kind == 2:
            h = min(height, 0.11)
            glaze = self.material(
                Pattern.WALLPAPER,
                [color, color, self.pick(VIVID)],
                (0.04, 0.04),
                self.rng.integers(3),
                0.3,
                0.25,
            )
            self.cone((x, y, z), 0.036, 0.042, h, glaze)
        else:
            h = height * 0.7
            self.box((x, y, z + h / 2), (h * 0.9, h * 0.8, h), self.print(0.008),
                     yaw=self.rng.uniform(-0.5, 0.5))  # fmt: skip

    def lamp(self, x, y, z, height, radius) -> None:
        """A table or floor lamp: foot, pole and a glowing shade."""
        metal = self.plain((70, 66, 60), 0.3, 0.1, 0.8, 0.3)
        self.cone((x, y, z), radius * 0.6, radius * 0.5, 0.025, metal)
        self.cone((x, y, z), 0.012, 0.012, height, metal)
        color = self.pick(((236, 214, 176), (226, 190, 150)))
        glow = self.material(
            Pattern.WALLPAPER, [color, self.shade(color, 8), self.pick(CLOTHS)],
            (radius * 0.5, radius * 0.5), self.rng.integers(3), 0.3, 0, 1.0,
        )  # fmt: skip
        self.cone((x, y, z + height * 0.8), radius, radius * 0.6, height * 0.2 + 0.1, glow,
                  shadow=False)  # fmt: skip

    def plant(self, x, y, z, height) -> None:
        """A pot with leaves."""
        r = height * 0.17
        pot = self.material(
            Pattern.TILES, [self.pick(((170, 96, 66), (210, 204, 196), (60, 90, 110)))] * 2
            + [(90, 60, 40)], (0.12, 0.05), 0.5, 0.6, 0.1,
        )  # fmt: skip
        self.cone((x, y, z), r * 0.75, r, height * 0.28, pot)
        green = self.pick(((52, 92, 40), (74, 110, 52), (40, 84, 58)))
        for _ in range(13):
            yaw = self.rng.uniform(0, 2 * np.pi)
            tilt = self.rng.uniform(-1.3, -0.25)
            length = height * self.rng.uniform(0.16, 0.27)
            out = r * 0.3 + length * np.cos(tilt) * 0.9
            rise = height * self.rng.uniform(0.3, 0.55) + length * np.sin(-tilt)
            leaf = self.plain(self.shade(green, 12), 1.0, 0.04, 0.45, 0.08)
            self.ellipsoid(
                (x + out * np.cos(yaw), y + out * np.sin(yaw), z + rise),
                (length, length * 0.36, length * 0.10), leaf, yaw=yaw, pitch=tilt,
            )  # fmt: skip

    # furniture against a wall; returns nothing, fits in width x depth

    def shelf(self, width, depth=0.3, height=None) -> None:
        """A bookcase full of books."""
        height = self.rng.uniform(1.5, 2.0) if height is None else height
        wood = self.wood(plank=(2.4, 0.4))
        t = 0.022
        back = self.wood(plank=(2.4, 0.25))
        self.box((0, 0.01, height / 2), (width, 0.012, height), back)
        for s in (-1, 1):
            self.box((s * (width - t) / 2, depth / 2, height / 2), (t, depth, height), wood)
        levels = max(2, round(height / 0.38))
        pitch = (height - 0.08) / levels
        for k in range(levels + 1):
            z = 0.06 + k * pitch
            self.box((0, depth / 2, z), (width - 2 * t, depth, t), wood)
            if k < levels:
                x0, x1 = -width / 2 + t + 0.01, width / 2 - t - 0.01
                self.book_row(x0, x1, depth / 2 + 0.02, z + t / 2, pitch - t, depth - 0.06)
        if self.rng.random() < 0.6:
            self.trinket(0.1, depth / 2, height, 0.25)

    def dresser(self, width, depth=0.45, height=None) -> None:
        """A chest of drawers with things on it."""
        height = self.rng.uniform(0.7, 0.95) if height is None else height
        wood, front = self.wood(plank=(2.4, 0.5)), self.wood(plank=(2.4, 0.3))
        self.box((0, depth / 2, height / 2 + 0.03), (width, depth, height - 0.06), wood)
        self.box((0, depth / 2, height - 0.012), (width + 0.03, depth + 0.02, 0.024), wood)
        rows, columns = 3, max(1, round(width / 0.55))
        metal = self.plain((120, 112, 96), 0.4, 0.05, 0.7, 0.5)
        for i in range(rows):
            for j in range(columns):
                w, h = width / columns, (height - 0.12) / rows
                x, z = -width / 2 + (j + 0.5) * w, 0.08 + (i + 0.5) * h
                self.box((x, depth + 0.006, z), (w - 0.02, 0.014, h - 0.02), front)
                self.box((x, depth + 0.025, z), (0.1, 0.025, 0.014), metal)
        self.clutter(width * 0.9, depth * 0.7, 0, depth / 2, height, 4)

    def clutter(self, width, depth, x, y, z, count) -> None:
        """Small things on a surface, in a row with jitter."""
        for k in range(count):
            px = x - width / 2 + (k + self.rng.uniform(0.3, 0.7)) * width / count
            py = y + self.rng.uniform(-0.5, 0.5) * depth * 0.5
            kind = self.rng.integers(5)
            if kind == 0:
                self.lamp(px, py, z, 0.38, 0.13)
            elif kind == 1:
                self.book_pile(px, py, z, int(self.rng.integers(2, 5)))
            elif kind == 2:
                self.frame_on_table(px, py, z)
            else:
                self.trinket(px, py, z, self.rng.uniform(0.14, 0.28))

    def frame_on_table(self, x, y, z) -> None:
        """A small leaning picture."""
        w, h = self.rng.uniform((0.13, 0.16), (0.2, 0.24))
        yaw = self.rng.uniform(-0.3, 0.3)
        self.box((x, y, z + h / 2), (w, 0.015, h), self.wood(), yaw=yaw, roll=0.12)
        n = 0.008 * np.array([-np.sin(yaw), np.cos(yaw), 0])
        self.box(np.array([x, y, z + h / 2]) + n, (w * 0.84, 0.006, h * 0.84), self.picture(),
                 yaw=yaw, roll=0.12)  # fmt: skip

    def desk(self, width, depth=0.65) -> None:
        """A desk with a monitor, a keyboard and papers."""
        wood, metal = self.wood(plank=(2.4, 0.5)), self.plain((60, 62, 66), 0.3, 0.1, 0.8, 0.3)
        self.box((0, depth / 2, 0.735), (width, depth, 0.03), wood)
        for sx in (-1, 1):
            for sy in (0.06, depth - 0.06):
                self.box((sx * (width / 2 - 0.05), sy, 0.36), (0.045, 0.045, 0.72), metal)
        w = 0.55
        self.box((0, 0.2, 0.75 + 0.3), (w, 0.03, 0.34), metal)
        screen = self.print(0.01)
        screen["emission"] = 0.5
        self.box((0, 0.217, 0.75 + 0.3), (w - 0.03, 0.006, 0.31), screen)
        self.box((0, 0.2, 0.75 + 0.07), (0.05, 0.03, 0.14), metal)
        self.box((0, 0.21, 0.756), (0.22, 0.16, 0.012), metal)
        keys = self.material(Pattern.TILES, [(36, 38, 42), (60, 62, 66), (14, 14, 16)], 0.019, 0.5)
        self.box((0.0, 0.45, 0.76), (0.42, 0.13, 0.02), keys)
        for sx in (-1, 1):
            self.box((sx * width * 0.33, 0.42, 0.752), (0.21, 0.297, 0.003), self.print(0.006),
                     yaw=self.rng.normal(0, 0.3))  # fmt: skip
        self.clutter(width * 0.25, 0.2, width * 0.36, 0.16, 0.75, 1)
        self.clutter(width * 0.25, 0.2, -width * 0.36, 0.16, 0.75, 1)
        self.chair(0.05, depth + 0.22, np.pi + self.rng.normal(0, 0.3))

    def chair(self, x, y, yaw) -> None:
        """A chair at (x, y); its seat looks along its own +y."""
        frame = self.frame.copy()
        c, s = np.cos(yaw), np.sin(yaw)
        turn = np.eye(4)
        turn[:2, :2] = [[c, -s], [s, c]]
        turn[:2, 3] = x, y
        self.frame = frame @ turn
        wood, seat = self.wood(plank=(2.4, 0.3)), self.cloth()
        for sx in (-1, 1):
            for sy in (-1, 1):
                self.box((sx * 0.18, sy * 0.18, 0.22), (0.035, 0.035, 0.44), wood)
            self.box((sx * 0.18, -0.19, 0.66), (0.035, 0.03, 0.44), wood)
        self.box((0, 0, 0.455), (0.42, 0.42, 0.05), seat)
        self.box((0, -0.19, 0.78), (0.36, 0.022, 0.16), wood)
        self.box((0, -0.19, 0.60), (0.36, 0.018, 0.06), wood)
        self.frame = frame

    def sofa(self, width, depth=0.85) -> None:
        """A sofa with cushions."""
        cloth = self.cloth()
        arm = 0.17
        self.box((0, depth / 2, 0.16), (width, depth, 0.22), cloth)
        self.box((0, 0.12, 0.5), (width, 0.22, 0.56), cloth, roll=-0.06)
        for s in (-1, 1):
            self.box((s * (width - arm) / 2, depth / 2, 0.34), (arm, depth, 0.50), cloth)
        seats = max(2, round((width - 2 * arm) / 0.65))
        w = (width - 2 * arm) / seats
        for k in range(seats):
            x = -width / 2 + arm + (k + 0.5) * w
            self.box((x, depth / 2 + 0.09, 0.34), (w - 0.015, depth - 0.24, 0.15), cloth)
            if self.rng.random() < 0.8:
                self.box((x + self.rng.normal(0, 0.06), 0.34, 0.58), (0.42, 0.12, 0.40),
                         self.pillow(), roll=0.35, yaw=self.rng.normal(0, 0.15),
                         pitch=self.rng.normal(0, 0.1))  # fmt: skip

    def pillow(self) -> dict:
        """The cloth of a decorated cushion."""
        if self.rng.random() < 0.5:
            colors = [self.pick(VIVID), self.pick(CLOTHS), self.pick(VIVID)]
            return self.material(Pattern.KILIM, colors, 0.022, 0, 0.5)
        return self.cloth()

    def bed(self, width, depth=2.0) -> None:
        """A bed, its head at the wall."""
        wood = self.wood()
        self.box((0, 0.03, 0.5), (width, 0.05, 1.0), wood)
        self.box((0, depth / 2, 0.2), (width, depth, 0.22), wood)
        self.box((0, depth / 2 + 0.02, 0.38), (width - 0.06, depth - 0.08, 0.16), self.cloth())
        colors = [self.pick(CLOTHS), self.pick(((206, 190, 160), (60, 60, 80))), self.pick(CLOTHS)]
        quilt = self.material(Pattern.KILIM, colors, 0.03, 0, 0.5)
        self.box((0, depth * 0.66, 0.45), (width, depth * 0.68, 0.09), quilt)
        for s in (-1, 1):
            self.box((s * width * 0.25, 0.32, 0.52), (width * 0.42, 0.4, 0.13), self.pillow(),
                     roll=0.25, yaw=self.rng.normal(0, 0.1))  # fmt: skip

    def wardrobe(self, width, depth=0.55) -> None:
        """A tall wardrobe with panelled doors."""
        height = 1.95
        wood, panel = self.wood(plank=(2.4, 0.6)), self.wood(plank=(2.4, 0.12))
        self.box((0, depth / 2, height / 2), (width, depth, height), wood)
        doors = max(2, round(width / 0.5))
        w = width / doors
        metal = self.plain((150, 140, 110), 0.3, 0.05, 0.7, 0.5)
        for k in range(doors):
            x = -width / 2 + (k + 0.5) * w
            self.box((x, depth + 0.008, height / 2), (w - 0.02, 0.018, height - 0.1), wood)
            for z, h in ((height * 0.28, 0.75), (height * 0.72, 0.75)):
                self.box((x, depth + 0.02, z), (w - 0.16, 0.012, h), panel)
            side = 1 if k % 2 == 0 else -1
            self.box((x + side * (w / 2 - 0.05), depth + 0.03, 1.0), (0.014, 0.02, 0.14), metal)
        self.box((0.1, depth / 2, height + 0.13), (0.5, 0.35, 0.26), self.print(0.02))

    def cardboard(self, width, depth=0.4) -> None:
        """Stacked boxes."""
        z = 0.0
        for k in range(int(self.rng.integers(2, 4))):
            w, h = min(width, 0.5) * (1 - 0.12 * k), self.rng.uniform(0.22, 0.36)
            label = self.print(0.02)
            label["colors"][0] = linear(self.shade((176, 138, 98), 8))
            self.box((self.rng.normal(0, 0.02), depth / 2, z + h / 2), (w, depth * 0.9, h), label,
                     yaw=self.rng.normal(0, 0.12))  # fmt: skip
            z += h

    def standing_plant(self, width, depth=0.5) -> None:
        """A plant on the floor."""
        self.plant(0, depth / 2 + 0.05, 0, self.rng.uniform(0.9, 1.25))

    def floor_lamp(self, width, depth=0.4) -> None:
        """A lamp on the floor."""
        self.lamp(0, depth / 2 + 0.05, 0, 1.45, 0.2)

    def basket(self, width, depth=0.45) -> None:
        """A woven basket with balls of wool."""
        weave = self.material(
            Pattern.TILES, [(120, 84, 50), (186, 146, 96), (60, 40, 26)], (0.05, 0.018), 0.5, 0.8
        )
        self.cone((0, depth / 2 + 0.03, 0), 0.16, 0.2, 0.3, weave)
        for k in range(3):
            a = 2.1 * k
            self.ellipsoid((0.08 * np.cos(a), depth / 2 + 0.03 + 0.08 * np.sin(a), 0.3),
                           (0.09, 0.09, 0.08), self.plain(self.pick(VIVID), 1, 0.02))  # fmt: skip

    def sideboard(self, width, depth=0.4) -> None:
        """A low cabinet with open compartments and a row of things on it."""
        wood, inside = self.wood(plank=(2.4, 0.4)), self.wood(plank=(2.4, 0.2))
        self.box((0, 0.01, 0.4), (width, 0.015, 0.6), inside)
        for z in (0.11, 0.4, 0.7):
            self.box((0, depth / 2, z), (width, depth, 0.025), wood)
        columns = max(2, round(width / 0.5))
        for k in range(columns + 1):
            self.box(((k / columns - 0.5) * (width - 0.025), depth / 2, 0.4), (0.025, depth, 0.6),
                     wood)  # fmt: skip
        w = width / columns
        for k in range(columns):
            x = (k + 0.5) * w - width / 2
            if self.rng.random() < 0.6:
                self.book_row(x - w / 2 + 0.03, x + w / 2 - 0.03, depth / 2, 0.4125, 0.27, 0.3)
            else:
                self.trinket(x, depth / 2, 0.4125, 0.2)
            self.box((x, depth / 2, 0.22), (w - 0.06, depth - 0.06, 0.19), self.cloth())
        self.clutter(width * 0.9, depth * 0.7, 0, depth / 2, 0.7125, 3)

    def low_table(self, width, depth) -> None:
        """A coffee table with magazines; origin at its centre."""
        wood = self.wood(plank=(2.4, 0.22))
        self.box((0, 0, 0.41), (width, depth, 0.035), wood)
        self.box((0, 0, 0.15), (width * 0.9, depth * 0.85, 0.02), wood)
        for sx in (-1, 1):
            for sy in (-1, 1):
                self.box((sx * (width / 2 - 0.05), sy * (depth / 2 - 0.05), 0.2),
                         (0.05, 0.05, 0.4), wood)  # fmt: skip
        for k in range(3):
            x = (k - 1) * width * 0.3
            self.box((x, self.rng.uniform(-0.1, 0.1), 0.4305), (0.21, 0.28, 0.005),
                     self.print(0.009), yaw=self.rng.uniform(-0.8, 0.8))  # fmt: skip
        self.trinket(width * 0.18, depth * 0.2, 0.4275, 0.2)
        self.cone((-width * 0.2, depth * 0.22, 0.4275), 0.036, 0.04, 0.09,
                  self.plain(self.pick(VIVID), 0.4, 0.05, 0.7, 0.3))  # fmt: skip
        self.book_pile(0, 0, 0.16, 3)

    def person(self) -> None:
        """Somebody who stands, 1.7 m tall, in patterned clothes; origin between the feet."""
        skin = self.plain(self.pick(((224, 178, 148), (150, 104, 76), (96, 64, 48))), 0.5, 0.05)
        hair = self.plain(self.pick(WOODS), 1.0, 0.03, 0.4)
        trousers, shirt, sleeve = self.cloth(), self.pillow(), self.cloth()
        for s in (-1, 1):
            self.box((s * 0.1, 0, 0.42), (0.16, 0.19, 0.84), trousers, shadow=False)
            self.ellipsoid((s * 0.27, 0.03, 1.1), (0.065, 0.075, 0.33), sleeve, shadow=False)
        self.ellipsoid((0, 0, 0.86), (0.21, 0.15, 0.16), trousers, shadow=False)
        self.box((0, 0, 1.14), (0.4, 0.23, 0.52), shirt, shadow=False)
        self.ellipsoid((0, 0, 1.4), (0.22, 0.13, 0.09), shirt, shadow=False)
        self.ellipsoid((0, 0, 1.58), (0.09, 0.105, 0.13), skin, shadow=False)
        self.ellipsoid((0, -0.02, 1.63), (0.095, 0.1, 0.1), hair, shadow=False)

    # on walls: x along the wall, z up, y off the wall

    def wall_picture(self, x, z, width, height, poster: bool) -> None:
        """A framed painting or a bare poster."""
        if poster:
            self.box((x, 0.004, z), (width, 0.008, height),
                     self.print(self.rng.uniform(0.012, 0.03)))  # fmt: skip
            return
        self.box((x, 0.012, z), (width + 0.07, 0.024, height + 0.07), self.wood(plank=(9, 9)))
        mat = self.plain((226, 220, 208), 0.3, 0.1)
        self.box((x, 0.02, z), (width, 0.018, height), mat)
        art = self.picture() if self.rng.random() < 0.65 else self.print(0.015)
        self.box((x, 0.024, z), (width - 0.1, 0.016, height - 0.1), art)

    def wall_shelf(self, x, z, width) -> None:
        """A board with books and trinkets."""
        self.box((x, 0.1, z), (width, 0.2, 0.022), self.wood())
        self.book_row(x - width / 2 + 0.03, x + width * 0.1, 0.1, z + 0.011, 0.27, 0.18)
        self.trinket(x + width * 0.22, 0.1, z + 0.011, 0.2)
        self.trinket(x + width * 0.38, 0.1, z + 0.011, 0.16)

    def clock(self, x, z) -> None:
        """A round clock, as a disc with a print."""
        face = self.material(
            Pattern.WALLPAPER, [(232, 228, 216), (232, 228, 216), (30, 30, 34)], (0.07, 0.07)
        )
        rim = self.wood()
        self._add("cones", (x, 0.015, z), (0.15, 0.15, 0.015), rim, roll=-np.pi / 2)
        self._add("cones", (x, 0.02, z), (0.13, 0.13, 0.014), face, roll=-np.pi / 2)

    def window(self, x, width, height, sill) -> None:
        """A window with a view, mullions, a sill and curtains."""
        view = self.picture()
        view["emission"] = 0.8
        white = self.plain((226, 224, 218), 0.2, 0.2, 0.92, 0.1)
        z = sill + height / 2
        self.box((x, 0.004, z), (width, 0.012, height), view, shadow=False)
        for s in (-1, 0, 1):
            self.box((x + s * width / 2, 0.02, z), (0.05, 0.05, height + 0.05), white,
                     shadow=False)  # fmt: skip
        for s in (-1, 0.35, 1):
            self.box((x, 0.02, z + s * height / 2), (width, 0.03, 0.05), white,
                     shadow=False)  # fmt: skip
        self.box((x, 0.07, sill - 0.03), (width + 0.16, 0.16, 0.03), white)
        fabric = self.cloth()
        for s in (-1, 1):
            for k in range(3):
                self.box((x + s * (width / 2 + 0.03 + 0.1 * k), 0.09 + 0.02 * (k % 2), z),
                         (0.11, 0.035, height + 0.5), fabric, yaw=0.35 * (-1) ** k)  # fmt: skip
        rod = self.plain((80, 66, 50), 0.2, 0.1, 0.8, 0.3)
        self.box((x, 0.1, z + height / 2 + 0.26), (width + 0.7, 0.025, 0.025), rod)

    def radiator(self, x, width) -> None:
        """A ribbed radiator."""
        white = self.plain((224, 222, 214), 0.25, 0.2, 0.9, 0.1)
        self.box((x, 0.05, 0.4), (width, 0.03, 0.52), white)
        ribs = int(width / 0.07)
        for k in range(ribs):
            self.box((x - width / 2 + (k + 0.5) * width / ribs, 0.085, 0.4), (0.035, 0.05, 0.56),
                     white, shadow=False)  # fmt: skip

    def door(self, x) -> None:
        """A panelled door in its frame."""
        wood = self.wood(plank=(3, 0.9))
        trim = self.wood(plank=(3, 0.3))
        self.box((x, 0.015, 1.0), (0.84, 0.03, 2.0), wood)
        for s in (-1, 1):
            self.box((x + s * 0.46, 0.02, 1.02), (0.08, 0.045, 2.04), trim)
            for z, h in ((0.55, 0.7), (1.45, 0.8)):
                self.box((x + s * 0.19, 0.03, z), (0.28, 0.02, h), self.wood(plank=(3, 0.1)))
        self.box((x, 0.02, 2.07), (1.0, 0.045, 0.08), trim)
        metal = self.plain((170, 150, 100), 0.3, 0.05, 0.7, 0.5)
        self.box((x + 0.35, 0.06, 1.02), (0.12, 0.02, 0.02), metal)

    def doorway(self, x, width, height) -> None:
        """The frame of an open doorway."""
        trim = self.wood(plank=(3, 0.3))
        for s in (-1, 1):
            self.box((x + s * (width / 2 + 0.045), 0.025, height / 2), (0.09, 0.05, height), trim)
        self.box((x, 0.025, height + 0.045), (width + 0.18, 0.05, 0.09), trim)


def make_style(seed: int) -> Style:
    """Designs for rooms that look alike."""
    b = Builder(np.random.default_rng([seed, 3]))
    return Style(
        timbers=b.timbers[:2],
        prints=[b.print(text) for text in (0.012, 0.02, 0.009, 0.015)],
        pictures=[b.picture() for _ in range(3)],
        cloths=[b.cloth() for _ in range(3)],
        shell=_shell(b),
        rugs=[b.rug() for _ in range(2)],
    )


def _pack(parts: list[dict], count: int) -> tuple[Primitives, list[dict]]:
    """Pads a list of parts to `count` rows."""
    used = len(parts)
    center, size = np.full((count, 3), -50.0), np.full((count, 3), 0.01)
    rotation = np.tile(np.eye(3), (count, 1, 1))
    shadow, group = np.zeros(count, bool), np.full(count, -1, np.int32)
    for i, part in enumerate(parts):
        center[i], rotation[i], size[i] = part["center"], part["rotation"], part["size"]
        shadow[i], group[i] = part["casts_shadow"], part["group"]
    primitives = Primitives(
        center=center.astype(np.float32),
        rotation=rotation.astype(np.float32),
        size=size.astype(np.float32),
        casts_shadow=shadow,
        group=group,
        mask=np.arange(count) < used,
    )
    blank = parts[0]["material"] if parts else None
    return primitives, [p["material"] for p in parts] + [blank] * (count - used)


def _shell(b: Builder) -> list[dict]:
    """Materials of -x, +x, -y, +y, floor and ceiling."""
    rng = b.rng
    paint = b.pick(WALLS)
    wall_kinds = []
    for _ in range(4):
        kind = rng.random()
        if kind < 0.55:
            wall_kinds.append(b.plain(b.shade(paint, 4), 0.75, 0.9, 0.8, 0.0))
        elif kind < 0.8:
            tone = b.shade(paint, 4)
            wall_kinds.append(b.material(
                Pattern.WALLPAPER, [tone, tone * 0.93, b.pick(CLOTHS)],
                (rng.uniform(0.12, 0.2),) * 2, rng.integers(3), 0.35,
            ))  # fmt: skip
        else:
            brick = b.pick(((150, 84, 62), (172, 120, 90), (190, 180, 166)))
            wall_kinds.append(b.material(
                Pattern.TILES, [brick * 0.7, brick, (176, 168, 156)], (0.22, 0.075), 0.5, 0.8
            ))  # fmt: skip
    if rng.random() < 0.7:
        floor_material = b.wood(plank=(rng.uniform(0.7, 1.3), rng.uniform(0.09, 0.16)), gloss=0.12)
    else:
        stone = b.pick(((190, 178, 158), (150, 152, 150), (170, 130, 104)))
        floor_material = b.material(
            Pattern.TILES, [stone * 0.8, stone, (110, 104, 98)], rng.uniform(0.28, 0.4), 0, 0.8, 0.1
        )
    ceiling = b.plain((226, 224, 218), 0.5, 1.1, 0.9, 0.0)
    return [*wall_kinds, floor_material, ceiling]


def _baseboards(size, doorways: Sequence[Doorway]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Centres and full sizes of the boards along the walls, which leave the doorways free."""
    for face in (2, 3, 0, 1):
        along, across = (0, 1) if face >= 2 else (1, 0)
        gaps = sorted((d.center - d.width / 2, d.center + d.width / 2)
                      for d in doorways if d.face == face)  # fmt: skip
        edges = [0.0, *(x for gap in gaps for x in gap), size[along]]
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            center, full = np.zeros(3), np.zeros(3)
            center[along], full[along] = (start + stop) / 2, stop - start
            center[across] = size[across] - 0.008 if face % 2 else 0.008
            full[across] = 0.016
            center[2], full[2] = 0.045, 0.09
            yield center, full


def _assemble(b: Builder, size, shell: list[dict], maxima: dict, light: Illumination) -> Room:
    """The room of what the builder has collected, padded to the maxima."""
    assert len(shell) == SHELL_FACES
    boxes, rows_b = _pack(b.parts["boxes"], maxima["boxes"])
    cones, rows_c = _pack(b.parts["cones"], maxima["cones"])
    balls, rows_e = _pack(b.parts["ellipsoids"], maxima["ellipsoids"])
    rows = [row if row is not None else shell[0] for row in shell + rows_b + rows_c + rows_e]
    kinds = {"pattern": np.int32, "seed": np.uint32}
    materials = Materials(**{
        key: np.asarray([row[key] for row in rows], kinds.get(key, np.float32))
        for key in Materials.__dataclass_fields__
    })  # fmt: skip
    return Room(
        size=np.asarray(size, np.float32),
        boxes=boxes,
        cones=cones,
        ellipsoids=balls,
        materials=materials,
        illumination=light,
    )


# name: (builder method, width range, depth kept free in front of the wall)
PIECES = {
    "shelf": (Builder.shelf, (0.8, 1.1), 0.34),
    "dresser": (Builder.dresser, (0.9, 1.4), 0.5),
    "desk": (Builder.desk, (1.2, 1.5), 1.15),
    "sofa": (Builder.sofa, (1.6, 2.0), 0.95),
    "bed": (Builder.bed, (1.3, 1.5), 2.05),
    "wardrobe": (Builder.wardrobe, (1.0, 1.3), 0.62),
    "cardboard": (Builder.cardboard, (0.5, 0.6), 0.45),
    "plant": (Builder.standing_plant, (0.5, 0.6), 0.6),
    "lamp": (Builder.floor_lamp, (0.4, 0.5), 0.5),
    "sideboard": (Builder.sideboard, (1.0, 1.5), 0.45),
    "armchair": (Builder.sofa, (0.95, 1.0), 0.95),
    "basket": (Builder.basket, (0.45, 0.5), 0.5),
}
ORDER = ("sofa", "shelf", "desk", "dresser", "wardrobe", "bed", "shelf", "sideboard", "armchair")
FILLERS = ("plant", "lamp", "cardboard", "plant", "basket")


def _on_wall(doorway: Doorway, walls) -> tuple[int, float]:
    """Number of the doorway's wall in the list `walls` of `make_room`, and metres along it."""
    index = {1: 0, 3: 1, 0: 2, 2: 3}[doorway.face]
    length = walls[index][2]
    return index, doorway.center if index in (0, 3) else length - doorway.center


def _footprint(wall, start, stop, depth) -> tuple[float, float, float, float]:
    """Floor rectangle (x0, x1, y0, y1) of what stands from start to stop along a wall."""
    (ox, oy), yaw, _ = wall
    c, s = round(np.cos(yaw)), round(np.sin(yaw))
    corners = [(ox + c * u - s * v, oy + s * u + c * v) for u in (start, stop) for v in (0, depth)]
    x, y = zip(*corners, strict=True)
    return min(x), max(x), min(y), max(y)


def _overlap(a, b) -> bool:
    return a[0] < b[1] and b[0] < a[1] and a[2] < b[3] and b[2] < a[3]


def make_room(
    seed: int,
    size: tuple[float, float, float] | None = None,
    furniture: float = 1.0,
    decoration: float = 1.0,
    max_boxes: int = MAX_BOXES,
    max_cones: int = MAX_CONES,
    max_ellipsoids: int = MAX_ELLIPSOIDS,
    people: int = 0,
    doorways: Sequence[Doorway] = (),
    style: Style | None = None,
) -> Room:
    """A furnished room.

    Rooms of equal maxima have equal shapes and can be stacked. What does not fit in the maxima is
    left out, except for people: they make the room's shapes larger if need be.

    Args:
        seed: everything follows from it.
        size: (x, y, z) metres; drawn from 3.6-5.4 x 3.2-4.8 x 2.5-2.8 by default.
        furniture: share of the wall's length to furnish, 0-1.
        decoration: how much hangs on the walls, 0-1.
        max_boxes: rows of boxes, used or padded.
        max_cones: rows of cones.
        max_ellipsoids: rows of ellipsoids.
        people: how many stand at the origin, to be moved; the last groups. They cast no shadow.
        doorways: openings to other rooms, instead of a closed door; the way to the middle of the
            room is left free.
        style: designs shared with other rooms.
    """
    rng = np.random.default_rng(seed)
    b = Builder(rng, style)
    drawn = rng.uniform((3.6, 3.2, 2.5), (5.4, 4.8, 2.8))
    size = np.asarray(drawn if size is None else size, float)
    sx, sy, sz = size

    # walls in order of x along them; each with its origin, direction (yaw) and length
    walls = [
        ((sx, 0.0), np.pi / 2, sy),  # +x wall, looking along -x
        ((sx, sy), np.pi, sx),
        ((0.0, sy), -np.pi / 2, sy),
        ((0.0, 0.0), 0.0, sx),
    ]
    free_walls = [int(i) for i in rng.permutation(4)]
    window_wall, door_wall = free_walls[:2]
    openings = [_on_wall(doorway, walls) for doorway in doorways]
    if openings:
        used = {index for index, _ in openings}
        window_wall, door_wall = next(i for i in free_walls if i not in used), None
    ways = [
        _footprint(walls[i], x - d.width / 2, x + d.width / 2, size[d.face // 2] / 2)
        for (i, x), d in zip(openings, doorways, strict=True)
    ]
    wanted = [str(name) for name in rng.permutation(ORDER[1:])]
    if rng.random() < 0.7:
        wanted.insert(0, "sofa")
    else:  # a bedroom: the bed finds its place first
        wanted.sort(key=lambda name: name != "bed")
    if doorways:
        wanted.remove("bed")  # it would fill the way
    fillers = [str(name) for name in rng.permutation(FILLERS)]
    corner = 0.0
    jobs = []  # most important first: what does not fit in the maxima is dropped from the end
    glow = None
    for index, (origin, yaw, length) in enumerate(walls):
        start, end = corner, length
        taken = []
        deepest_last = 0.0
        if index == door_wall:
            x = length - 0.65 - rng.uniform(0.1, 0.4)
            taken.append((x - 0.55, x + 0.55))
            jobs.append((0, index, x, "door", None))
        for (wall, x), doorway in zip(openings, doorways, strict=True):
            if wall == index:
                taken.append((x - doorway.width / 2 - 0.15, x + doorway.width / 2 + 0.15))
                jobs.append((0, index, x, "doorway", doorway))
        window = None
        if index == window_wall:
            width = min(1.5, length * 0.4)
            window = (length * rng.uniform(0.42, 0.58), width, rng.uniform(1.05, 1.25), 0.92)
            jobs.append((0, index, window[0], "window", window))
            c, s = np.cos(yaw), np.sin(yaw)
            glow = np.array([
                origin[0] + c * window[0] - s * 0.25, origin[1] + s * window[0] + c * 0.25, 1.75
            ])  # fmt: skip
        x = start + 0.12
        while x < end - 0.5:
            options = [*wanted, *fillers] if rng.random() < 0.75 else [*fillers, *wanted]
            placed = False
            for name in options:
                _, (low, high), depth = PIECES[name]
                width = rng.uniform(low, high)
                span = (x, x + width)
                hits_door = any(span[0] < t[1] and span[1] > t[0] for t in taken)
                tall = name in ("shelf", "wardrobe", "bed")
                hits_window = window is not None and tall and (
                    abs(x + width / 2 - window[0]) < width / 2 + window[1] / 2 + 0.4
                )  # fmt: skip
                place = _footprint(walls[index], *span, depth)
                in_the_way = any(_overlap(place, way) for way in ways)
                if span[1] > end - 0.1 or hits_door or hits_window or in_the_way:
                    continue
                last = span[1] > end - 0.9
                if (last or index == 3) and depth > 0.9 and span[1] > end - 1.0:
                    continue  # would fill the corner of the next wall
                if rng.random() > furniture:
                    break
                importance = 1 if name not in FILLERS else 2
                jobs.append((importance, index, (span[0] + span[1]) / 2, name, width))
                (wanted if name in wanted else fillers).remove(name)
                x = span[1] + rng.uniform(0.08, 0.3)
                deepest_last = depth
                placed = True
                break
            if not placed:
                x += 0.3
        corner = deepest_last if x > length - 1.2 else 0.0
        # decoration above the furniture
        height = rng.uniform(1.45, 1.65)
        x = 0.45
        while x < length - 0.4:
            w, h = rng.uniform((0.35, 0.4), (0.75, 0.8))
            clear = window is None or abs(x + w / 2 - window[0]) > window[1] / 2 + w / 2 + 0.4
            clear = clear and not any(x < t[1] and x + w > t[0] for t in taken)
            if clear and rng.random() < decoration:
                jobs.append((3, index, x + w / 2, "wall", (height, w, h)))
            x += w + rng.uniform(0.15, 0.45)

    # the pieces, most important first
    # what every room has comes first
    b.place((0, 0, 0), 0.0, movable=False)
    white = b.plain((222, 216, 204), 0.3, 0.2, 0.9, 0.05)
    for center, full in _baseboards(size, doorways):
        b.box(center, full, white)
    glass = b.plain((246, 236, 214), 0.2, 0.2, 0.95)
    glass["emission"] = 2.0
    b.cone((sx / 2, sy / 2, sz - 0.09), 0.2, 0.24, 0.09, glass, shadow=False)
    b.place((0.5 * sx, 0.5 * sy, 0), rng.uniform(-0.3, 0.3))
    rug = b.rug()
    b.box((0, 0, 0.006), (min(2.3, sx * 0.5), min(1.7, sy * 0.45), 0.012), rug)
    if not doorways:
        b.low_table(0.95, 0.55)

    maxima = {"boxes": max_boxes, "cones": max_cones, "ellipsoids": max_ellipsoids}
    tall_spans: dict[int, list[tuple[float, float]]] = {i: [] for i in range(4)}
    for _, index, x, name, extra in sorted(jobs, key=lambda j: j[0]):
        before = b.counts()
        (ox, oy), yaw, length = walls[index]
        c, s = np.cos(yaw), np.sin(yaw)
        if name in PIECES:
            build, _, depth = PIECES[name]
            b.place((ox + c * x - s * 0.03, oy + s * x + c * 0.03, 0), yaw)
            build(b, extra)
            if b.fits(maxima, before) and name in ("shelf", "wardrobe", "lamp", "plant", "bed"):
                tall_spans[index].append((x - extra / 2, x + extra / 2))
            continue
        b.place((ox, oy, 0), yaw, movable=False)
        if name == "door":
            b.door(x)
        elif name == "doorway":
            b.doorway(x, extra.width, extra.height)
        elif name == "window":
            b.window(*extra)
            if rng.random() < 0.7:
                b.radiator(x, extra[1] * 0.8)
        else:
            z, w, h = extra
            if any(x - w / 2 < t[1] and x + w / 2 > t[0] for t in tall_spans[index]):
                continue
            kind = rng.random()
            if kind < 0.12:
                b.clock(x, z + 0.2)
            elif kind < 0.3:
                b.wall_shelf(x, z, w + 0.15)
            else:
                b.wall_picture(x, z, w, h, poster=kind < 0.62)
        b.fits(maxima, before)
    shell = (
        _shell(b)
        if style is None
        else [{**row, "seed": int(rng.integers(1 << 31))} for row in style.shell]
    )
    for _ in range(people):
        b.place((0, 0, 0), 0.0)
        b.person()
    if people:  # nobody is left out
        maxima = {kind: max(most, len(b.parts[kind])) for kind, most in maxima.items()}
    lamp = np.array([sx / 2, sy / 2, sz - 0.2])
    light = Illumination(
        position=np.stack([glow, lamp]).astype(np.float32),
        color=np.array([[2.9, 3.1, 3.4], [3.1, 2.7, 2.2]], np.float32) * 1.3,
        radius=np.array([0.6, 0.18], np.float32),
        ambient=np.array([0.42, 0.42, 0.44], np.float32),
        exposure=np.float32(1.35),
    )
    return _assemble(b, size, shell, maxima, light)


def make_corridor(
    seed: int, length: float, width: float, doorways: Sequence[Doorway], style: Style
) -> Room:
    """A corridor along x: the same doors, posters and lamps again and again, windows at the ends.

    Args:
        seed: everything else follows from it.
        length: metres.
        width: metres.
        doorways: openings to rooms on either side.
        style: designs of what hangs there and of the walls.
    """
    rng = np.random.default_rng([seed, 4])
    b = Builder(rng, style)
    size = np.array([length, width, 2.6])
    b.place((0, 0, 0), 0.0, movable=False)
    white = b.plain((222, 216, 204), 0.3, 0.2, 0.9, 0.05)
    for center, full in _baseboards(size, doorways):
        b.box(center, full, white)
    glass = b.plain((246, 236, 214), 0.2, 0.2, 0.95)
    glass["emission"] = 2.0
    for x in np.arange(1.4, length - 0.5, 2.8):
        b.cone((x, width / 2, 2.51), 0.2, 0.24, 0.09, glass, shadow=False)
    for face, origin, yaw in ((2, (0, 0, 0), 0.0), (3, (length, width, 0), np.pi)):
        used = [d.center if face == 2 else length - d.center for d in doorways if d.face == face]
        b.place(origin, yaw, movable=False)
        for doorway, x in zip([d for d in doorways if d.face == face], used, strict=True):
            b.doorway(x, doorway.width, doorway.height)
        for k, x in enumerate(np.arange(0.7, length - 0.5, 0.93)):
            if any(abs(x - other) < 1.0 for other in used):
                continue
            if k % 3 == 0:
                b.door(x)
            elif k % 6 < 3:
                b.wall_picture(x, 1.45, 0.42, 0.6, poster=k % 2 == 0)
            elif k % 6 == 4:
                b.radiator(x, 0.55)
                b.wall_picture(x, 1.6, 0.5, 0.35, poster=True)
            else:
                b.wall_picture(x, 1.4, 0.6, 0.42, poster=True)
    for origin, yaw in (((0, width, 0), -np.pi / 2), ((length, 0, 0), np.pi / 2)):
        b.place(origin, yaw, movable=False)
        b.window(width / 2, 0.8, 1.2, 0.95)
        b.place(origin, yaw)
        b.frame[:3, 3] += b.frame[:3, :3] @ (0.45, 0.03, 0)
        b.standing_plant(0.5)
    maxima = {"boxes": MAX_BOXES, "cones": MAX_CONES, "ellipsoids": MAX_ELLIPSOIDS}
    shell = [{**row, "seed": int(rng.integers(1 << 31))} for row in style.shell]
    light = Illumination(
        position=np.array([[f * length, width / 2, 2.35] for f in (0.25, 0.75)], np.float32),
        color=np.array([[3.1, 2.8, 2.4]] * 2, np.float32) * 2.0,
        radius=np.array([0.25, 0.25], np.float32),
        ambient=np.array([0.52, 0.51, 0.50], np.float32),
        exposure=np.float32(1.35),
    )
    return _assemble(b, size, shell, maxima, light)
