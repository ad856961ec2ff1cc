"""Rooms joined by doorways, rendered room by room through the openings.

Every room keeps its own box, furniture and lamps, and is cast only where rays come in through a
doorway: the cost of a picture depends on what is in view and not on the size of the building. A
ray crosses a (convex) room at most once, so what is seen through each doorway is a disjoint part
of the picture.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.geometry.camera import Camera
from ace_jax.programs import program
from ace_jax.synthetic.ray_casting import Geometry, cast_rays, safe_inverse, tiles_of
from ace_jax.synthetic.render import expose, find_edges, illuminate, paint
from ace_jax.synthetic.room import Doorway, Materials, Room, clearance
from ace_jax.synthetic.surfaces import Surface, find_surfaces

_ROOM_ROWS = 1024  # material rows are numbered apart by this from room to room
# metres by which an opening is wider than its posts are apart: no gap between them by rounding
_LAP = 0.001
_MAX_DEPTH = 12  # doorways in a row that are looked through


@dataclasses.dataclass(frozen=True)
class Link:
    """A doorway between two rooms.

    Attributes:
        room: number of the room that has the doorway in its wall.
        doorway: in that room's frame.
        other: number of the room behind it.
    """

    room: int
    doorway: Doorway
    other: int


def both_ways(links: Sequence[Link], offsets: np.ndarray) -> list[Link]:
    """Adds to each link the way back: the same opening in the other room's frame."""
    out = []
    for link in links:
        d = link.doorway
        along = 1 if d.face < 2 else 0
        shift = offsets[link.room][along] - offsets[link.other][along]
        back = dataclasses.replace(d, face=d.face ^ 1, center=d.center + shift)
        out += [link, Link(link.other, back, link.room)]
    return out


@program(static_argnames=("shift", "face"))
def _look_through(hits: Geometry, mask, room: Room, pose, camera, shift, face, low, high, height):
    """Rays (T, K) of `mask` that leave a room by an opening; by tile; whether there are any."""
    x, y, _ = tiles_of(camera, shift)
    d = [pose[j, 0] * x + pose[j, 1] * y + pose[j, 2] for j in range(3)]
    axis, along = face // 2, 1 - face // 2
    plane = room.size[axis] * (face % 2)
    # the exact crossing: cast rays have fewer bits
    t = (plane - pose[axis, 3]) * safe_inverse(d[axis])
    u, z = pose[along, 3] + t * d[along], pose[2, 3] + t * d[2]
    part = mask & (hits.id == face) & (u > low) & (u < high) & (z < height)
    tiles = part.any(-1)
    return part, tiles, tiles.any()


@program
def _select(mask, new, old):
    """Leaves (T, K) of `new` where `mask`, else of `old`."""
    return jax.tree.map(lambda a, b: jnp.where(mask, a, b), new, old)


@program
def _local_hits(hits: Geometry, room) -> tuple[Geometry, jax.Array, jax.Array]:
    """A room's own hits among all, which they are (T, K), and in which tiles (T,)."""
    mine = hits.id // _ROOM_ROWS == room
    return Geometry(hits.depth, jnp.where(mine, hits.id % _ROOM_ROWS, 0)), mine, mine.any(-1)


@program
def _shift(surface: Surface, offset) -> Surface:
    """The surface with its positions moved."""
    return surface._replace(position=[p + offset[j] for j, p in enumerate(surface.position)])


