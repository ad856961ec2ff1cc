"""Pieces of furniture; those that stand against a wall fit in width x depth.

A piece has its own frame: origin on the floor in the middle of its back, x along the wall, y into
the room, z up.
"""

import numpy as np

from ace_jax.synthetic.builder import CLOTHS, VIVID, WOODS, Builder, linear
from ace_jax.synthetic.room import Pattern
from ace_jax.synthetic.small_things import book_pile, book_row, lamp, plant, trinket


def shelf(b: Builder, width, depth=0.3, height=None) -> None:
    """A bookcase full of books."""
    height = b.rng.uniform(1.5, 2.0) if height is None else height
    wood = b.wood(plank=(2.4, 0.4))
    t = 0.022
    back = b.wood(plank=(2.4, 0.25))
    b.box((0, 0.01, height / 2), (width, 0.012, height), back)
    for s in (-1, 1):
        b.box((s * (width - t) / 2, depth / 2, height / 2), (t, depth, height), wood)
    levels = max(2, round(height / 0.38))
    pitch = (height - 0.08) / levels
    for k in range(levels + 1):
        z = 0.06 + k * pitch
        b.box((0, depth / 2, z), (width - 2 * t, depth, t), wood)
        if k < levels:
            x0, x1 = -width / 2 + t + 0.01, width / 2 - t - 0.01
            book_row(b, x0, x1, depth / 2 + 0.02, z + t / 2, pitch - t, depth - 0.06)
    if b.rng.random() < 0.6:
        trinket(b, 0.1, depth / 2, height, 0.25)


def dresser(b: Builder, width, depth=0.45, height=None) -> None:
    """A chest of drawers with things on it."""
    height = b.rng.uniform(0.7, 0.95) if height is None else height
    wood, front = b.wood(plank=(2.4, 0.5)), b.wood(plank=(2.4, 0.3))
    b.box((0, depth / 2, height / 2 + 0.03), (width, depth, height - 0.06), wood)
    b.box((0, depth / 2, height - 0.012), (width + 0.03, depth + 0.02, 0.024), wood)
    rows, columns = 3, max(1, round(width / 0.55))
    metal = b.plain((120, 112, 96), 0.4, 0.05, 0.7, 0.5)
    for i in range(rows):
        for j in range(columns):
            w, h = width / columns, (height - 0.12) / rows
            x, z = -width / 2 + (j + 0.5) * w, 0.08 + (i + 0.5) * h
            b.box((x, depth + 0.006, z), (w - 0.02, 0.014, h - 0.02), front)
            b.box((x, depth + 0.025, z), (0.1, 0.025, 0.014), metal)
    clutter(b, width * 0.9, depth * 0.7, 0, depth / 2, height, 4)


def clutter(b: Builder, width, depth, x, y, z, count) -> None:
    """Small things on a surface, in a row with jitter."""
    for k in range(count):
        px = x - width / 2 + (k + b.rng.uniform(0.3, 0.7)) * width / count
        py = y + b.rng.uniform(-0.5, 0.5) * depth * 0.5
        kind = b.rng.integers(5)
        if kind == 0:
            lamp(b, px, py, z, 0.38, 0.13)
        elif kind == 1:
            book_pile(b, px, py, z, int(b.rng.integers(2, 5)))
        elif kind == 2:
            frame_on_table(b, px, py, z)
        else:
            trinket(b, px, py, z, b.rng.uniform(0.14, 0.28))


def frame_on_table(b: Builder, x, y, z) -> None:
    """A small leaning picture."""
    w, h = b.rng.uniform((0.13, 0.16), (0.2, 0.24))
    yaw = b.rng.uniform(-0.3, 0.3)
    b.box((x, y, z + h / 2), (w, 0.015, h), b.wood(), yaw=yaw, roll=0.12)
    n = 0.008 * np.array([-np.sin(yaw), np.cos(yaw), 0])
    b.box(
        np.array([x, y, z + h / 2]) + n,
        (w * 0.84, 0.006, h * 0.84),
        b.picture(),
        yaw=yaw,
        roll=0.12,
    )


