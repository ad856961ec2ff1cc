"""Pose refinement by Levenberg-Marquardt on pixels and, where known, depth.

Fixed iteration count, 6x6 normal equations, analytic Jacobians. A left perturbation (v, omega)
moves a camera-frame point X by v + omega x X, so with u = X/Z, w = Y/Z, q = 1/Z:

    d u = [ q, 0, -u q,  -u w,      1 + u^2, -w ]
    d w = [ 0, q, -w q,  -1 - w^2,  u w,      u ]
    d q = [ 0, 0, -q^2,  -w q,      u q,      0 ]

Depth enters as inverse depth with constant sigma: the noise in metres then grows with the square
of the distance, as that of stereo and structured light does.
"""

import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.geometry import se3
from ace_jax.geometry import small_linalg as la
from ace_jax.geometry.camera import MIN_DEPTH, Camera

_PIVOT_TOLERANCE = 1e-6


@flax.struct.dataclass
class Observations:
    """What a camera saw, ready for refinement; N correspondences.

    Attributes:
        points_3d: (3, N) world coordinates, metres.
        points_2d: (2, N) pixels of an ideal pinhole camera.
        weights: (N,) non-negative; 0 removes a point.
        inverse_depth: (N,) 1/m, 0 where unknown; or None.
    """

    points_3d: jax.Array
    points_2d: jax.Array
    weights: jax.Array
    inverse_depth: jax.Array | None = None


@flax.struct.dataclass
class Refinement:
    """Outcome of `refine_pose`.

    Attributes:
        camera_from_world: (4, 4), rotation on SO(3).
        cost: () robust cost, in units of squared sigmas.
        information: (6, 6) normal matrix J^T W J at the pose; its inverse is the covariance of
            the left tangent (v, omega) if the sigmas are right.
        success: () False where the problem does not determine the pose.
    """

    camera_from_world: jax.Array
    cost: jax.Array
    information: jax.Array
    success: jax.Array


def refine_pose(
    camera_from_world: jax.Array,
    observations: Observations,
    camera: Camera,
    pixel_sigma: float | jax.Array = 1.0,
    inverse_depth_sigma: float | jax.Array = 0.0375,
    robust_scale: float | jax.Array | None = None,
    num_steps: int = 10,
) -> Refinement:
    """Levenberg-Marquardt from an initial pose.

    Args:
        camera_from_world: (4, 4) initial pose.
        observations: correspondences.
        camera: intrinsics.
        pixel_sigma: standard deviation of a pixel coordinate.
        inverse_depth_sigma: standard deviation of the inverse depth, 1/m.
        robust_scale: in sigmas, where the Cauchy loss log(1 + r^2/scale^2) scale^2 begins to
            flatten; None for least squares.
        num_steps: iterations (static). A step that does not lower the cost is not taken.

    Returns:
        `Refinement`; without success the initial pose.
    """
    system = _normal_equations(
        camera_from_world, observations, camera, pixel_sigma, inverse_depth_sigma, robust_scale
    )

    def step(_: int, state: tuple) -> tuple:
        pose, normal, cost, damping = state
        tangent = _damped_step(normal, damping)
        candidate = _retract(pose, tangent)
        new_normal, new_cost = _normal_equations(
            candidate, observations, camera, pixel_sigma, inverse_depth_sigma, robust_scale
        )
        better = new_cost < cost
        return (
            jnp.where(better, candidate, pose),
            jnp.where(better, new_normal, normal),
            jnp.where(better, new_cost, cost),
            jnp.clip(jnp.where(better, 0.1 * damping, 10.0 * damping), 1e-8, 1e4),
        )

    damping = jnp.asarray(1e-4, camera_from_world.dtype)
    pose, normal, cost, _ = jax.lax.fori_loop(
        0, num_steps, step, (camera_from_world, *system, damping)
    )
    information = normal[:6, :6]
    _, definite = la.cholesky(la.unstack_matrix(information), _PIVOT_TOLERANCE)
    finite = jnp.all(jnp.isfinite(pose)) & jnp.isfinite(cost)
    success = definite & finite
    pose = se3.from_rotation_translation(se3.project_to_so3(pose[:3, :3]), pose[:3, 3])
    return Refinement(
        camera_from_world=jnp.where(success, pose, camera_from_world),
        cost=cost,
        information=information,
        success=success,
    )


