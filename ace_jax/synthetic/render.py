"""Ray casting of rooms: metric z-depth and linear light, tile by tile, then a picture.

`render` is one pure function; it runs as a chain of jits (rays, surfaces, paint, light, exposure),
because in one XLA fuses the stages and computes the earlier again for every use. Per tile only the
primitives that can be seen there, or can shade it, are visited. Pixels are shaded once; edges are
smoothed by casting a second grid of rays through the pixel corners and mixing the colours of the
surfaces that they hit.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ace_jax.geometry.camera import Camera
from ace_jax.precision import full_precision
from ace_jax.synthetic import textures
from ace_jax.synthetic.room import (
    SHELL_FACES,
    Illumination,
    Materials,
    Primitives,
    Room,
    bounding_boxes,
)

TILE_W, TILE_H = 80, 60  # pixels; small enough for the cache, large enough to amortise a loop
NEAR = 0.05  # metres; nothing nearer is drawn
OCCLUSION_REACH = 0.30  # metres over which objects darken each other's surroundings
_TINY = 1e-9
_ROW_MASK = 1023  # material rows fit in the low bits of a key


class Geometry(NamedTuple):
    """What each ray hits, tiles first: depth (T, K) z-depth in metres, id (T, K) material row."""

    depth: jax.Array
    id: jax.Array


def _tiles(camera: Camera, shift: float) -> tuple[jax.Array, jax.Array, int]:
    """Normalised ray directions x, y (T, K) of all tiles, and the number of tiles per row."""
    columns, rows = -(-camera.width // TILE_W), -(-camera.height // TILE_H)
    u = jnp.arange(columns * TILE_W, dtype=jnp.float32) + shift
    v = jnp.arange(rows * TILE_H, dtype=jnp.float32) + shift
    u = jnp.broadcast_to(u.reshape(1, columns, 1, TILE_W), (rows, columns, TILE_H, TILE_W))
    v = jnp.broadcast_to(v.reshape(rows, 1, TILE_H, 1), (rows, columns, TILE_H, TILE_W))
    shape = (rows * columns, TILE_H * TILE_W)
    return *camera.normalised(u.reshape(shape), v.reshape(shape)), columns


def _untile(values: jax.Array, columns: int, camera: Camera) -> jax.Array:
    """(T, K) to (height, width)."""
    rows = values.shape[0] // columns
    image = values.reshape(rows, columns, TILE_H, TILE_W).transpose(0, 2, 1, 3)
    image = image.reshape(rows * TILE_H, columns * TILE_W)
    return image[: camera.height, : camera.width]


def _map_tiles(function, arguments, at_once: int, active=None):
    """`lax.map` over tiles; `at_once` of them in parallel (accelerators want all).

    Where `active` (T,) is given and False, the result is zeros and costs nothing (one at a time).
    """
    if active is not None:

        def guarded(pair):
            shapes = jax.eval_shape(function, pair[1])
            empty = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
            return jax.lax.cond(pair[0], function, lambda _: empty, pair[1])

        return _map_tiles(guarded, (active, arguments), at_once)
    if at_once == 1:
        return jax.lax.map(function, arguments)
    return jax.lax.map(function, arguments, batch_size=at_once)


def _compact(active: jax.Array) -> tuple[jax.Array, jax.Array]:
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


def _safe_inverse(d: jax.Array) -> jax.Array:
    return 1.0 / jnp.where(jnp.abs(d) < _TINY, _TINY, d)


def _hit_box(o, d, size):
    """Entry distance of rays into a box centred at 0, inf for a miss."""
    inverse = [_safe_inverse(c) for c in d]
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
    a = jnp.where(jnp.abs(a) < _TINY, _TINY, a)
    b = o[0] * d[0] + o[1] * d[1] - slope * at * d[2]
    c = o[0] * o[0] + o[1] * o[1] - at * at
    disc = b * b - a * c
    side = (-b - jnp.sqrt(jnp.maximum(disc, 0.0))) / a
    good = (disc > 0) & (side > NEAR) & (jnp.abs(o[2] + side * d[2]) <= half)
    side = jnp.where(good, side, jnp.inf)
    sign = -jnp.sign(d[2])
    cap = (sign * half - o[2]) * _safe_inverse(d[2])
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


@functools.partial(jax.jit, static_argnames=("shift", "at_once"))
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
    x, y, _ = _tiles(camera, shift)
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
        lists.append((primitives, row, hit, _compact(_in_view(primitives, own, pose, x, y))))
        row += count

    def tile(arguments):
        x, y, compact = arguments
        d = [pose[j, 0] * x + pose[j, 1] * y + pose[j, 2] for j in range(3)]
        best = jnp.full(x.shape, jnp.iinfo(jnp.int32).max)
        for j in range(3):
            ahead = jnp.where(d[j] > 0, room.size[j] - pose[j, 3], pose[j, 3])
            wall = ahead / jnp.maximum(jnp.abs(d[j]), _TINY)
            best = jnp.minimum(best, _key(wall, 2 * j + (d[j] > 0)))
        for (primitives, row, hit, _), (order, count) in zip(lists, compact, strict=True):
            best = _cast(primitives, row, hit, pose, x, y, order, count, best)
        return best

    keys = _map_tiles(tile, (x, y, [entry[3] for entry in lists]), at_once, active)
    depth = jax.lax.bitcast_convert_type(keys & ~_ROW_MASK, jnp.float32)
    return Geometry(depth, keys & _ROW_MASK)


class Surface(NamedTuple):
    """Points that were hit; leaves (K,), vectors as lists of three.

    Attributes:
        depth: z-depth, metres.
        position: world, metres.
        normal: world, towards the camera.
        u: metres along the face, from its corner.
        v: metres across the face.
        extent_u: metres, size of the face.
        extent_v: metres.
        face: number of the face on its primitive.
        footprint: metres covered by a pixel.
    """

    depth: jax.Array
    position: list[jax.Array]
    normal: list[jax.Array]
    u: jax.Array
    v: jax.Array
    extent_u: jax.Array
    extent_v: jax.Array
    face: jax.Array
    footprint: jax.Array


def _choose(condition, options):
    """`options[condition]` for condition in 0, 1, 2."""
    return jnp.where(condition == 0, options[0], jnp.where(condition == 1, options[1], options[2]))


def _angle(y, x):
    """atan2 to 0.005 rad, good enough to wrap a texture (libm's is scalar and 10x slower)."""
    a, b = jnp.abs(x), jnp.abs(y)
    q = jnp.minimum(a, b) / (jnp.maximum(a, b) + _TINY)
    angle = q * (0.25 * jnp.pi + 0.273 * (1.0 - q))
    angle = jnp.where(b > a, 0.5 * jnp.pi - angle, angle)
    angle = jnp.where(x < 0, jnp.pi - angle, angle)
    return jnp.where(y < 0, -angle, angle)


def _surface(room: Room, pose, camera: Camera, x, y, depth, ids) -> Surface:
    """Position, normal and surface coordinates of the hits."""
    n_box, n_cone = room.boxes.mask.shape[0], room.cones.mask.shape[0]
    solids = jax.tree.map(lambda *a: jnp.concatenate(a), room.boxes, room.cones, room.ellipsoids)
    # the shell is a box centred in the room, seen from inside
    center = jnp.concatenate([0.5 * room.size[None], solids.center])
    rotation = jnp.concatenate([jnp.eye(3)[None], solids.rotation])
    size = jnp.concatenate([0.5 * room.size[None], solids.size])
    shell = ids < SHELL_FACES
    k = jnp.maximum(ids - (SHELL_FACES - 1), 0)
    is_cone = (ids >= SHELL_FACES + n_box) & (ids < SHELL_FACES + n_box + n_cone)
    is_ellipsoid = ids >= SHELL_FACES + n_box + n_cone

    d = [pose[j, 0] * x + pose[j, 1] * y + pose[j, 2] for j in range(3)]
    rel = [pose[j, 3] + depth * d[j] - center[:, j][k] for j in range(3)]
    r = [[rotation[:, i, j][k] for j in range(3)] for i in range(3)]
    p = [sum(r[i][j] * rel[i] for i in range(3)) for j in range(3)]
    h = [size[:, j][k] for j in range(3)]

    # boxes: the face whose plane is nearest
    gap = [jnp.abs(jnp.abs(p[j]) - h[j]) for j in range(3)]
    axis = jnp.where((gap[0] <= gap[1]) & (gap[0] <= gap[2]), 0, jnp.where(gap[1] <= gap[2], 1, 2))
    axis = jnp.where(shell, ids // 2, axis)
    side = jnp.where(_choose(axis, p) > 0, 1.0, -1.0)
    # exact depth on planes: cast_rays drops bits
    local_d = [sum(r[i][j] * d[i] for i in range(3)) for j in range(3)]
    step = (side * _choose(axis, h) - _choose(axis, p)) * _safe_inverse(_choose(axis, local_d))
    step = jnp.where(is_cone | is_ellipsoid, 0.0, jnp.clip(step, -1e-3 * depth, 1e-3 * depth))
    depth = depth + step
    p = [p[j] + step * local_d[j] for j in range(3)]
    position = [pose[j, 3] + depth * d[j] for j in range(3)]
    bevel = 0.35 * (~shell)

    def rounded(j):
        # near an edge the normal leans over it, as on real edges; 4 mm wide
        lean = jnp.clip(1.0 - (h[j] - jnp.abs(p[j])) / 0.004, 0.0, 1.0) * bevel * jnp.sign(p[j])
        return jnp.where(axis == j, side, lean)

    box_n = [rounded(j) for j in range(3)]
    cone_half, cone_mid = h[2], 0.5 * (h[0] + h[1])
    slope = (h[1] - h[0]) / (2 * cone_half)
    cap = jnp.abs(jnp.abs(p[2]) - cone_half) < 1e-4 + 1e-4 * depth
    cone_n = [
        jnp.where(cap, 0.0, p[0]),
        jnp.where(cap, 0.0, p[1]),
        jnp.where(cap, jnp.sign(p[2]), -slope * (cone_mid + slope * p[2])),
    ]
    ball_n = [p[j] / (h[j] * h[j]) for j in range(3)]
    n = [
        jnp.where(is_ellipsoid, ball_n[j], jnp.where(is_cone, cone_n[j], box_n[j]))
        for j in range(3)
    ]
    n = [jnp.where(shell, -c, c) for c in n]
    scale = jax.lax.rsqrt(sum(c * c for c in n) + 1e-20)
    n = [c * scale for c in n]
    normal = [sum(r[i][j] * n[j] for j in range(3)) for i in range(3)]

    # surface coordinates: boxes by face; cones unrolled; ellipsoids by their flattest side
    flat = jnp.where((h[0] <= h[1]) & (h[0] <= h[2]), 0, jnp.where(h[1] <= h[2], 1, 2))
    face_axis = jnp.where(is_ellipsoid, flat, jnp.where(is_cone, 2, axis))
    a = jnp.where(face_axis == 0, p[1], p[0])
    b = jnp.where(face_axis == 2, p[1], p[2])
    ha = jnp.where(face_axis == 0, h[1], h[0])
    hb = jnp.where(face_axis == 2, h[1], h[2])
    # read from the outside: mirrored where the face looks along -x or +y
    mirror = jnp.where(shell, -1.0, 1.0) * side * jnp.where(face_axis == 1, -1.0, 1.0)
    a = jnp.where((face_axis < 2) & ~is_ellipsoid, a * mirror, a)
    radius = jnp.maximum(h[0], h[1])
    around = radius * (_angle(p[1], p[0]) + jnp.pi)
    rolled = is_cone & ~cap
    ha, hb = jnp.where(is_cone, radius, ha), jnp.where(is_cone, radius, hb)
    u = jnp.where(rolled, around, a + ha)
    v = jnp.where(rolled, p[2] + cone_half, b + hb)
    extent_u = jnp.where(rolled, 2 * jnp.pi * radius, 2 * ha)
    extent_v = jnp.where(rolled, 2 * cone_half, 2 * hb)
    face = jnp.where(is_cone, cap.astype(jnp.int32), 2 * face_axis + (side > 0))
    face = jnp.where(is_ellipsoid, 0, face).astype(jnp.int32)
    cosine = sum(normal[j] * d[j] for j in range(3)) * jax.lax.rsqrt(sum(c * c for c in d))
    footprint = depth / camera.fx / jnp.sqrt(jnp.maximum(jnp.abs(cosine), 0.05))
    return Surface(depth, position, normal, u, v, extent_u, extent_v, face, footprint)


def _material(materials: Materials, ids) -> Materials:
    """The rows `ids` (K,), vectors as lists of arrays (K,)."""
    return Materials(
        pattern=materials.pattern[ids],
        seed=materials.seed[ids],
        colors=[[materials.colors[:, i, j][ids] for j in range(3)] for i in range(3)],
        scale=[materials.scale[:, i][ids] for i in range(2)],
        aux=materials.aux[ids],
        contrast=materials.contrast[ids],
        gloss=materials.gloss[ids],
        emission=materials.emission[ids],
    )


def _occlusion(blockers: Primitives, room_size, surface: Surface, order, count):
    """Share of the ambient light that arrives, from distances a little off the surface."""
    near, far = 0.07, OCCLUSION_REACH
    p, n = surface.position, surface.normal
    taps = [[p[j] + h * n[j] for j in range(3)] for h in (near, far)]
    start = tuple(
        functools.reduce(jnp.minimum, [jnp.minimum(q[j], room_size[j] - q[j]) for j in range(3)])
        for q in taps
    )

    def visit(k, distances):
        i = order[k]
        c, r, half = blockers.center[i], blockers.rotation[i], blockers.size[i]
        out = []
        for q, old in zip(taps, distances, strict=True):
            e = [q[j] - c[j] for j in range(3)]
            e = [
                jnp.abs(r[0, j] * e[0] + r[1, j] * e[1] + r[2, j] * e[2]) - half[j]
                for j in range(3)
            ]
            outside = sum(jnp.square(jnp.maximum(w, 0.0)) for w in e)
            inside = jnp.minimum(jnp.maximum(e[0], jnp.maximum(e[1], e[2])), 0.0)
            out.append(jnp.minimum(old, jnp.sqrt(outside) + inside))
        return tuple(out)

    d_near, d_far = jax.lax.fori_loop(0, count, visit, start)
    near_part = jnp.clip(1 - d_near / near, 0.0, 1.0)
    far_part = jnp.clip(1 - d_far / far, 0.0, 1.0)
    return (1 - 0.45 * near_part) * (1 - 0.60 * far_part)


def _shadow(blockers: Primitives, light, radius, surface: Surface, order, count):
    """Share of a lamp's light that arrives, with penumbrae that widen behind the blocker."""
    p = surface.position
    d = [light[j] - p[j] for j in range(3)]
    length = jnp.sqrt(sum(c * c for c in d))

    def visit(k, visible):
        i = order[k]
        c, r, half = blockers.center[i], blockers.rotation[i], blockers.size[i]
        e = [p[j] - c[j] for j in range(3)]
        near, far = 0.0, 1.0
        for j in range(3):
            o = r[0, j] * e[0] + r[1, j] * e[1] + r[2, j] * e[2]
            inverse = _safe_inverse(r[0, j] * d[0] + r[1, j] * d[1] + r[2, j] * d[2])
            middle, span = -o * inverse, half[j] * jnp.abs(inverse)
            near, far = jnp.maximum(near, middle - span), jnp.minimum(far, middle + span)
        chord = (far - near) * length
        width = 0.03 + radius * near / jnp.maximum(1.0 - near, 0.1)
        blocked = jnp.clip(chord / width, 0.0, 1.0)
        return visible * (1.0 - blocked * blocked * (3.0 - 2.0 * blocked))

    return jax.lax.fori_loop(0, count, visit, jnp.ones_like(length))


def _blockers(room: Room) -> Primitives:
    """What shades: bounding boxes, drawn in a little where the solid is round."""
    boxes = bounding_boxes(room)
    is_round = jnp.arange(boxes.mask.shape[0]) >= room.boxes.mask.shape[0]
    return boxes.replace(size=boxes.size * jnp.where(is_round, 0.8, 1.0)[:, None])


@functools.partial(jax.jit, static_argnames=("at_once",))
def find_surfaces(
    room: Room, pose: jax.Array, camera: Camera, hits: Geometry, at_once=1, active=None
):
    """The surfaces that were hit and their materials, leaves (T, K)."""
    x, y, _ = _tiles(camera, 0.0)

    def tile(arguments):
        x, y, depth, ids = arguments
        surface = _surface(room, pose, camera, x, y, depth, ids)
        return surface, _material(room.materials, ids)

    return _map_tiles(tile, (x, y, hits.depth, hits.id), at_once, active)


@functools.partial(jax.jit, static_argnames=("at_once",))
def paint(surface: Surface, material: Materials, at_once=1) -> list[jax.Array]:
    """Diffuse colour of the surfaces: three arrays (T, K), linear RGB."""

    def tile(arguments):
        s, material = arguments
        return textures.albedo(material, s.u, s.v, s.extent_u, s.extent_v, s.face, s.footprint)

    return _map_tiles(tile, (surface, material), at_once)


@functools.partial(jax.jit, static_argnames=("at_once",))
@full_precision
def illuminate(
    room: Room,
    pose: jax.Array,
    light: Illumination,
    surface: Surface,
    material: Materials,
    color: list[jax.Array],
    at_once=1,
    active=None,
) -> list[jax.Array]:
    """Radiance of the surfaces: three arrays (T, K), linear RGB."""
    blockers = _blockers(room)
    reach = jnp.sqrt((blockers.size**2).sum(-1))
    spans = jnp.einsum("pij,pj->pi", jnp.abs(blockers.rotation), blockers.size)

    # what is near a tile's points, and what may stand between them and a lamp
    points = jnp.stack(surface.position, -1)
    low, high = points.min(1), points.max(1)
    middle, ball = 0.5 * (low + high), 0.5 * jnp.linalg.norm(high - low, axis=-1)
    gap = jnp.maximum(low[:, None] - blockers.center, blockers.center - high[:, None]) - spans
    near = jnp.linalg.norm(jnp.maximum(gap, 0.0), axis=-1) < 2 * OCCLUSION_REACH
    lists = [_compact(blockers.mask & blockers.casts_shadow & near)]
    for lamp in light.position:
        axis = lamp - middle
        offset = blockers.center - middle[:, None]
        along = jnp.einsum("tpi,ti->tp", offset, axis)
        along = jnp.clip(along / jnp.maximum((axis**2).sum(-1), _TINY)[:, None], 0.0, 1.0)
        apart = jnp.linalg.norm(offset - along[..., None] * axis[:, None], axis=-1)
        between = apart < reach + ball[:, None] * (1 - 0.5 * along)
        # and the box, grown by the ball, meets the segment to the lamp
        inverse = _safe_inverse(axis)[:, None]
        centre_t, half_t = offset * inverse, (spans + ball[:, None, None]) * jnp.abs(inverse)
        enter, leave = (centre_t - half_t).max(-1), (centre_t + half_t).min(-1)
        between &= (enter < leave) & (enter < 1.0) & (leave > 0.0)
        lists.append(_compact(blockers.mask & blockers.casts_shadow & between))

    def tile(arguments):
        surface, material, color, (occluders, *shaders) = arguments
        n, p = surface.normal, surface.position
        open_sky = _occlusion(blockers, room.size, surface, *occluders)
        view = [pose[j, 3] - p[j] for j in range(3)]
        ray = jax.lax.rsqrt(sum(c * c for c in view))
        up = 0.5 + 0.5 * n[2]
        total = [open_sky * light.ambient[j] * (0.72 + 0.28 * up) for j in range(3)]
        shine = [jnp.zeros_like(ray)] * 3
        for k, shaders_k in enumerate(shaders):
            to_light = [light.position[k, j] - p[j] for j in range(3)]
            square = sum(c * c for c in to_light)
            inverse = jax.lax.rsqrt(square + 0.01)
            cosine = sum(a * b for a, b in zip(n, to_light, strict=True)) * inverse
            wrapped = jnp.maximum((cosine + 0.15) / 1.15, 0.0)  # an area light reaches round
            seen = _shadow(blockers, light.position[k], light.radius[k], surface, *shaders_k)
            # softer than 1/r^2 near the lamp: it is not a point either
            strength = wrapped * seen / (square + 0.6)
            half = [a * inverse + b * ray for a, b in zip(to_light, view, strict=True)]
            norm = jax.lax.rsqrt(sum(c * c for c in half) + _TINY)
            lobe = jnp.maximum(sum(a * b for a, b in zip(n, half, strict=True)) * norm, 0.0)
            for _ in range(5):  # to the power of 32
                lobe = lobe * lobe
            lobe = lobe * material.gloss * strength
            total = [total[j] + strength * light.color[k, j] for j in range(3)]
            shine = [shine[j] + lobe * light.color[k, j] for j in range(3)]
        return [color[j] * (total[j] + material.emission) + shine[j] for j in range(3)]

    return _map_tiles(tile, (surface, material, color, lists), at_once, active)


_AROUND = ((-1, -1), (-1, 1), (1, -1), (1, 1))  # corners of a pixel, (dy, dx)


def _shifted(image: jax.Array, dy: int, dx: int) -> jax.Array:
    """The image moved so that pixel (y, x) shows (y + dy, x + dx); edges repeat."""
    padded = jnp.pad(image, 1, mode="edge")
    h, w = image.shape
    return padded[1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]


@jax.jit
def find_edges(centers: Geometry, corners: Geometry, camera: Camera) -> jax.Array:
    """Where each pixel's corners take their colour from: 2 bits a corner, (H, W) int32.

    0: the pixel itself (same surface, or nobody knows better); else the neighbour, diagonal,
    vertical or horizontal, that shows the surface which the corner's ray hits.
    """
    columns = _tiles(camera, 0.0)[2]
    ids = _untile(centers.id, columns, camera)
    corner = _untile(corners.id, columns, camera)
    code = jnp.zeros_like(ids)
    for k, (dy, dx) in enumerate(_AROUND):
        want = _shifted(corner, (dy + 1) // 2, (dx + 1) // 2)
        source = jnp.zeros_like(ids)
        for number, (ny, nx) in ((1, (dy, dx)), (2, (dy, 0)), (3, (0, dx))):
            source = jnp.where(_shifted(ids, ny, nx) == want, number, source)
        code = code | (jnp.where(ids == want, 0, source) << (2 * k))
    return code


@jax.jit
def expose(
    radiance: list[jax.Array], depth: jax.Array, edges: jax.Array, camera: Camera, exposure
) -> tuple[jax.Array, jax.Array]:
    """Tone-maps, smooths edges: (H, W, 3) float in [0, 1], gamma-encoded; and depth (H, W)."""
    columns = _tiles(camera, 0.0)[2]
    channels = []
    for channel in radiance:
        # a film's shoulder: highlights do not clip
        film = 1.0 - jnp.exp(-exposure * _untile(channel, columns, camera))
        total = 0.5 * film
        for k, (dy, dx) in enumerate(_AROUND):
            code = (edges >> (2 * k)) & 3
            value = jnp.where(code == 1, _shifted(film, dy, dx), film)
            value = jnp.where(code == 2, _shifted(film, dy, 0), value)
            total = total + 0.125 * jnp.where(code == 3, _shifted(film, 0, dx), value)
        # sRGB's curve from square roots, within 0.01
        root = jnp.sqrt(jnp.maximum(total, 0.0))
        fourth = jnp.sqrt(root)
        encoded = 0.585122 * root + 0.783140 * fourth - 0.368263 * jnp.sqrt(fourth)
        channels.append(jnp.clip(encoded, 0.0, 1.0))
    return jnp.stack(channels, -1), _untile(depth, columns, camera)


def render(
    room: Room,
    world_from_camera: jax.Array,
    camera: Camera,
    illumination: Illumination | None = None,
    tiles_at_once: int = 1,
) -> tuple[jax.Array, jax.Array]:
    """A picture of the room. Pure; may be jitted and vmapped over rooms, poses and lights.

    Args:
        room: the room.
        world_from_camera: (4, 4) camera pose; the camera is in free space.
        camera: intrinsics; width and height are static.
        illumination: the light; the room's own by default.
        tiles_at_once: image tiles computed in parallel: 1 for CPUs, more for accelerators.

    Returns:
        rgb (H, W, 3) float32 in [0, 1], gamma-encoded, and depth (H, W) z-depth in metres.
    """
    light = room.illumination if illumination is None else illumination
    pose = world_from_camera
    centers = cast_rays(room, pose, camera, at_once=tiles_at_once)
    corners = cast_rays(room, pose, camera, shift=-0.5, at_once=tiles_at_once)
    surface, material = find_surfaces(room, pose, camera, centers, at_once=tiles_at_once)
    color = paint(surface, material, at_once=tiles_at_once)
    radiance = illuminate(room, pose, light, surface, material, color, at_once=tiles_at_once)
    edges = find_edges(centers, corners, camera)
    return expose(radiance, surface.depth, edges, camera, light.exposure)
