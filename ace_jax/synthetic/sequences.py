"""The named synthetic sequences, and the only place where their names are read.

A name is a world, then what is done to it, in any order: `room0-movers40-noisy`. Worlds:

room0, room1, room2: one room, 300 frames; the hand-held path comes back after 10 s.
corridor: four rooms in a row along a corridor of 15 m with repeated doors, posters and wallpaper;
    2018 frames, 42 m, two round trips that come back into known rooms through other doors.
alike: twenty rooms in a row with one wallpaper, one floor and one stock of furniture, posters and
    rugs; 1664 frames, 51 m, each room seen once: any loop found there is a false one.
floor: fifty furnished rooms, all different; 26313 frames, 270 m, about 526 frames a room: the first
    5260 are a building of ten rooms.

What is done to them:

-loopsN (rooms): the path N times, 200 frames each, off by about 3 cm and 2 degrees every time.
-movers20, -movers40, -movers60 (rooms): the same path while textured people walk through the view,
    independently, who cover about that percentage of the picture on average. They are in the depth
    too and cast no shadow.
-bare (rooms): little furniture and nothing on the walls.
-noisy: motion blur, noise, drifting exposure, depth noise and holes of a first-generation Kinect.
-bent: the depth is off by some per cent, smoothly over the image, as a Kinect's is.
-dark: no light in the first second, and in the sixth; depth as ever.
-shaken: every two seconds, half a second of motion blur in random directions.
-gaps: in the first half of the recording, two seconds of every four are missing.
-kidnap: the frames in order as a mapping pass, then 50 teleports of 10 frames each, time running
    on. With -loopsN the mapping pass is the first two rounds, and the teleports land in pictures
    that it did not show; without, in pictures of the mapping pass. `source.teleports` says where.
-replayN: the frames to and fro until there are N, time running on: length without rendering.
-small: 320x240 pixels instead of 640x480.
"""

import dataclasses
import functools
import re

import numpy as np

from ace_jax.data.subset import SubsetSource
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.synthetic.bent import bend
from ace_jax.synthetic.furnished_rooms import make_room
from ace_jax.synthetic.hardships import ImpairedSource, darken, kept_of_gaps, shake
from ace_jax.synthetic.layouts import corridor_and_rooms, floor_of_rooms, rooms_that_look_alike
from ace_jax.synthetic.movers import COVERAGES, make_movers
from ace_jax.synthetic.replay import ReplaySource, kidnapped, to_and_fro
from ace_jax.synthetic.scene import RoomWithMovers, Scene, StaticRoom
from ace_jax.synthetic.sensor import Sensor
from ace_jax.synthetic.source import SyntheticSource
from ace_jax.synthetic.trajectory import LOOP, make_trajectory, vary

CAMERA = Camera(525.0, 525.0, 319.5, 239.5, 640, 480)
SMALL_CAMERA = Camera(262.5, 262.5, 159.5, 119.5, 320, 240)  # of -small
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
BARE = {"furniture": 0.2, "decoration": 0.0}  # of `make_room`
BUILDINGS = {
    "corridor": corridor_and_rooms,
    "alike": rooms_that_look_alike,
    "floor": floor_of_rooms,
}
MAPPING_LOOPS = 2  # of -loopsN-kidnap
MAX_LOOPS, MAX_REPLAY = 100, 1_000_000


@dataclasses.dataclass(frozen=True)
class Name:
    """A name's parts.

    Attributes:
        world: a key of `ROOMS` or of `BUILDINGS`.
        loops: rounds of the same path; 0: the room's ordinary path.
        movers: percent of the image that people cover; 0: nobody.
        bare: whether the room is nearly empty.
        noisy: whether the sensor has defects.
        bent: whether its depth is bent.
        dark: whether the light fails.
        shaken: whether the camera is shaken.
        gaps: whether stretches are missing.
        kidnap: whether the camera is teleported after a mapping pass.
        replay: length of the replay; 0: none.
        small: whether the pictures have a quarter of the pixels.
    """

    world: str
    loops: int = 0
    movers: int = 0
    bare: bool = False
    noisy: bool = False
    bent: bool = False
    dark: bool = False
    shaken: bool = False
    gaps: bool = False
    kidnap: bool = False
    replay: int = 0
    small: bool = False

    def __str__(self) -> str:
        parts = [self.world]
        for field in dataclasses.fields(self)[1:]:
            value = getattr(self, field.name)
            if value:
                parts.append(field.name if value is True else f"{field.name}{value}")
        return "-".join(parts)

    @property
    def rendered(self) -> "Name":
        """The sequence whose frames are shown, in their own order."""
        return dataclasses.replace(
            self, bent=False, dark=False, shaken=False, gaps=False, kidnap=False, replay=0
        )


