"""Weighted rigid alignment of point sets in closed form.

Kabsch, "A solution for the best rotation to relate two sets of vectors", Acta Cryst. A 1976;
Umeyama, PAMI 1991. The rotation comes from `se3.nearest_rotation`, which has finite gradients.
"""

import jax
import jax.numpy as jnp

from ace_jax.geometry import se3
from ace_jax.geometry import small_linalg as la
from ace_jax.precision import full_precision


@full_precision
def kabsch(
    points_a: jax.Array, points_b: jax.Array, weights: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The rigid motion that minimises sum_i w_i |b_i - (R a_i + t)|^2.

    Args:
        points_a: (..., N, 3) points in frame a, metres.
        points_b: (..., N, 3) the same points in frame b, metres.
        weights: (..., N) non-negative; a point of weight 0 is ignored even if it is NaN. Default 1.

    Returns:
        b_from_a (..., 4, 4), and success (...): False (and the identity) where the motion is not
        determined: fewer than 3 points of positive weight, collinear, coincident or not finite.
    """
    if weights is None:
        weights = jnp.ones(points_a.shape[:-1], points_a.dtype)
    used = weights > 0.0
    weights = jnp.where(used, weights, 0.0)
    points_a = jnp.where(used[..., None], points_a, 0.0)
    points_b = jnp.where(used[..., None], points_b, 0.0)
    total = jnp.sum(weights, axis=-1)
    normalised = weights / jnp.where(total > 0.0, total, 1.0)[..., None]
    mean_a = jnp.einsum("...n,...ni->...i", normalised, points_a)
    mean_b = jnp.einsum("...n,...ni->...i", normalised, points_b)
    # Masked points would enter as -mean; their weight 0 removes them.
    centred_a = points_a - mean_a[..., None, :]
    centred_b = points_b - mean_b[..., None, :]
    covariance = jnp.einsum("...n,...ni,...nj->...ij", normalised, centred_b, centred_a)
    rotation, defined = se3.nearest_rotation(la.unstack_matrix(covariance))
    rotation = la.stack_matrix(rotation)
    translation = mean_b - jnp.einsum("...ij,...j->...i", rotation, mean_a)
    finite = jnp.all(jnp.isfinite(translation), axis=-1)
    success = defined & finite & (jnp.sum(used, axis=-1) >= 3)
    # A scatter of rounding errors can look like a plane: points must spread beyond them.
    spread = jnp.einsum("...n,...ni->...", normalised, centred_a**2)
    size = jnp.einsum("...n,...ni->...", normalised, points_a**2)
    success = success & (spread > 1e2 * jnp.finfo(points_a.dtype).eps ** 2 * size)
    return _motion_or_identity(rotation, translation, success), success


def kabsch_minimal(
    points_a: la.Matrix, points_b: la.Matrix
) -> tuple[la.Matrix, la.Components, jax.Array]:
    """Unweighted Kabsch of three points, on components, for many hypotheses at once.

    The frames of the two triangles give a rotation (Black, "TRIAD", AIAA Journal 1964) that is
    close enough for Newton steps to the least-squares one.

    Args:
        points_a: three points of three components (H,), frame a.
        points_b: the same, frame b.

    Returns:
        Rotation components, translation components, and success (H,).
    """
    mean_a = tuple(sum(c) / 3.0 for c in zip(*points_a, strict=True))
    mean_b = tuple(sum(c) / 3.0 for c in zip(*points_b, strict=True))
    centred_a = tuple(tuple(x - m for x, m in zip(p, mean_a, strict=True)) for p in points_a)
    centred_b = tuple(tuple(x - m for x, m in zip(p, mean_b, strict=True)) for p in points_b)
    covariance = la.matmul(la.transpose(centred_b), centred_a)
    frame_a, defined_a = _triangle_frame(centred_a)
    frame_b, defined_b = _triangle_frame(centred_b)
    rotation = la.matmul(la.transpose(frame_b), frame_a)
    rotation, stable = se3.improve_rotation(rotation, covariance)
    translation = tuple(b - x for b, x in zip(mean_b, la.matvec(rotation, mean_a), strict=True))
    return rotation, translation, defined_a & defined_b & stable


def align_from(
    b_from_a: jax.Array, points_a: jax.Array, points_b: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Weighted Kabsch from a nearby motion, cheaper than from nothing.

    Args:
        b_from_a: (3, 4) initial motion; its rotation is off by less than about 30 degrees.
        points_a: (3, N) points in frame a.
        points_b: (3, N) points in frame b.
        weights: (N,) non-negative.

    Returns:
        b_from_a (3, 4), and success ().
    """
    total = jnp.sum(weights)
    weights = weights / jnp.where(total > 0.0, total, 1.0)
    mean_a, mean_b = la.full_matmul(points_a, weights), la.full_matmul(points_b, weights)
    centred_a, centred_b = points_a - mean_a[:, None], points_b - mean_b[:, None]
    covariance = la.unstack_matrix(la.full_matmul(centred_b * weights, centred_a.T))
    rotation = la.unstack_matrix(b_from_a[:, :3])
    rotation, stable = se3.improve_rotation(rotation, covariance)
    rotation = la.stack_matrix(rotation)
    translation = mean_b - la.full_matmul(rotation, mean_a)
    success = stable & (total > 0.0)
    return jnp.where(success, jnp.column_stack([rotation, translation]), b_from_a), success


def _triangle_frame(points: la.Matrix) -> tuple[la.Matrix, jax.Array]:
    """Rows of an orthonormal frame attached to a triangle, and True where it is defined."""
    side = tuple(q - p for p, q in zip(points[0], points[1], strict=True))
    other = tuple(q - p for p, q in zip(points[0], points[2], strict=True))
    normal = la.cross(side, other)
    side_squared, normal_squared = la.dot(side, side), la.dot(normal, normal)
    size = side_squared + la.dot(other, other)
    defined = normal_squared > 1e-6 * size**2
    side_scale = jax.lax.rsqrt(jnp.where(defined, side_squared, 1.0))
    normal_scale = jax.lax.rsqrt(jnp.where(defined, normal_squared, 1.0))
    first = tuple(side_scale * x for x in side)
    third = tuple(normal_scale * x for x in normal)
    return (first, la.cross(third, first), third), defined


def _motion_or_identity(
    rotation: jax.Array, translation: jax.Array, success: jax.Array
) -> jax.Array:
    translation = jnp.where(success[..., None], translation, 0.0)
    rotation = jnp.where(success[..., None, None], rotation, jnp.eye(3, dtype=rotation.dtype))
    return se3.from_rotation_translation(rotation, translation)