def desk(b: Builder, width, depth=0.65) -> None:
    """A desk with a monitor, a keyboard and papers."""
    wood, metal = b.wood(plank=(2.4, 0.5)), b.plain((60, 62, 66), 0.3, 0.1, 0.8, 0.3)
    b.box((0, depth / 2, 0.735), (width, depth, 0.03), wood)
    for sx in (-1, 1):
        for sy in (0.06, depth - 0.06):
            b.box((sx * (width / 2 - 0.05), sy, 0.36), (0.045, 0.045, 0.72), metal)
    w = 0.55
    b.box((0, 0.2, 0.75 + 0.3), (w, 0.03, 0.34), metal)
    screen = b.print(0.01)
    screen["emission"] = 0.5
    b.box((0, 0.217, 0.75 + 0.3), (w - 0.03, 0.006, 0.31), screen)
    b.box((0, 0.2, 0.75 + 0.07), (0.05, 0.03, 0.14), metal)
    b.box((0, 0.21, 0.756), (0.22, 0.16, 0.012), metal)
    keys = b.material(Pattern.TILES, [(36, 38, 42), (60, 62, 66), (14, 14, 16)], 0.019, 0.5)
    b.box((0.0, 0.45, 0.76), (0.42, 0.13, 0.02), keys)
    for sx in (-1, 1):
        b.box(
            (sx * width * 0.33, 0.42, 0.752),
            (0.21, 0.297, 0.003),
            b.print(0.006),
            yaw=b.rng.normal(0, 0.3),
        )
    clutter(b, width * 0.25, 0.2, width * 0.36, 0.16, 0.75, 1)
    clutter(b, width * 0.25, 0.2, -width * 0.36, 0.16, 0.75, 1)
    chair(b, 0.05, depth + 0.22, np.pi + b.rng.normal(0, 0.3))


def chair(b: Builder, x, y, yaw) -> None:
    """A chair at (x, y); its seat looks along its own +y."""
    frame = b.frame.copy()
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.eye(4)
    turn[:2, :2] = [[c, -s], [s, c]]
    turn[:2, 3] = x, y
    b.frame = frame @ turn
    wood, seat = b.wood(plank=(2.4, 0.3)), b.cloth()
    for sx in (-1, 1):
        for sy in (-1, 1):
            b.box((sx * 0.18, sy * 0.18, 0.22), (0.035, 0.035, 0.44), wood)
        b.box((sx * 0.18, -0.19, 0.66), (0.035, 0.03, 0.44), wood)
    b.box((0, 0, 0.455), (0.42, 0.42, 0.05), seat)
    b.box((0, -0.19, 0.78), (0.36, 0.022, 0.16), wood)
    b.box((0, -0.19, 0.60), (0.36, 0.018, 0.06), wood)
    b.frame = frame


def sofa(b: Builder, width, depth=0.85) -> None:
    """A sofa with cushions."""
    cloth = b.cloth()
    arm = 0.17
    b.box((0, depth / 2, 0.16), (width, depth, 0.22), cloth)
    b.box((0, 0.12, 0.5), (width, 0.22, 0.56), cloth, roll=-0.06)
    for s in (-1, 1):
        b.box((s * (width - arm) / 2, depth / 2, 0.34), (arm, depth, 0.50), cloth)
    seats = max(2, round((width - 2 * arm) / 0.65))
    w = (width - 2 * arm) / seats
    for k in range(seats):
        x = -width / 2 + arm + (k + 0.5) * w
        b.box((x, depth / 2 + 0.09, 0.34), (w - 0.015, depth - 0.24, 0.15), cloth)
        if b.rng.random() < 0.8:
            b.box(
                (x + b.rng.normal(0, 0.06), 0.34, 0.58),
                (0.42, 0.12, 0.40),
                pillow(b),
                roll=0.35,
                yaw=b.rng.normal(0, 0.15),
                pitch=b.rng.normal(0, 0.1),
            )