FORMS = (
    *ROOMS,
    *BUILDINGS,
    "ROOM-loopsN",
    *(f"ROOM-movers{percent}" for percent in COVERAGES),
    "ROOM-bare",
    "and after any of these -noisy, -bent, -dark, -shaken, -small, "
    "and one of -gaps, -kidnap, -replayN",
)
_OPTION = re.compile(
    r"(?:(loops|movers|replay)([1-9][0-9]{0,6})|(bare|noisy|bent|dark|shaken|gaps|kidnap|small))"
)


def parse(name: str) -> Name:
    """Reads a sequence's name; `synthetic/` in front is accepted.

    Raises:
        UserError: there is no such sequence; the line lists the names.
    """
    short = name.removeprefix("synthetic/")
    world, *options = short.split("-")
    matches = [_OPTION.fullmatch(option) for option in options]
    found = {m[3] or m[1]: bool(m[3]) or int(m[2]) for m in matches if m}
    one_path = len({"loops", "movers"} & set(found)) <= (world in ROOMS)
    one_order = len({"gaps", "kidnap", "replay"} & set(found)) <= 1
    known = (
        (world in ROOMS or world in BUILDINGS)
        and len(found) == len(options)  # all were read, none twice
        and one_path
        and (world in ROOMS or "bare" not in found)
        and one_order
        and found.get("movers", next(iter(COVERAGES))) in COVERAGES
        and 2 <= found.get("loops", 2) <= MAX_LOOPS
        and found.get("replay", 1) <= MAX_REPLAY
    )
    if not known:
        raise UserError(f"no synthetic room {short!r}; choose one of {', '.join(FORMS)}")
    return Name(world, **found)


@functools.lru_cache(maxsize=4)
def _world(name: Name, frames: int | None) -> tuple[Scene, np.ndarray]:
    """The scene and the camera's path (N, 4, 4) of a rendered sequence."""
    if name.world in BUILDINGS:
        building, poses = BUILDINGS[name.world]()
        if frames is not None and frames > len(poses):
            raise UserError(f"{name.world} has {len(poses)} frames, not {frames}; use -replayN")
        return building, poses[:frames]
    recipe = ROOMS[name.world]
    people = 0 if not name.movers else COVERAGES[name.movers][0]
    contents = BARE if name.bare else {}
    room = make_room(recipe.room_seed, recipe.size, people=people, **contents)
    static = make_room(recipe.room_seed, recipe.size, **contents) if people else room
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
    name: str, frames: int | None = None, camera: Camera | None = None
) -> SyntheticSource | SubsetSource:
    """Opens a synthetic sequence by name.

    Args:
        name: see the module; `synthetic/` in front is accepted.
        frames: so many rendered frames instead of the sequence's own length; a room's path repeats
            after 10 s.
        camera: other intrinsics than the name's.

    Raises:
        UserError: there is no such sequence.
    """
    if frames is not None and frames < 1:
        raise UserError(f"a sequence needs at least one frame, not {frames}")
    parts = parse(name)
    rendered = parts.rendered
    scene, poses = _world(dataclasses.replace(rendered, noisy=False, small=False), frames)
    if camera is None:
        camera = SMALL_CAMERA if parts.small else CAMERA
    sensor = Sensor() if parts.noisy else None
    source = SyntheticSource(f"synthetic/{rendered}", scene, poses, camera, sensor)
    full = f"synthetic/{parts}"
    for asked, impair in ((parts.bent, bend), (parts.dark, darken), (parts.shaken, shake)):
        if asked:
            source = ImpairedSource(source, full, impair)
    if parts.gaps:
        source = SubsetSource(source, indices=kept_of_gaps(len(source)))
        source.name = full
    if parts.replay:
        return ReplaySource(source, to_and_fro(len(source), parts.replay), full)
    if parts.kidnap:
        mapped = MAPPING_LOOPS * LOOP_FRAMES if parts.loops > MAPPING_LOOPS else len(source)
        indices, jumps = kidnapped(poses, min(mapped, len(source)), seed=0)
        return ReplaySource(source, indices, full, jumps)
    return source
