"""The shell of a room, what every room has, and the arrays that it is made into."""

from collections.abc import Iterator, Sequence

import numpy as np

from ace_jax.synthetic.builder import CLOTHS, WALLS, Builder, Style
from ace_jax.synthetic.room import (
    SHELL_FACES,
    Doorway,
    Illumination,
    Materials,
    Pattern,
    Primitives,
    Room,
)


def make_style(seed: int) -> Style:
    """Designs for rooms that look alike."""
    b = Builder(np.random.default_rng([seed, 3]))
    return Style(
        timbers=b.timbers[:2],
        prints=[b.print(text) for text in (0.012, 0.02, 0.009, 0.015)],
        pictures=[b.picture() for _ in range(3)],
        cloths=[b.cloth() for _ in range(3)],
        shell=shell_materials(b),
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


def shell_materials(b: Builder) -> list[dict]:
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


def assemble(b: Builder, size, shell: list[dict], maxima: dict, light: Illumination) -> Room:
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


def fit_out(b: Builder, size, doorways: Sequence[Doorway], lamps: Sequence) -> None:
    """What every room has: baseboards, and lamps under the ceiling at (x, y)."""
    b.place((0, 0, 0), 0.0, movable=False)
    white = b.plain((222, 216, 204), 0.3, 0.2, 0.9, 0.05)
    for center, full in _baseboards(size, doorways):
        b.box(center, full, white)
    glass = b.plain((246, 236, 214), 0.2, 0.2, 0.95)
    glass["emission"] = 2.0
    for x, y in lamps:
        b.cone((x, y, size[2] - 0.09), 0.2, 0.24, 0.09, glass, shadow=False)


def shell_of(b: Builder) -> list[dict]:
    """The style's shell with seeds of its own, or a new one."""
    if b.style is None:
        return shell_materials(b)
    return [{**row, "seed": int(b.rng.integers(1 << 31))} for row in b.style.shell]
