"""Surfaces that rays hit: exact positions, normals, texture coordinates and materials."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ace_jax.geometry.camera import Camera
from ace_jax.programs import program
from ace_jax.synthetic.ray_casting import TINY, Geometry, map_tiles, safe_inverse, stage, tiles_of
from ace_jax.synthetic.room import SHELL_FACES, Materials, Room


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


def _row(table, k):
    """`table[k]` of numbers that are in the table."""
    return table.at[k].get(mode="promise_in_bounds")


def _angle(y, x):
    """atan2 to 0.005 rad, good enough to wrap a texture (libm's is scalar and 10x slower)."""
    a, b = jnp.abs(x), jnp.abs(y)
    q = jnp.minimum(a, b) / (jnp.maximum(a, b) + TINY)
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
    is_cone = (ids >= SHELL_FACES + n_box) & (ids < SHELL_FACES + n_box + n_cone)
    is_ellipsoid = ids >= SHELL_FACES + n_box + n_cone

    d = [pose[j, 0] * x + pose[j, 1] * y + pose[j, 2] for j in range(3)]

    def in_the_solid(depth, d, k):
        """Position and direction in the axes of the solid, these, and its size."""
        rel = [pose[j, 3] + depth * d[j] - _row(center[:, j], k) for j in range(3)]
        r = [[_row(rotation[:, i, j], k) for j in range(3)] for i in range(3)]
        p = [sum(r[i][j] * rel[i] for i in range(3)) for j in range(3)]
        local_d = [sum(r[i][j] * d[i] for i in range(3)) for j in range(3)]
        return p, local_d, r, [_row(size[:, j], k) for j in range(3)]

    p, local_d, r, h = stage(in_the_solid, depth, d, jnp.maximum(ids - (SHELL_FACES - 1), 0))

    def on_the_face(depth, p, local_d, h):
        # boxes: the face whose plane is nearest
        gap = [jnp.abs(jnp.abs(p[j]) - h[j]) for j in range(3)]
        axis = jnp.where(
            (gap[0] <= gap[1]) & (gap[0] <= gap[2]), 0, jnp.where(gap[1] <= gap[2], 1, 2)
        )
        axis = jnp.where(shell, ids // 2, axis)
        side = jnp.where(_choose(axis, p) > 0, 1.0, -1.0)
        # exact depth on planes: cast_rays drops bits
        step = (side * _choose(axis, h) - _choose(axis, p)) * safe_inverse(_choose(axis, local_d))
        step = jnp.where(is_cone | is_ellipsoid, 0.0, jnp.clip(step, -1e-3 * depth, 1e-3 * depth))
        return axis, side, step

    axis, side, step = stage(on_the_face, depth, p, local_d, h)
    depth = depth + step
    p = [p[j] + step * local_d[j] for j in range(3)]
    position = [pose[j, 3] + depth * d[j] for j in range(3)]

    def unscaled_normal(p, h, side, depth):
        bevel = 0.35 * (~shell)

        def rounded(j):
            # near an edge the normal leans over it, as on real edges; 4 mm wide
            lean = jnp.clip(1.0 - (h[j] - jnp.abs(p[j])) / 0.004, 0.0, 1.0) * bevel
            return jnp.where(axis == j, side, lean * jnp.sign(p[j]))

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
        return [jnp.where(shell, -c, c) for c in n], cap

    n, cap = stage(unscaled_normal, p, h, side, depth)
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
    v = jnp.where(rolled, p[2] + h[2], b + hb)
    extent_u = jnp.where(rolled, 2 * jnp.pi * radius, 2 * ha)
    extent_v = jnp.where(rolled, 2 * h[2], 2 * hb)
    face = jnp.where(is_cone, cap.astype(jnp.int32), 2 * face_axis + (side > 0))
    face = jnp.where(is_ellipsoid, 0, face).astype(jnp.int32)
    cosine = sum(normal[j] * d[j] for j in range(3)) * jax.lax.rsqrt(sum(c * c for c in d))
    footprint = depth / camera.fx / jnp.sqrt(jnp.maximum(jnp.abs(cosine), 0.05))
    return Surface(depth, position, normal, u, v, extent_u, extent_v, face, footprint)


def _material(materials: Materials, ids) -> Materials:
    """The rows `ids` (K,), vectors as lists of arrays (K,)."""
    return Materials(
        pattern=_row(materials.pattern, ids),
        seed=_row(materials.seed, ids),
        colors=[[_row(materials.colors[:, i, j], ids) for j in range(3)] for i in range(3)],
        scale=[_row(materials.scale[:, i], ids) for i in range(2)],
        aux=_row(materials.aux, ids),
        contrast=_row(materials.contrast, ids),
        gloss=_row(materials.gloss, ids),
        emission=_row(materials.emission, ids),
    )


@program(static_argnames=("at_once",))
def find_surfaces(
    room: Room, pose: jax.Array, camera: Camera, hits: Geometry, at_once=1, active=None
):
    """The surfaces that were hit and their materials, leaves (T, K)."""
    x, y, _ = tiles_of(camera, 0.0)

    def tile(arguments):
        x, y, depth, ids = arguments
        surface = _surface(room, pose, camera, x, y, depth, ids)
        return surface, _material(room.materials, ids)

    return map_tiles(tile, (x, y, hits.depth, hits.id), at_once, active)