def covariance_from_information(information: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inverse (6, 6) of an information matrix (6, 6), zero where singular; and success ()."""
    # Scaled to unit diagonal first: metres and radians may differ by orders of magnitude.
    diagonal = jnp.diagonal(information)
    scale = jnp.where(diagonal > 0.0, jax.lax.rsqrt(jnp.where(diagonal > 0.0, diagonal, 1.0)), 0.0)
    scaled = information * scale[:, None] * scale[None, :]
    factor, definite = la.cholesky(la.unstack_matrix(scaled), _PIVOT_TOLERANCE)
    columns = [la.cholesky_solve(factor, tuple(row)) for row in jnp.eye(6, dtype=scaled.dtype)]
    inverse = jnp.stack([jnp.stack(c) for c in columns]) * scale[:, None] * scale[None, :]
    return jnp.where(definite, inverse, 0.0), definite


def _normal_equations(
    pose: jax.Array,
    observations: Observations,
    camera: Camera,
    pixel_sigma: float | jax.Array,
    inverse_depth_sigma: float | jax.Array,
    robust_scale: float | jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """[J | r]^T W [J | r] (7, 7) and the robust cost ()."""
    x, y, z = (
        la.dot(tuple(pose[i, :3]), tuple(observations.points_3d)) + pose[i, 3] for i in range(3)
    )
    in_front = z > MIN_DEPTH
    q = 1.0 / jnp.where(in_front, z, 1.0)
    u, w = x * q, y * q
    scale_u, scale_w = camera.fx / pixel_sigma, camera.fy / pixel_sigma
    ru = scale_u * u + (camera.cx - observations.points_2d[0]) / pixel_sigma
    rw = scale_w * w + (camera.cy - observations.points_2d[1]) / pixel_sigma
    squared = ru * ru + rw * rw
    zero = jnp.zeros_like(q)
    if observations.inverse_depth is not None:
        known = observations.inverse_depth > 0.0
        scale_q = jnp.where(known, 1.0, 0.0) / inverse_depth_sigma
        rq = scale_q * (q - observations.inverse_depth)
        squared = squared + rq * rq
    weight = jnp.where(in_front, observations.weights, 0.0)
    if robust_scale is None:
        cost = jnp.sum(weight * squared)
    else:
        limit = robust_scale**2
        cost = limit * jnp.sum(weight * jnp.log1p(squared / limit))
        weight = weight * limit / (limit + squared)
    # A point behind the camera costs as much as one that is off by the image's size.
    behind = jnp.where(in_front, 0.0, observations.weights)
    cost = cost + 1e4 * jnp.sum(behind)
    root = jnp.sqrt(weight)
    au, aw = root * scale_u, root * scale_w
    rows = jnp.stack(
        [
            jnp.stack(
                [au * q, zero, -au * u * q, -au * u * w, au * (1.0 + u * u), -au * w, root * ru]
            ),
            jnp.stack(
                [zero, aw * q, -aw * w * q, -aw * (1.0 + w * w), aw * u * w, aw * u, root * rw]
            ),
        ]
    )
    normal = jnp.einsum("kin,kjn->ij", rows, rows)
    if observations.inverse_depth is not None:
        aq = root * scale_q
        row = jnp.stack([zero, zero, -aq * q * q, -aq * w * q, aq * u * q, zero, root * rq])
        normal = normal + row @ row.T
    return normal, cost


def _damped_step(normal: jax.Array, damping: jax.Array) -> jax.Array:
    """The Levenberg-Marquardt step (6,) of normal equations (7, 7)."""
    damped = tuple(
        tuple(normal[i, j] * (1.0 + damping) + 1e-12 if i == j else normal[i, j] for j in range(6))
        for i in range(6)
    )
    factor, definite = la.cholesky(damped, 1e-7)
    tangent = jnp.stack(la.cholesky_solve(factor, tuple(-normal[i, 6] for i in range(6))))
    return jnp.where(definite & jnp.all(jnp.isfinite(tangent)), tangent, 0.0)


def _retract(pose: jax.Array, tangent: jax.Array) -> jax.Array:
    """A pose moved by a tangent vector, to first order in v; the rotation part stays on SO(3)."""
    turn = la.stack_matrix(se3.small_rotation(tuple(tangent[3:])))
    top = turn @ pose[:3] + jnp.concatenate([jnp.zeros((3, 3), pose.dtype), tangent[:3, None]], 1)
    return jnp.concatenate([top, pose[3:]])
