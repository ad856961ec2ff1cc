"""Fittings of walls: pictures, windows, doors; x along the wall, y off the wall, z up."""

import numpy as np

from ace_jax.synthetic.builder import Builder
from ace_jax.synthetic.room import Pattern
from ace_jax.synthetic.small_things import book_row, trinket


def wall_picture(b: Builder, x, z, width, height, poster: bool) -> None:
    """A framed painting or a bare poster."""
    if poster:
        b.box((x, 0.004, z), (width, 0.008, height), b.print(b.rng.uniform(0.012, 0.03)))
        return
    b.box((x, 0.012, z), (width + 0.07, 0.024, height + 0.07), b.wood(plank=(9, 9)))
    mat = b.plain((226, 220, 208), 0.3, 0.1)
    b.box((x, 0.02, z), (width, 0.018, height), mat)
    art = b.picture() if b.rng.random() < 0.65 else b.print(0.015)
    b.box((x, 0.024, z), (width - 0.1, 0.016, height - 0.1), art)


def wall_shelf(b: Builder, x, z, width) -> None:
    """A board with books and trinkets."""
    b.box((x, 0.1, z), (width, 0.2, 0.022), b.wood())
    book_row(b, x - width / 2 + 0.03, x + width * 0.1, 0.1, z + 0.011, 0.27, 0.18)
    trinket(b, x + width * 0.22, 0.1, z + 0.011, 0.2)
    trinket(b, x + width * 0.38, 0.1, z + 0.011, 0.16)


def clock(b: Builder, x, z) -> None:
    """A round clock, as a disc with a print."""
    face = b.material(
        Pattern.WALLPAPER, [(232, 228, 216), (232, 228, 216), (30, 30, 34)], (0.07, 0.07)
    )
    rim = b.wood()
    b.add("cones", (x, 0.015, z), (0.15, 0.15, 0.015), rim, roll=-np.pi / 2)
    b.add("cones", (x, 0.02, z), (0.13, 0.13, 0.014), face, roll=-np.pi / 2)


def window(b: Builder, x, width, height, sill) -> None:
    """A window with a view, mullions, a sill and curtains."""
    view = b.picture()
    view["emission"] = 0.8
    white = b.plain((226, 224, 218), 0.2, 0.2, 0.92, 0.1)
    z = sill + height / 2
    b.box((x, 0.004, z), (width, 0.012, height), view, shadow=False)
    for s in (-1, 0, 1):
        b.box((x + s * width / 2, 0.02, z), (0.05, 0.05, height + 0.05), white, shadow=False)
    for s in (-1, 0.35, 1):
        b.box((x, 0.02, z + s * height / 2), (width, 0.03, 0.05), white, shadow=False)
    b.box((x, 0.07, sill - 0.03), (width + 0.16, 0.16, 0.03), white)
    fabric = b.cloth()
    for s in (-1, 1):
        for k in range(3):
            b.box(
                (x + s * (width / 2 + 0.03 + 0.1 * k), 0.09 + 0.02 * (k % 2), z),
                (0.11, 0.035, height + 0.5),
                fabric,
                yaw=0.35 * (-1) ** k,
            )
    rod = b.plain((80, 66, 50), 0.2, 0.1, 0.8, 0.3)
    b.box((x, 0.1, z + height / 2 + 0.26), (width + 0.7, 0.025, 0.025), rod)


def radiator(b: Builder, x, width) -> None:
    """A ribbed radiator."""
    white = b.plain((224, 222, 214), 0.25, 0.2, 0.9, 0.1)
    b.box((x, 0.05, 0.4), (width, 0.03, 0.52), white)
    ribs = int(width / 0.07)
    for k in range(ribs):
        b.box(
            (x - width / 2 + (k + 0.5) * width / ribs, 0.085, 0.4),
            (0.035, 0.05, 0.56),
            white,
            shadow=False,
        )


def door(b: Builder, x) -> None:
    """A panelled door in its frame."""
    wood = b.wood(plank=(3, 0.9))
    trim = b.wood(plank=(3, 0.3))
    b.box((x, 0.015, 1.0), (0.84, 0.03, 2.0), wood)
    for s in (-1, 1):
        b.box((x + s * 0.46, 0.02, 1.02), (0.08, 0.045, 2.04), trim)
        for z, h in ((0.55, 0.7), (1.45, 0.8)):
            b.box((x + s * 0.19, 0.03, z), (0.28, 0.02, h), b.wood(plank=(3, 0.1)))
    b.box((x, 0.02, 2.07), (1.0, 0.045, 0.08), trim)
    metal = b.plain((170, 150, 100), 0.3, 0.05, 0.7, 0.5)
    b.box((x + 0.35, 0.06, 1.02), (0.12, 0.02, 0.02), metal)


def doorway(b: Builder, x, width, height) -> None:
    """The frame of an open doorway."""
    trim = b.wood(plank=(3, 0.3))
    for s in (-1, 1):
        b.box((x + s * (width / 2 + 0.045), 0.025, height / 2), (0.09, 0.05, height), trim)
    b.box((x, 0.025, height + 0.045), (width + 0.18, 0.05, 0.09), trim)
