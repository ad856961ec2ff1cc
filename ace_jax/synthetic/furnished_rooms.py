"""Furnishes rooms and corridors: a seed in, a `Room` out. Host code (NumPy), once a room."""

from collections.abc import Sequence

import numpy as np

from ace_jax.synthetic import furniture as pieces
from ace_jax.synthetic import wall_fittings
from ace_jax.synthetic.builder import Builder, Style
from ace_jax.synthetic.room import Doorway, Illumination, Room
from ace_jax.synthetic.room_shell import assemble, fit_out, shell_of

MAX_BOXES, MAX_CONES, MAX_ELLIPSOIDS = 384, 64, 96

# name: (function of a builder, width range, depth kept free in front of the wall)
PIECES = {
    "shelf": (pieces.shelf, (0.8, 1.1), 0.34),
    "dresser": (pieces.dresser, (0.9, 1.4), 0.5),
    "desk": (pieces.desk, (1.2, 1.5), 1.15),
    "sofa": (pieces.sofa, (1.6, 2.0), 0.95),
    "bed": (pieces.bed, (1.3, 1.5), 2.05),
    "wardrobe": (pieces.wardrobe, (1.0, 1.3), 0.62),
    "cardboard": (pieces.cardboard, (0.5, 0.6), 0.45),
    "plant": (pieces.standing_plant, (0.5, 0.6), 0.6),
    "lamp": (pieces.floor_lamp, (0.4, 0.5), 0.5),
    "sideboard": (pieces.sideboard, (1.0, 1.5), 0.45),
    "armchair": (pieces.sofa, (0.95, 1.0), 0.95),
    "basket": (pieces.basket, (0.45, 0.5), 0.5),
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
    fit_out(b, size, doorways, [(sx / 2, sy / 2)])
    b.place((0.5 * sx, 0.5 * sy, 0), rng.uniform(-0.3, 0.3))
    rug = b.rug()
    b.box((0, 0, 0.006), (min(2.3, sx * 0.5), min(1.7, sy * 0.45), 0.012), rug)
    if not doorways:
        pieces.low_table(b, 0.95, 0.55)

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
            wall_fittings.door(b, x)
        elif name == "doorway":
            wall_fittings.doorway(b, x, extra.width, extra.height)
        elif name == "window":
            wall_fittings.window(b, *extra)
            if rng.random() < 0.7:
                wall_fittings.radiator(b, x, extra[1] * 0.8)
        else:
            z, w, h = extra
            if any(x - w / 2 < t[1] and x + w / 2 > t[0] for t in tall_spans[index]):
                continue
            kind = rng.random()
            if kind < 0.12:
                wall_fittings.clock(b, x, z + 0.2)
            elif kind < 0.3:
                wall_fittings.wall_shelf(b, x, z, w + 0.15)
            else:
                wall_fittings.wall_picture(b, x, z, w, h, poster=kind < 0.62)
        b.fits(maxima, before)
    shell = shell_of(b)
    for _ in range(people):
        b.place((0, 0, 0), 0.0)
        pieces.person(b)
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
    return assemble(b, size, shell, maxima, light)


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
    fit_out(b, size, doorways, [(x, width / 2) for x in np.arange(1.4, length - 0.5, 2.8)])
    for face, origin, yaw in ((2, (0, 0, 0), 0.0), (3, (length, width, 0), np.pi)):
        used = [d.center if face == 2 else length - d.center for d in doorways if d.face == face]
        b.place(origin, yaw, movable=False)
        for doorway, x in zip([d for d in doorways if d.face == face], used, strict=True):
            wall_fittings.doorway(b, x, doorway.width, doorway.height)
        for k, x in enumerate(np.arange(0.7, length - 0.5, 0.93)):
            if any(abs(x - other) < 1.0 for other in used):
                continue
            if k % 3 == 0:
                wall_fittings.door(b, x)
            elif k % 6 < 3:
                wall_fittings.wall_picture(b, x, 1.45, 0.42, 0.6, poster=k % 2 == 0)
            elif k % 6 == 4:
                wall_fittings.radiator(b, x, 0.55)
                wall_fittings.wall_picture(b, x, 1.6, 0.5, 0.35, poster=True)
            else:
                wall_fittings.wall_picture(b, x, 1.4, 0.6, 0.42, poster=True)
    for origin, yaw in (((0, width, 0), -np.pi / 2), ((length, 0, 0), np.pi / 2)):
        b.place(origin, yaw, movable=False)
        wall_fittings.window(b, width / 2, 0.8, 1.2, 0.95)
        b.place(origin, yaw)
        b.frame[:3, 3] += b.frame[:3, :3] @ (0.45, 0.03, 0)
        pieces.standing_plant(b, 0.5)
    maxima = {"boxes": MAX_BOXES, "cones": MAX_CONES, "ellipsoids": MAX_ELLIPSOIDS}
    shell = shell_of(b)
    light = Illumination(
        position=np.array([[f * length, width / 2, 2.35] for f in (0.25, 0.75)], np.float32),
        color=np.array([[3.1, 2.8, 2.4]] * 2, np.float32) * 2.0,
        radius=np.array([0.25, 0.25], np.float32),
        ambient=np.array([0.52, 0.51, 0.50], np.float32),
        exposure=np.float32(1.35),
    )
    return assemble(b, size, shell, maxima, light)
