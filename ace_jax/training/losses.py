"""Losses on scene coordinates: dynamic tanh, reprojection NLL, coordinate NLL.

Points are in world axes, metres; a pose `camera_from_world` may be (4, 4) or (3, 4), one for all
points or one per point; the camera's fields may be scalars or (N,). Every function returns one
value per point; `masked_mean` reduces them. Gradients are finite everywhere.
"""

import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.geometry.camera import MIN_DEPTH, Camera, project, unproject
from ace_jax.precision import full_precision

MAX_DEPTH = 1000.0  # metres
MAX_ERROR = 1000.0  # pixels
ACE_PRIOR_DEPTH = 10.0  # metres; where ACE sends invalid points
ACE_G_PRIOR_DEPTH = 0.1  # metres; where ACE-G's five-minute settings send them
MIN_SCALE_PX = 1e-4
MIN_SCALE_M = 1e-4
_TINY = 1e-12
_SQRT2 = 2.0**0.5


@flax.struct.dataclass
class Reprojection:
    """Where predicted points land.

    Attributes:
        point: (N, 3) in camera axes, metres.
        depth: (N,) z, not below 0.1 m.
        error: (N,) L1 distance to the pixel, pixels.
        valid: (N,) bool; False behind or too near the camera, too far away, or off by > 1000 px.
    """

    point: jax.Array
    depth: jax.Array
    error: jax.Array
    valid: jax.Array


@full_precision
def reproject(
    xyz: jax.Array, camera_from_world: jax.Array, camera: Camera, uv: jax.Array
) -> Reprojection:
    """Projects points (N, 3) and compares them with their pixels (N, 2)."""
    rotation, translation = camera_from_world[..., :3, :3], camera_from_world[..., :3, 3]
    point = jnp.einsum("...ij,...j->...i", rotation, xyz) + translation
    z = point[..., 2]
    error = jnp.sum(jnp.abs(project(point, camera) - uv), axis=-1)
    valid = (z >= MIN_DEPTH) & (z <= MAX_DEPTH) & (error <= MAX_ERROR)
    return Reprojection(point, jnp.maximum(z, MIN_DEPTH), error, valid)


def tanh_width(
    progress: jax.Array | float, widest: float = 50.0, narrowest: float = 1.0, circle: bool = True
) -> jax.Array:
    """Width w of the dynamic tanh at `progress` in [0, 1], pixels.

    w = widest * sqrt(1 - progress^2) + narrowest (a quarter circle), or linear in progress.
    """
    progress = jnp.asarray(progress, jnp.float32)
    left = jnp.sqrt(jnp.maximum(1.0 - progress**2, 0.0)) if circle else 1.0 - progress
    return widest * left + narrowest


def dynamic_tanh(error: jax.Array, width: jax.Array | float) -> jax.Array:
    """w tanh(error / w): L1 for small errors, constant for large ones."""
    return width * jnp.tanh(error / width)


def ace_loss(
    reprojection: Reprojection,
    camera: Camera,
    uv: jax.Array,
    width: jax.Array | float,
    euclidean: bool = False,
) -> jax.Array:
    """ACE's loss (N,): dynamic tanh where valid, else distance to the point at 10 m on the ray.

    Brachmann et al., "Accelerated Coordinate Encoding", CVPR 2023. That distance is L1 in camera
    axes there; ACE-G without uncertainty takes it `euclidean`.
    """
    difference = reprojection.point - _on_ray(reprojection, camera, uv, ACE_PRIOR_DEPTH)
    away = _norm(difference) if euclidean else jnp.sum(jnp.abs(difference), axis=-1)
    return jnp.where(reprojection.valid, dynamic_tanh(reprojection.error, width), away)


def reprojection_nll(
    reprojection: Reprojection,
    scale: jax.Array,
    camera: Camera,
    uv: jax.Array,
    prior_depth: float = ACE_G_PRIOR_DEPTH,
) -> jax.Array:
    """ACE-G's mapping loss (N,): Laplace NLL of the pixel error.

    Valid: log s_px + sqrt(2) e / s_px with s_px = s fx / z. Invalid: the same form in metres for
    the Euclidean distance to the point at `prior_depth` on the pixel's ray.

    Args:
        reprojection: of the predictions.
        scale: (N,) predicted standard deviation s, metres.
        camera: intrinsics.
        uv: (N, 2) the pixels.
        prior_depth: metres.
    """
    scale_px = jnp.maximum(scale * camera.fx / reprojection.depth, MIN_SCALE_PX)
    inside = _laplace(reprojection.error, scale_px)
    away = _norm(reprojection.point - _on_ray(reprojection, camera, uv, prior_depth))
    # Upstream does not clamp here; the bound only keeps an underflow finite.
    return jnp.where(reprojection.valid, inside, _laplace(away, jnp.maximum(scale, _TINY)))


def coordinate_nll(xyz: jax.Array, scale: jax.Array, target: jax.Array) -> jax.Array:
    """Laplace NLL (N,) of the distance to known points: log s + sqrt(2) |y - target| / s."""
    return _laplace(_norm(xyz - target), jnp.maximum(scale, MIN_SCALE_M))


def student_t_nll(xyz: jax.Array, scale: jax.Array, target: jax.Array) -> jax.Array:
    """Student-t NLL (N,) of the distance r to known points: 3 log s + 2 log(1 + r^2 / s^2).

    One degree of freedom in three dimensions: heavy tails, so that a wrong answer far away pulls
    with a bounded force where the Laplace NLL's grows as 1 / s.
    """
    scale = jnp.maximum(scale, MIN_SCALE_M)
    squared = jnp.sum((xyz - target) ** 2, axis=-1)
    return 3.0 * jnp.log(scale) + 2.0 * jnp.log1p(squared / scale**2)


def masked_mean(values: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Mean over the points that count; masked values have no part in it, nor a gradient.

    What they were computed from must be finite all the same, or be replaced before: behind a
    gradient of zero, the derivative of a NaN is NaN.
    """
    if mask is None:
        return values.mean()
    return jnp.where(mask, values, 0.0).sum() / jnp.maximum(mask.sum(), 1)


def _laplace(error: jax.Array, scale: jax.Array) -> jax.Array:
    return jnp.log(scale) + _SQRT2 * error / scale


def _on_ray(reprojection: Reprojection, camera: Camera, uv: jax.Array, depth: float) -> jax.Array:
    return unproject(uv, jnp.full(reprojection.depth.shape, depth), camera)


def _norm(x: jax.Array) -> jax.Array:
    """Euclidean length along the last axis, with gradient zero at zero."""
    squared = jnp.sum(x**2, axis=-1)
    # The inner `where` hides the square root's infinite slope from the gradient at zero.
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)