def pillow(b: Builder) -> dict:
    """The cloth of a decorated cushion."""
    if b.rng.random() < 0.5:
        colors = [b.pick(VIVID), b.pick(CLOTHS), b.pick(VIVID)]
        return b.material(Pattern.KILIM, colors, 0.022, 0, 0.5)
    return b.cloth()


def bed(b: Builder, width, depth=2.0) -> None:
    """A bed, its head at the wall."""
    wood = b.wood()
    b.box((0, 0.03, 0.5), (width, 0.05, 1.0), wood)
    b.box((0, depth / 2, 0.2), (width, depth, 0.22), wood)
    b.box((0, depth / 2 + 0.02, 0.38), (width - 0.06, depth - 0.08, 0.16), b.cloth())
    colors = [b.pick(CLOTHS), b.pick(((206, 190, 160), (60, 60, 80))), b.pick(CLOTHS)]
    quilt = b.material(Pattern.KILIM, colors, 0.03, 0, 0.5)
    b.box((0, depth * 0.66, 0.45), (width, depth * 0.68, 0.09), quilt)
    for s in (-1, 1):
        b.box(
            (s * width * 0.25, 0.32, 0.52),
            (width * 0.42, 0.4, 0.13),
            pillow(b),
            roll=0.25,
            yaw=b.rng.normal(0, 0.1),
        )


def wardrobe(b: Builder, width, depth=0.55) -> None:
    """A tall wardrobe with panelled doors."""
    height = 1.95
    wood, panel = b.wood(plank=(2.4, 0.6)), b.wood(plank=(2.4, 0.12))
    b.box((0, depth / 2, height / 2), (width, depth, height), wood)
    doors = max(2, round(width / 0.5))
    w = width / doors
    metal = b.plain((150, 140, 110), 0.3, 0.05, 0.7, 0.5)
    for k in range(doors):
        x = -width / 2 + (k + 0.5) * w
        b.box((x, depth + 0.008, height / 2), (w - 0.02, 0.018, height - 0.1), wood)
        for z, h in ((height * 0.28, 0.75), (height * 0.72, 0.75)):
            b.box((x, depth + 0.02, z), (w - 0.16, 0.012, h), panel)
        side = 1 if k % 2 == 0 else -1
        b.box((x + side * (w / 2 - 0.05), depth + 0.03, 1.0), (0.014, 0.02, 0.14), metal)
    b.box((0.1, depth / 2, height + 0.13), (0.5, 0.35, 0.26), b.print(0.02))


def cardboard(b: Builder, width, depth=0.4) -> None:
    """Stacked boxes."""
    z = 0.0
    for k in range(int(b.rng.integers(2, 4))):
        w, h = min(width, 0.5) * (1 - 0.12 * k), b.rng.uniform(0.22, 0.36)
        label = b.print(0.02)
        label["colors"][0] = linear(b.shade((176, 138, 98), 8))
        b.box(
            (b.rng.normal(0, 0.02), depth / 2, z + h / 2),
            (w, depth * 0.9, h),
            label,
            yaw=b.rng.normal(0, 0.12),
        )
        z += h


def standing_plant(b: Builder, width, depth=0.5) -> None:
    """A plant on the floor."""
    plant(b, 0, depth / 2 + 0.05, 0, b.rng.uniform(0.9, 1.25))


def floor_lamp(b: Builder, width, depth=0.4) -> None:
    """A lamp on the floor."""
    lamp(b, 0, depth / 2 + 0.05, 0, 1.45, 0.2)


def basket(b: Builder, width, depth=0.45) -> None:
    """A woven basket with balls of wool."""
    weave = b.material(
        Pattern.TILES, [(120, 84, 50), (186, 146, 96), (60, 40, 26)], (0.05, 0.018), 0.5, 0.8
    )
    b.cone((0, depth / 2 + 0.03, 0), 0.16, 0.2, 0.3, weave)
    for k in range(3):
        a = 2.1 * k
        b.ellipsoid(
            (0.08 * np.cos(a), depth / 2 + 0.03 + 0.08 * np.sin(a), 0.3),
            (0.09, 0.09, 0.08),
            b.plain(b.pick(VIVID), 1, 0.02),
        )


