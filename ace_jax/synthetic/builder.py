"""Collects the primitives of a room and their materials, piece by piece. Host code (NumPy).

A piece is built in its own frame: origin on the floor in the middle of the back side, x along the
wall, y into the room, z up.
"""

import dataclasses

import numpy as np

from ace_jax.synthetic.room import Pattern

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

    def add(self, kind, center, size, material, yaw=0.0, pitch=0.0, roll=0.0, shadow=True) -> None:
        """A primitive with its semi-axes `size`, turned by yaw, then pitch, then roll."""
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
        self.add("boxes", center, np.asarray(full_size, float) / 2, material, **kw)

    def cone(self, bottom, r_bottom, r_top, height, material, **kw) -> None:
        """A truncated cone standing with its bottom's centre at `bottom`."""
        x, y, z = bottom
        self.add("cones", (x, y, z + height / 2), (r_bottom, r_top, height / 2), material, **kw)

    def ellipsoid(self, center, semi_axes, material, **kw) -> None:
        """An ellipsoid."""
        self.add("ellipsoids", center, semi_axes, material, **kw)

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

    def wood(self, plank=(2.4, 0.16), gloss=0.06) -> dict:
        """Wood with planks of (length, width) metres."""
        color = self.shade(self.timber, 5)
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

    def cloth(self) -> dict:
        """Plaid or mottled cloth."""
        if self.style:
            return self.design(self.style.cloths)
        color = self.pick(CLOTHS)
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
