"""Ray casting of a room: z-depth and material row of the nearest surface along every ray.

Rays are cast tile by tile; in each, only the primitives that can be seen there are visited.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ace_jax.geometry.batch import where_asked
from ace_jax.geometry.camera import Camera
from ace_jax.precision import full_precision
from ace_jax.programs import program
from ace_jax.synthetic.room import SHELL_FACES, Primitives, Room, bounding_boxes

TILE_W, TILE_H = 80, 60  # pixels; small enough for the cache, large enough to amortise a loop
NEAR = 0.05  # metres; nothing nearer is drawn
TINY = 1e-9
_ROW_MASK = 1023  # material rows fit in the low bits of a key


class Geometry(NamedTuple):
    """What each ray hits, tiles first: depth (T, K) z-depth in metres, id (T, K) material row."""

    depth: jax.Array
    id: jax.Array


def tiles_of(camera: Camera, shift: float) -> tuple[jax.Array, jax.Array, int]:
    """Normalised ray directions x, y (T, K) of all tiles, and the number of tiles per row."""
    columns, rows = -(-camera.width // TILE_W), -(-camera.height // TILE_H)
    u = jnp.arange(columns * TILE_W, dtype=jnp.float32) + shift
    v = jnp.arange(rows * TILE_H, dtype=jnp.float32) + shift
    u = jnp.broadcast_to(u.reshape(1, columns, 1, TILE_W), (rows, columns, TILE_H, TILE_W))
    v = jnp.broadcast_to(v.reshape(rows, 1, TILE_H, 1), (rows, columns, TILE_H, TILE_W))
    shape = (rows * columns, TILE_H * TILE_W)
    return *camera.normalised(u.reshape(shape), v.reshape(shape)), columns


def untile(values: jax.Array, columns: int, camera: Camera) -> jax.Array:
    """(T, K) to (height, width)."""
    rows = values.shape[0] // columns
    image = values.reshape(rows, columns, TILE_H, TILE_W).transpose(0, 2, 1, 3)
    image = image.reshape(rows * TILE_H, columns * TILE_W)
    return image[: camera.height, : camera.width]


def map_tiles(function, arguments, at_once: int, active=None):
    """`lax.map` over tiles; `at_once` of them in parallel (accelerators want all).

    Where `active` (T,) is given and False, the result is zeros and costs nothing (one at a time).
    """
    if active is not None:
        return map_tiles(lambda pair: where_asked(function, *pair), (active, arguments), at_once)
    if at_once == 1:
        return jax.lax.map(function, arguments)
    return jax.lax.map(function, arguments, batch_size=at_once)


def stage(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)`, with results that are kept.

    XLA fuses what follows into every result, so that three colours compute what they share three
    times; it does not look through a condition, which is true here.
    """
    known = next(x for x in jax.tree.leaves(arguments) if jnp.issubdtype(x.dtype, jnp.floating))
    results = jax.eval_shape(function, *arguments)
    return jax.lax.cond(
        ~(known.ravel()[0] > jnp.inf),  # also of what is no number
        function,
        lambda *_: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), results),
        *arguments,
    )