def sideboard(b: Builder, width, depth=0.4) -> None:
    """A low cabinet with open compartments and a row of things on it."""
    wood, inside = b.wood(plank=(2.4, 0.4)), b.wood(plank=(2.4, 0.2))
    b.box((0, 0.01, 0.4), (width, 0.015, 0.6), inside)
    for z in (0.11, 0.4, 0.7):
        b.box((0, depth / 2, z), (width, depth, 0.025), wood)
    columns = max(2, round(width / 0.5))
    for k in range(columns + 1):
        b.box(((k / columns - 0.5) * (width - 0.025), depth / 2, 0.4), (0.025, depth, 0.6), wood)
    w = width / columns
    for k in range(columns):
        x = (k + 0.5) * w - width / 2
        if b.rng.random() < 0.6:
            book_row(b, x - w / 2 + 0.03, x + w / 2 - 0.03, depth / 2, 0.4125, 0.27, 0.3)
        else:
            trinket(b, x, depth / 2, 0.4125, 0.2)
        b.box((x, depth / 2, 0.22), (w - 0.06, depth - 0.06, 0.19), b.cloth())
    clutter(b, width * 0.9, depth * 0.7, 0, depth / 2, 0.7125, 3)


def low_table(b: Builder, width, depth) -> None:
    """A coffee table with magazines; origin at its centre."""
    wood = b.wood(plank=(2.4, 0.22))
    b.box((0, 0, 0.41), (width, depth, 0.035), wood)
    b.box((0, 0, 0.15), (width * 0.9, depth * 0.85, 0.02), wood)
    for sx in (-1, 1):
        for sy in (-1, 1):
            b.box((sx * (width / 2 - 0.05), sy * (depth / 2 - 0.05), 0.2), (0.05, 0.05, 0.4), wood)
    for k in range(3):
        x = (k - 1) * width * 0.3
        b.box(
            (x, b.rng.uniform(-0.1, 0.1), 0.4305),
            (0.21, 0.28, 0.005),
            b.print(0.009),
            yaw=b.rng.uniform(-0.8, 0.8),
        )
    trinket(b, width * 0.18, depth * 0.2, 0.4275, 0.2)
    b.cone(
        (-width * 0.2, depth * 0.22, 0.4275),
        0.036,
        0.04,
        0.09,
        b.plain(b.pick(VIVID), 0.4, 0.05, 0.7, 0.3),
    )
    book_pile(b, 0, 0, 0.16, 3)


def person(b: Builder) -> None:
    """Somebody who stands, 1.7 m tall, in patterned clothes; origin between the feet."""
    skin = b.plain(b.pick(((224, 178, 148), (150, 104, 76), (96, 64, 48))), 0.5, 0.05)
    hair = b.plain(b.pick(WOODS), 1.0, 0.03, 0.4)
    trousers, shirt, sleeve = b.cloth(), pillow(b), b.cloth()
    for s in (-1, 1):
        b.box((s * 0.1, 0, 0.42), (0.16, 0.19, 0.84), trousers, shadow=False)
        b.ellipsoid((s * 0.27, 0.03, 1.1), (0.065, 0.075, 0.33), sleeve, shadow=False)
    b.ellipsoid((0, 0, 0.86), (0.21, 0.15, 0.16), trousers, shadow=False)
    b.box((0, 0, 1.14), (0.4, 0.23, 0.52), shirt, shadow=False)
    b.ellipsoid((0, 0, 1.4), (0.22, 0.13, 0.09), shirt, shadow=False)
    b.ellipsoid((0, 0, 1.58), (0.09, 0.105, 0.13), skin, shadow=False)
    b.ellipsoid((0, -0.02, 1.63), (0.095, 0.1, 0.1), hair, shadow=False)