class Building:
    """A `Scene` of several rooms.

    Attributes:
        rooms: of equal array shapes, each in its own frame.
        offsets: (R, 3) float64 metres, world position of each room's origin.
        links: the doorways, both ways.
    """

    def __init__(self, rooms: Sequence[Room], offsets: np.ndarray, links: Sequence[Link]):
        self.rooms = list(rooms)
        self.offsets = np.asarray(offsets, np.float64)
        self.links = list(links)

    @functools.cached_property
    def _on_device(self) -> list[Room]:
        return jax.device_put(self.rooms)

    def contents(self):
        """Rooms, their places and their doorways."""
        doors = [(k.room, *dataclasses.astuple(k.doorway), k.other) for k in self.links]
        return self.rooms, self.offsets, np.asarray(doors, np.float64)

    def state(self, index: int) -> None:
        """Nothing moves."""

    def room_at(self, position: np.ndarray) -> int:
        """Number of the room that holds a world position (3,), or of the nearest."""
        outside = [
            np.maximum(np.maximum(-p, p - room.size), 0).max()
            for room, p in zip(self.rooms, position - self.offsets, strict=True)
        ]
        return int(np.argmin(outside))

    def clearance(self, points: np.ndarray) -> np.ndarray:
        """Distance (N,) from world points (N, 3) to solids, doorposts among them; not to walls."""
        return np.min(
            [
                clearance(room, points - offset, walls=False)
                for room, offset in zip(self.rooms, self.offsets, strict=True)
            ],
            axis=0,
        )

    def _pose_in(self, room: int, world_from_camera: jax.Array) -> jax.Array:
        offset = jnp.asarray(self.offsets[room], jnp.float32)
        return world_from_camera.at[:3, 3].add(-offset)

    def _cast(self, start: int, pose: jax.Array, camera: Camera, shift: float):
        """Hits of all rays with rows numbered by room, and the rooms that are seen."""
        whole = tiles_of(camera, 0.0)[0].shape
        hits, seen = None, []
        todo = [(start, jnp.ones(whole, bool), jnp.ones(whole[0], bool), 0)]
        while todo:
            k, mask, tiles, depth = todo.pop()
            room, local = self._on_device[k], self._pose_in(k, pose)
            found = cast_rays(room, local, camera, shift=shift, active=tiles)
            numbered = Geometry(found.depth, found.id + k * _ROOM_ROWS)
            hits = numbered if hits is None else _select(mask, numbered, hits)
            seen += [k] if k not in seen else []
            for link in self.links if depth < _MAX_DEPTH else ():
                if link.room != k:
                    continue
                d = link.doorway
                part, part_tiles, some = _look_through(
                    found,
                    mask,
                    room,
                    local,
                    camera,
                    shift,
                    d.face,
                    d.center - d.width / 2 - _LAP,
                    d.center + d.width / 2 + _LAP,
                    d.height + _LAP,
                )
                if bool(some):
                    todo.append((link.other, part, part_tiles, depth + 1))
        return hits, seen

    def render(self, index, world_from_camera, camera):
        """See `Scene`."""
        pose = world_from_camera
        start = self.room_at(np.asarray(pose[:3, 3], np.float64))
        centers, seen = self._cast(start, pose, camera, 0.0)
        corners, _ = self._cast(start, pose, camera, -0.5)

        owned: dict[int, tuple[jax.Array, jax.Array]] = {}
        surface: Surface | None = None
        material: Materials | None = None
        for k in seen:
            own, mine, tiles = _local_hits(centers, k)
            owned[k] = mine, tiles
            local = self._pose_in(k, pose)
            here, made_of = find_surfaces(self._on_device[k], local, camera, own, active=tiles)
            here = _shift(here, jnp.asarray(self.offsets[k], jnp.float32))
            if surface is None:
                surface, material = here, made_of
            else:
                surface, material = _select(mine, (here, made_of), (surface, material))
        color = paint(surface, material)
        radiance = None
        for k, (mine, tiles) in owned.items():
            room = self._on_device[k]
            lit = illuminate(
                room,
                self._pose_in(k, pose),
                room.illumination,
                _shift(surface, -jnp.asarray(self.offsets[k], jnp.float32)),
                material,
                color,
                active=tiles,
            )
            radiance = lit if radiance is None else _select(mine, lit, radiance)
        edges = find_edges(centers, corners, camera)
        exposure = self._on_device[start].illumination.exposure
        return expose(radiance, surface.depth, edges, camera, exposure)
