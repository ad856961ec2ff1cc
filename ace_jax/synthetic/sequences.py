"""The named synthetic sequences, and the only place where their names are read.

A name is a world, then what is done to it, in any order: `room0-movers40-noisy`.
"""

import dataclasses
import functools
import re

import numpy as np

from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.synthetic.furniture import make_room
from ace_jax.synthetic.movers import COVERAGES, make_movers
from ace_jax.synthetic.scene import RoomWithMovers, Scene, StaticRoom
from ace_jax.synthetic.sensor import Sensor
from ace_jax.synthetic.source import SyntheticSource
from ace_jax.synthetic.trajectory import LOOP, make_trajectory, vary

CAMERA = Camera(525.0, 525.0, 319.5, 239.5, 640, 480)
FRAMES = 300  # of a room
LOOP_FRAMES = 200  # of one round of -loopsN


@dataclasses.dataclass(frozen=True)
class RoomRecipe:
    """What a room's sequence is made of."""

    room_seed: int
    path_seed: int
    full_turn: bool = False
    size: tuple[float, float, float] | None = None


ROOMS = {
    "room0": RoomRecipe(4, 0),
    "room1": RoomRecipe(5, 1, full_turn=True),
    "room2": RoomRecipe(3, 2),
}


@dataclasses.dataclass(frozen=True)
class Name:
    """A name's parts.

    Attributes:
        world: a key of `ROOMS` or of `WORLDS`.
        loops: rounds of the same path; 0: the room's ordinary path.
        movers: percent of the image that people cover; 0: nobody.
        noisy: whether the sensor has defects.
    """

    world: str
    loops: int = 0
    movers: int = 0
    noisy: bool = False

    def __str__(self) -> str:
        parts = [self.world]
        parts += [f"loops{self.loops}"] if self.loops else []
        parts += [f"movers{self.movers}"] if self.movers else []
        parts += ["noisy"] if self.noisy else []
        return "-".join(parts)


FORMS = (
    *ROOMS,
    "ROOM-loopsN",
    *(f"ROOM-movers{percent}" for percent in COVERAGES),
    "-noisy after any of these",
)
_OPTION = re.compile(r"(loops|movers|noisy)([1-9][0-9]*)?")


def parse(name: str) -> Name:
    """Reads a sequence's name; `synthetic/` in front is accepted.

    Raises:
        UserError: there is no such sequence; the line lists the names.
    """
    short = name.removeprefix("synthetic/")
    world, *options = short.split("-")
    found: dict[str, int | bool] = {}
    known = world in ROOMS
    for option in options:
        match = _OPTION.fullmatch(option)
        key, number = match.groups() if match else ("", None)
        known = known and bool(key) and key not in found and (number is None) == (key == "noisy")
        found[key] = True if number is None else int(number)
    known = known and found.get("movers", 20) in COVERAGES
    known = known and 2 <= found.get("loops", 2) <= 100 and not {"loops", "movers"} <= set(found)
    if not known:
        raise UserError(f"no synthetic room {short!r}; choose one of {', '.join(FORMS)}")
    return Name(world, **found)


@functools.lru_cache(maxsize=4)
def _world(name: Name, frames: int | None) -> tuple[Scene, np.ndarray]:
    """The scene and the camera's path (N, 4, 4) of a sequence."""
    recipe = ROOMS[name.world]
    people = 0 if not name.movers else COVERAGES[name.movers][0]
    room = make_room(recipe.room_seed, recipe.size, people=people)
    static = make_room(recipe.room_seed, recipe.size) if people else room
    if name.loops:
        length = frames or name.loops * LOOP_FRAMES
        rate = LOOP_FRAMES / LOOP
        poses = make_trajectory(static, length, recipe.path_seed, recipe.full_turn, rate)
        return StaticRoom(room), vary(poses, recipe.path_seed)
    poses = make_trajectory(static, frames or FRAMES, recipe.path_seed, recipe.full_turn)
    if people:
        return RoomWithMovers(room, make_movers(poses, name.movers, recipe.path_seed)), poses
    return StaticRoom(room), poses


def open_synthetic(
    name: str, frames: int | None = None, camera: Camera = CAMERA
) -> SyntheticSource:
    """Opens a synthetic sequence by name.

    Args:
        name: see the module; `synthetic/` in front is accepted.
        frames: length of the sequence, by default its own; a room's path repeats after 10 s.
        camera: intrinsics.

    Raises:
        UserError: there is no such sequence.
    """
    if frames is not None and frames < 1:
        raise UserError(f"a sequence needs at least one frame, not {frames}")
    parts = parse(name)
    scene, poses = _world(dataclasses.replace(parts, noisy=False), frames)
    return SyntheticSource(
        f"synthetic/{parts}", scene, poses, camera, Sensor() if parts.noisy else None
    )
