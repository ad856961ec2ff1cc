"""Small things of a room: books, vases, lamps, plants; (x, y, z) is the point they stand on."""

import numpy as np

from ace_jax.synthetic.builder import CLOTHS, VIVID, Builder
from ace_jax.synthetic.room import Pattern


def book(b: Builder, x, y, z, thick, height, depth) -> None:
    """A standing book, its spine towards +y. Its shadow would fall on books: not worth it."""
    color = b.pick(VIVID)
    light = np.mean(color) > 120
    colors = [color, b.pick(VIVID), (30, 28, 30) if light else (230, 214, 170)]
    material = b.material(Pattern.SPINE, colors, 0.1, 0, 0.5, 0.03)
    b.box((x, y, z + height / 2), (thick, depth, height), material, shadow=False)


def book_row(b: Builder, x0, x1, y, z, room_above, depth) -> None:
    """Books from x0 to x1, sometimes ending in a leaning one or a small pile."""
    x = x0
    stop = x1 - b.rng.uniform(0.0, 0.25) * (x1 - x0)
    while True:
        thick = b.rng.uniform(0.02, 0.055)
        if x + thick > stop:
            break
        height = room_above * b.rng.uniform(0.62, 0.92)
        d = depth * b.rng.uniform(0.65, 0.9)
        book(b, x + thick / 2, y - depth / 2 + d / 2, z, thick - 0.002, height, d)
        x += thick + (0.0 if b.rng.random() < 0.9 else 0.03)
    if x1 - x > 0.16:
        trinket(b, (x + x1) / 2, y, z, min(room_above * 0.8, 0.2))


def book_pile(b: Builder, x, y, z, count=3) -> None:
    """Books lying on each other, a print on the top one."""
    for _ in range(count):
        w, d, t = b.rng.uniform((0.14, 0.19, 0.015), (0.2, 0.27, 0.04))
        b.box((x, y, z + t / 2), (w, d, t), b.print(0.009), yaw=b.rng.normal(0, 0.25))
        z += t


def trinket(b: Builder, x, y, z, height) -> None:
    """A vase, a ball, a mug or a small box."""
    kind = b.rng.integers(4)
    color = b.pick(VIVID)
    if kind == 0:
        r = height * b.rng.uniform(0.22, 0.3)
        glaze = b.material(
            Pattern.WALLPAPER,
            [color, b.shade(color, 30), b.pick(VIVID)],
            (0.05, 0.05),
            b.rng.integers(3),
            0.7,
            0.25,
        )
        b.cone((x, y, z), r * 0.7, r, height * 0.6, glaze)
        b.cone((x, y, z + height * 0.6), r, r * 0.45, height * 0.4, glaze)
    elif kind == 1:
        r = height * 0.45
        b.ellipsoid((x, y, z + r), (r, r, r), b.plain(color, 1.0, 0.05, 0.4, 0.3))
    elif kind == 2:
        h = min(height, 0.11)
        glaze = b.material(
            Pattern.WALLPAPER,
            [color, color, b.pick(VIVID)],
            (0.04, 0.04),
            b.rng.integers(3),
            0.3,
            0.25,
        )
        b.cone((x, y, z), 0.036, 0.042, h, glaze)
    else:
        h = height * 0.7
        b.box(
            (x, y, z + h / 2), (h * 0.9, h * 0.8, h), b.print(0.008), yaw=b.rng.uniform(-0.5, 0.5)
        )


def lamp(b: Builder, x, y, z, height, radius) -> None:
    """A table or floor lamp: foot, pole and a glowing shade."""
    metal = b.plain((70, 66, 60), 0.3, 0.1, 0.8, 0.3)
    b.cone((x, y, z), radius * 0.6, radius * 0.5, 0.025, metal)
    b.cone((x, y, z), 0.012, 0.012, height, metal)
    color = b.pick(((236, 214, 176), (226, 190, 150)))
    glow = b.material(
        Pattern.WALLPAPER,
        [color, b.shade(color, 8), b.pick(CLOTHS)],
        (radius * 0.5, radius * 0.5),
        b.rng.integers(3),
        0.3,
        0,
        1.0,
    )
    b.cone((x, y, z + height * 0.8), radius, radius * 0.6, height * 0.2 + 0.1, glow, shadow=False)


def plant(b: Builder, x, y, z, height) -> None:
    """A pot with leaves."""
    r = height * 0.17
    pot = b.material(
        Pattern.TILES,
        [b.pick(((170, 96, 66), (210, 204, 196), (60, 90, 110)))] * 2 + [(90, 60, 40)],
        (0.12, 0.05),
        0.5,
        0.6,
        0.1,
    )
    b.cone((x, y, z), r * 0.75, r, height * 0.28, pot)
    green = b.pick(((52, 92, 40), (74, 110, 52), (40, 84, 58)))
    for _ in range(13):
        yaw = b.rng.uniform(0, 2 * np.pi)
        tilt = b.rng.uniform(-1.3, -0.25)
        length = height * b.rng.uniform(0.16, 0.27)
        out = r * 0.3 + length * np.cos(tilt) * 0.9
        rise = height * b.rng.uniform(0.3, 0.55) + length * np.sin(-tilt)
        leaf = b.plain(b.shade(green, 12), 1.0, 0.04, 0.45, 0.08)
        b.ellipsoid(
            (x + out * np.cos(yaw), y + out * np.sin(yaw), z + rise),
            (length, length * 0.36, length * 0.10),
            leaf,
            yaw=yaw,
            pitch=tilt,
        )