def compact(active: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Indices of the true entries first (T, P) and their number (T,)."""
    count = active.shape[-1]
    order = jnp.sort(jnp.where(active, jnp.arange(count, dtype=jnp.int32), count), axis=-1)
    return order, active.sum(-1).astype(jnp.int32)


@full_precision
def _in_view(primitives: Primitives, extents, pose, x, y) -> jax.Array:
    """(T, P): may the primitive appear in the tile? By its projected bounding box."""
    signs = jnp.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], jnp.float32)
    corners = primitives.center[:, None] + jnp.einsum(
        "pij,pcj->pci", primitives.rotation, signs * extents[:, None]
    )
    corners = (corners - pose[:3, 3]) @ pose[:3, :3]
    z = corners[..., 2]
    ahead = z > NEAR
    px, py = corners[..., 0] / jnp.maximum(z, NEAR), corners[..., 1] / jnp.maximum(z, NEAR)
    whole = ahead.all(-1)  # a box that reaches behind the camera may project anywhere
    overlap = (
        (px.min(-1) <= x.max(-1)[:, None])
        & (px.max(-1) >= x.min(-1)[:, None])
        & (py.min(-1) <= y.max(-1)[:, None])
        & (py.max(-1) >= y.min(-1)[:, None])
    )
    return primitives.mask & ahead.any(-1) & (overlap | ~whole)


def _key(t, row):
    """Depth and material row in one integer that sorts by depth.

    One carried value lets XLA compute each intersection once. Depth keeps 13 bits of mantissa
    (6e-5 relative); planes get theirs back in full in `_surface`.
    """
    return (jax.lax.bitcast_convert_type(t, jnp.int32) & ~_ROW_MASK) | row


def safe_inverse(d: jax.Array) -> jax.Array:
    """1 / d, finite for d = 0."""
    return 1.0 / jnp.where(jnp.abs(d) < TINY, TINY, d)


def _hit_box(o, d, size):
    """Entry distance of rays into a box centred at 0, inf for a miss."""
    inverse = [safe_inverse(c) for c in d]
    near, far = -jnp.inf, jnp.inf
    for c, i, h in zip(o, inverse, size, strict=True):
        middle, half = -c * i, h * jnp.abs(i)
        near, far = jnp.maximum(near, middle - half), jnp.minimum(far, middle + half)
    return jnp.where((near < far) & (near > NEAR), near, jnp.inf)


def _hit_cone(o, d, size):
    """Entry distance into a truncated cone along z, inf for a miss."""
    bottom, top, half = size
    slope, middle = (top - bottom) / (2 * half), (top + bottom) / 2
    at = middle + slope * o[2]
    a = d[0] * d[0] + d[1] * d[1] - (slope * d[2]) ** 2
    a = jnp.where(jnp.abs(a) < TINY, TINY, a)
    b = o[0] * d[0] + o[1] * d[1] - slope * at * d[2]
    c = o[0] * o[0] + o[1] * o[1] - at * at
    disc = b * b - a * c
    side = (-b - jnp.sqrt(jnp.maximum(disc, 0.0))) / a
    good = (disc > 0) & (side > NEAR) & (jnp.abs(o[2] + side * d[2]) <= half)
    side = jnp.where(good, side, jnp.inf)
    sign = -jnp.sign(d[2])
    cap = (sign * half - o[2]) * safe_inverse(d[2])
    x, y = o[0] + cap * d[0], o[1] + cap * d[1]
    radius = middle + sign * slope * half
    good = (cap > NEAR) & (x * x + y * y <= radius * radius)
    return jnp.minimum(side, jnp.where(good, cap, jnp.inf))


def _hit_ellipsoid(o, d, size):
    """Entry distance into an ellipsoid, inf for a miss."""
    o = [c / h for c, h in zip(o, size, strict=True)]
    d = [c / h for c, h in zip(d, size, strict=True)]
    a = sum(c * c for c in d)
    b = sum(p * q for p, q in zip(o, d, strict=True))
    disc = b * b - a * (sum(c * c for c in o) - 1.0)
    t = (-b - jnp.sqrt(jnp.maximum(disc, 0.0))) / a
    return jnp.where((disc > 0) & (t > NEAR), t, jnp.inf)


@full_precision
def _cast(primitives, first_row, hit, pose, x, y, order, count, best):
    """Nearest hit of a tile's rays with the listed primitives, against the keys `best`."""
    # local rays: o = R^T (camera - centre), d = M (x, y, 1)
    origin = jnp.einsum("pji,pj->pi", primitives.rotation, pose[:3, 3] - primitives.center)
    to_local = jnp.einsum("pji,jk->pik", primitives.rotation, pose[:3, :3])

    def visit(k, best):
        i = order[k]
        o, m, size = origin[i], to_local[i], primitives.size[i]
        d = [m[j, 0] * x + m[j, 1] * y + m[j, 2] for j in range(3)]
        t = hit([o[0], o[1], o[2]], d, [size[0], size[1], size[2]])
        return jnp.minimum(best, _key(t, first_row + i))

    return jax.lax.fori_loop(0, count, visit, best)


@program(static_argnames=("shift", "at_once"))
def cast_rays(
    room: Room, pose: jax.Array, camera: Camera, shift=0.0, at_once=1, active=None
) -> Geometry:
    """Nearest surface along every pixel's ray.

    Args:
        room: the room; the camera must be outside all its solids. From outside of the room, rays
            that do not enter it give nonsense.
        pose: (4, 4) world_from_camera.
        camera: intrinsics.
        shift: rays go through pixel + shift (0: centres, -0.5: corners).
        at_once: tiles computed in parallel.
        active: (T,) bool, the tiles that are wanted; all by default.

    Returns:
        Tiled depth and material rows.
    """
    x, y, _ = tiles_of(camera, shift)
    if room.materials.pattern.shape[-1] > _ROW_MASK + 1:
        raise ValueError(f"a room has at most {_ROW_MASK + 1 - SHELL_FACES} primitives")
    lists = []
    row = SHELL_FACES
    extents = bounding_boxes(room).size
    for primitives, hit in (
        (room.boxes, _hit_box),
        (room.cones, _hit_cone),
        (room.ellipsoids, _hit_ellipsoid),
    ):
        count = primitives.mask.shape[0]
        own = extents[row - SHELL_FACES : row - SHELL_FACES + count]
        lists.append((primitives, row, hit, compact(_in_view(primitives, own, pose, x, y))))
        row += count

    def tile(arguments):
        x, y, compact = arguments
        d = [pose[j, 0] * x + pose[j, 1] * y + pose[j, 2] for j in range(3)]
        best = jnp.full(x.shape, jnp.iinfo(jnp.int32).max)
        for j in range(3):
            ahead = jnp.where(d[j] > 0, room.size[j] - pose[j, 3], pose[j, 3])
            wall = ahead / jnp.maximum(jnp.abs(d[j]), TINY)
            best = jnp.minimum(best, _key(wall, 2 * j + (d[j] > 0)))
        for (primitives, row, hit, _), (order, count) in zip(lists, compact, strict=True):
            best = _cast(primitives, row, hit, pose, x, y, order, count, best)
        return best

    keys = map_tiles(tile, (x, y, [entry[3] for entry in lists]), at_once, active)
    depth = jax.lax.bitcast_convert_type(keys & ~_ROW_MASK, jnp.float32)
    return Geometry(depth, keys & _ROW_MASK)
