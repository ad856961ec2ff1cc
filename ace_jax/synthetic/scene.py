"""`Scene`: renders the frame of a given number and pose; its fields identify the cache entry."""

import functools
from typing import Protocol

import jax
import numpy as np

from ace_jax.geometry.camera import Camera
from ace_jax.programs import program
from ace_jax.synthetic.render import render
from ace_jax.synthetic.room import Room
from ace_jax.synthetic.variation import MAX_GROUPS, move_groups


class Scene(Protocol):
    """A world that may change with the frame number."""

    def contents(self):
        """A pytree of arrays: scenes that differ in a picture differ here or in `state`."""
        ...

    def state(self, index: int) -> np.ndarray | None:
        """What is different at this frame: an array, None for nothing."""
        ...

    def render(
        self, index: int, world_from_camera: jax.Array, camera: Camera
    ) -> tuple[jax.Array, jax.Array]:
        """Colour (H, W, 3) float32 in [0, 1] and z-depth (H, W) in metres."""
        ...


class StaticRoom:
    """One room in which nothing moves.

    Attributes:
        room: the room.
    """

    def __init__(self, room: Room):
        self.room = room

    @functools.cached_property
    def _on_device(self) -> Room:
        return jax.device_put(self.room)

    def contents(self) -> Room:
        """The room."""
        return self.room

    def state(self, index: int) -> None:
        """Nothing."""

    def render(self, index, world_from_camera, camera):
        """See `Scene`."""
        return render(self._on_device, world_from_camera, camera)


_move = program(move_groups)


class RoomWithMovers(StaticRoom):
    """A room in which some pieces go their own ways: the `people` of `make_room`.

    Attributes:
        room: the room with all movers at the origin.
        paths: (N, M, 3) of the movers at every frame: x, y in metres, yaw in radians.
    """

    def __init__(self, room: Room, paths: np.ndarray):
        super().__init__(room)
        self.paths = np.asarray(paths, np.float32)
        groups = max(int(kind.group.max()) for kind in (room.boxes, room.cones, room.ellipsoids))
        self._first = groups + 1 - self.paths.shape[1]

    def state(self, index: int) -> np.ndarray:
        """Where the movers are, (M, 3)."""
        return self.paths[index]

    def at(self, index: int) -> Room:
        """The room as it is at a frame."""
        shift, turn = np.zeros((MAX_GROUPS, 2), np.float32), np.zeros(MAX_GROUPS, np.float32)
        who = slice(self._first, self._first + self.paths.shape[1])
        shift[who], turn[who] = self.paths[index, :, :2], self.paths[index, :, 2]
        return _move(self._on_device, shift, turn)

    def render(self, index, world_from_camera, camera):
        """See `Scene`."""
        return render(self.at(index), world_from_camera, camera)
