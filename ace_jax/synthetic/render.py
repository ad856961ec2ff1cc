"""Pictures of rooms: ray casting, surfaces, paint, light and exposure, tile by tile.

`render` is one pure function; it runs as a chain of jits (rays, surfaces, paint, light, exposure),
because in one XLA fuses the stages and computes the earlier again for every use. Per tile only the
primitives that can be seen there, or can shade it, are visited. Pixels are shaded once; edges are
smoothed by casting a second grid of rays through the pixel corners and mixing the colours of the
surfaces that they hit.
"""

import functools

import jax
import jax.numpy as jnp

from ace_jax.geometry.camera import Camera
from ace_jax.precision import full_precision
from ace_jax.programs import program
from ace_jax.synthetic import textures
from ace_jax.synthetic.ray_casting import (
    TINY,
    Geometry,
    cast_rays,
    compact,
    map_tiles,
    safe_inverse,
    stage,
    tiles_of,
    untile,
)
from ace_jax.synthetic.room import Illumination, Materials, Primitives, Room, bounding_boxes
from ace_jax.synthetic.surfaces import Surface, find_surfaces

OCCLUSION_REACH = 0.30  # metres over which objects darken each other's surroundings


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
            inverse = safe_inverse(r[0, j] * d[0] + r[1, j] * d[1] + r[2, j] * d[2])
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


@program(static_argnames=("at_once",))
def paint(surface: Surface, material: Materials, at_once=1) -> list[jax.Array]:
    """Diffuse colour of the surfaces: three arrays (T, K), linear RGB."""

    def tile(arguments):
        s, material = arguments
        return textures.albedo(material, s.u, s.v, s.extent_u, s.extent_v, s.face, s.footprint)

    return map_tiles(tile, (surface, material), at_once)


@program(static_argnames=("at_once",))
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
    lists = [compact(blockers.mask & blockers.casts_shadow & near)]
    for lamp in light.position:
        axis = lamp - middle
        offset = blockers.center - middle[:, None]
        along = jnp.einsum("tpi,ti->tp", offset, axis)
        along = jnp.clip(along / jnp.maximum((axis**2).sum(-1), TINY)[:, None], 0.0, 1.0)
        apart = jnp.linalg.norm(offset - along[..., None] * axis[:, None], axis=-1)
        between = apart < reach + ball[:, None] * (1 - 0.5 * along)
        # and the box, grown by the ball, meets the segment to the lamp
        inverse = safe_inverse(axis)[:, None]
        centre_t, half_t = offset * inverse, (spans + ball[:, None, None]) * jnp.abs(inverse)
        enter, leave = (centre_t - half_t).max(-1), (centre_t + half_t).min(-1)
        between &= (enter < leave) & (enter < 1.0) & (leave > 0.0)
        lists.append(compact(blockers.mask & blockers.casts_shadow & between))

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
            seen = _shadow(blockers, light.position[k], light.radius[k], surface, *shaders_k)

            def lamp(p, n, view, ray, seen, gloss, position):
                to_light = [position[j] - p[j] for j in range(3)]
                square = sum(c * c for c in to_light)
                inverse = jax.lax.rsqrt(square + 0.01)
                cosine = sum(a * b for a, b in zip(n, to_light, strict=True)) * inverse
                wrapped = jnp.maximum((cosine + 0.15) / 1.15, 0.0)  # an area light reaches round
                # softer than 1/r^2 near the lamp: it is not a point either
                strength = wrapped * seen / (square + 0.6)
                half = [a * inverse + b * ray for a, b in zip(to_light, view, strict=True)]
                norm = jax.lax.rsqrt(sum(c * c for c in half) + TINY)
                lobe = jnp.maximum(sum(a * b for a, b in zip(n, half, strict=True)) * norm, 0.0)
                for _ in range(5):  # to the power of 32
                    lobe = lobe * lobe
                return strength, lobe * gloss * strength

            strength, lobe = stage(lamp, p, n, view, ray, seen, material.gloss, light.position[k])
            total = [total[j] + strength * light.color[k, j] for j in range(3)]
            shine = [shine[j] + lobe * light.color[k, j] for j in range(3)]
        return [color[j] * (total[j] + material.emission) + shine[j] for j in range(3)]

    return map_tiles(tile, (surface, material, color, lists), at_once, active)


_AROUND = ((-1, -1), (-1, 1), (1, -1), (1, 1))  # corners of a pixel, (dy, dx)


def _shifted(image: jax.Array, dy: int, dx: int) -> jax.Array:
    """The image moved so that pixel (y, x) shows (y + dy, x + dx); edges repeat."""
    padded = jnp.pad(image, 1, mode="edge")
    h, w = image.shape
    return padded[1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]


@program
def find_edges(centers: Geometry, corners: Geometry, camera: Camera) -> jax.Array:
    """Where each pixel's corners take their colour from: 2 bits a corner, (H, W) int32.

    0: the pixel itself (same surface, or nobody knows better); else the neighbour, diagonal,
    vertical or horizontal, that shows the surface which the corner's ray hits.
    """
    columns = tiles_of(camera, 0.0)[2]
    ids = untile(centers.id, columns, camera)
    corner = untile(corners.id, columns, camera)
    code = jnp.zeros_like(ids)
    for k, (dy, dx) in enumerate(_AROUND):
        want = _shifted(corner, (dy + 1) // 2, (dx + 1) // 2)
        source = jnp.zeros_like(ids)
        for number, (ny, nx) in ((1, (dy, dx)), (2, (dy, 0)), (3, (0, dx))):
            source = jnp.where(_shifted(ids, ny, nx) == want, number, source)
        code = code | (jnp.where(ids == want, 0, source) << (2 * k))
    return code


@program
def expose(
    radiance: list[jax.Array], depth: jax.Array, edges: jax.Array, camera: Camera, exposure
) -> tuple[jax.Array, jax.Array]:
    """Tone-maps, smooths edges: (H, W, 3) float in [0, 1], gamma-encoded; and depth (H, W)."""
    columns = tiles_of(camera, 0.0)[2]
    channels = []

    def develop(film, edges):
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
        return jnp.clip(encoded, 0.0, 1.0)

    for channel in radiance:
        # a film's shoulder: highlights do not clip
        film = 1.0 - jnp.exp(-exposure * untile(channel, columns, camera))
        channels.append(stage(develop, film, edges))
    return jnp.stack(channels, -1), untile(depth, columns, camera)


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
