"""Floor plans of buildings, and camera paths through them."""

import itertools

import numpy as np

from ace_jax.synthetic.building import Building, Link, both_ways
from ace_jax.synthetic.furnished_rooms import make_corridor, make_room
from ace_jax.synthetic.room import Doorway
from ace_jax.synthetic.room_shell import make_style
from ace_jax.synthetic.trajectory import make_walk

_CORRIDOR_WIDTH = 2.0
_ROOM_SEEDS = (49, 42, 58, 52)


def corridor_and_rooms() -> tuple[Building, np.ndarray]:
    """Four rooms in a row along a corridor, and a walk of 40 m with two round trips.

    Room 0 to 3 through the doors between them, back along the corridor into room 0 by its other
    door (the first loop, 30 m), on to room 1, out to the corridor by a door not yet used, and
    into room 0 again (the second loop).

    Returns:
        The building (room 4 is the corridor) and (N, 4, 4) world_from_camera.
    """
    size = np.array([3.7, 3.7, 2.6])
    offsets = np.array([*((size[0] * k, _CORRIDOR_WIDTH, 0.0) for k in range(4)), (0.0, 0.0, 0.0)])
    between = (1.6, 2.1, 1.7)  # where along y the doors between the rooms are
    out = {0: 1.7, 1: 2.1, 3: 1.8}  # where along x the doors to the corridor are
    links = [Link(k, Doorway(1, y), k + 1) for k, y in enumerate(between)]
    links += [Link(k, Doorway(2, x), 4) for k, x in out.items()]
    links = both_ways(links, offsets)
    rooms = [
        make_room(seed, tuple(size), doorways=[k.doorway for k in links if k.room == i])
        for i, seed in enumerate(_ROOM_SEEDS)
    ]
    doors = [k.doorway for k in links if k.room == 4]
    rooms.append(make_corridor(1, 4 * size[0], _CORRIDOR_WIDTH, doors, make_style(0)))

    def inside(k, x, y):
        return offsets[k, 0] + x, offsets[k, 1] + y

    def door(k):  # from room k to room k + 1, straight on for a step
        y = between[k]
        return [inside(k, size[0] - 0.5, y), inside(k, size[0] + 0.5, y)]

    def exit_from(k):  # to the middle of the corridor
        return [inside(k, out[k], 0.6), inside(k, out[k], -0.5 * _CORRIDOR_WIDTH)]

    middle = 0.5 * size[:2]
    first = [inside(0, 1.2, 2.4), inside(0, *middle)]
    eastwards = [*door(0), *door(1), *door(2)]
    way = [
        *first,
        *eastwards,
        inside(3, 2.2, 1.9),
        *exit_from(3),
        *exit_from(0)[::-1],
        inside(0, 1.7, 1.6),
        *door(0),
        inside(1, 2.1, 2.0),
        *exit_from(1),
        *exit_from(0)[::-1],
        inside(0, 1.6, 2.2),
    ]
    return Building(rooms, offsets, links), make_walk(np.array(way), 1, speed=0.77)


# some of the first seeds: those that leave room for enough furniture between the doors
_ALIKE_SEEDS = (
    100,
    101,
    102,
    104,
    106,
    110,
    111,
    113,
    114,
    115,
    117,
    119,
    120,
    122,
    125,
    126,
    128,
    129,
    130,
    131,
)


def rooms_that_look_alike() -> tuple[Building, np.ndarray]:
    """Twenty rooms in a row with one wallpaper, one floor and one stock of things, each seen once.

    Returns:
        The building and (N, 4, 4) world_from_camera of a walk through it.
    """
    count = len(_ALIKE_SEEDS)
    size = np.array([2.5, 3.6, 2.6])
    offsets = np.stack([size * (k, 0, 0) for k in range(count)])
    at = [1.4 if k % 2 else 2.2 for k in range(count - 1)]
    links = both_ways([Link(k, Doorway(1, y), k + 1) for k, y in enumerate(at)], offsets)
    style = make_style(15)
    rooms = [
        make_room(
            seed,
            tuple(size),
            doorways=[k.doorway for k in links if k.room == i],
            style=style,
        )
        for i, seed in enumerate(_ALIKE_SEEDS)
    ]
    way = [(0.8, 1.6)]
    for k, y in enumerate(at):
        x = size[0] * (k + 1)
        way += [(x - 0.35, y), (x + 0.35, y)]
    way.append((size[0] * count - 0.9, 1.8))
    return Building(rooms, offsets, links), make_walk(np.array(way), 2, speed=0.92)


_FLOOR = 5, 10  # rows and columns of rooms
_FLOOR_SEED = 300  # of the first room; the others follow
_LOOK_AROUND = 0.42  # metres, radius of the round in the middle of a room


def floor_of_rooms() -> tuple[Building, np.ndarray]:
    """Fifty furnished rooms in five rows of ten, and a walk through all of them, row by row.

    In the middle of each room the camera goes round, so that it sees most of the walls. The first K
    fiftieths of the walk are a building of K rooms: a scene that grows and stays as dense.

    Returns:
        The building and (N, 4, 4) world_from_camera.
    """
    rows, columns = _FLOOR
    size = np.array([3.7, 3.7, 2.6])
    # To and fro, so that each room lies beside the one before.
    cells = [(x if y % 2 == 0 else columns - 1 - x, y) for y in range(rows) for x in range(columns)]
    offsets = np.array([(size[0] * x, size[1] * y, 0.0) for x, y in cells])
    links = []
    for room, (here, there) in enumerate(itertools.pairwise(cells)):
        step = there[0] - here[0], there[1] - here[1]
        face = {(1, 0): 1, (-1, 0): 0, (0, 1): 3}[step]
        links.append(Link(room, Doorway(face, 2.6 if room % 2 else 1.1), room + 1))
    doors = both_ways(links, offsets)
    rooms = [
        make_room(
            _FLOOR_SEED + room,
            tuple(size),
            doorways=[link.doorway for link in doors if link.room == room],
        )
        for room in range(rows * columns)
    ]

    def beside(room: int, doorway: Doorway, metres: float) -> np.ndarray:
        """World position on the floor, so far inside the room from its doorway."""
        place = np.full(2, doorway.center)
        axis, far = divmod(doorway.face, 2)
        place[axis] = size[axis] - metres if far else metres
        return offsets[room, :2] + place

    way = []
    for room in range(rows * columns):
        middle = offsets[room, :2] + 0.5 * size[:2]
        entrance = [link.doorway for link in doors if link.room == room and link.other < room]
        way += [beside(room, doorway, 0.4) for doorway in entrance]
        start = way[-1] - middle if way else np.array([-1.0, 0.0])
        angles = np.arctan2(start[1], start[0]) + np.linspace(0.0, 2.0 * np.pi, 9)
        circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        way += [*(middle + _LOOK_AROUND * circle)]
        if room < len(links):
            way.append(beside(room, links[room].doorway, 0.4))
    return Building(rooms, offsets, doors), make_walk(np.array(way), 3, speed=0.8)
