"""Motion-only optimisation: one camera against fixed landmarks, with outliers gated out.

Residuals are pixels and inverse depth, each in units of its noise, so chi-square gates apply:
r = ((u - u_hat) / sigma_px, (v - v_hat) / sigma_px, (1/d - 1/z) / sigma_inverse_depth).
"""

import flax.struct
import jax
import jax.numpy as jnp
import jaxlie

from ace_jax.geometry.camera import MIN_DEPTH, Camera

CHI2_PIXEL = 5.991  # 95 % quantile, 2 degrees of freedom
CHI2_PIXEL_DEPTH = 7.815  # 95 % quantile, 3 degrees of freedom


@flax.struct.dataclass
class NoiseModel:
    """Standard deviations: keypoints in pixels, depth as inverse depth in 1/m."""

    pixel_sigma: jax.Array | float
    inverse_depth_sigma: jax.Array | float


@flax.struct.dataclass
class Residuals:
    """Whitened residuals and Jacobians of M observations.

    Attributes:
        error: (M, 3) in units of sigma; the third is 0 without depth.
        pose_jacobian: (M, 3, 6) with respect to a left twist (translation, rotation).
        in_front: (M,) bool, the point lies before the camera.
    """

    error: jax.Array
    pose_jacobian: jax.Array
    in_front: jax.Array


def linearize(
    camera_from_world: jax.Array,
    points: jax.Array,
    uv: jax.Array,
    depth: jax.Array,
    camera: Camera,
    noise: NoiseModel,
) -> Residuals:
    """Residuals of points (M, 3) seen at uv (M, 2) with depth (M,) (0: none) by one camera."""
    in_camera = points @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    in_front = in_camera[:, 2] > MIN_DEPTH
    inverse_z = 1.0 / jnp.where(in_front, in_camera[:, 2], 1.0)
    x = in_camera[:, 0] * inverse_z
    y = in_camera[:, 1] * inverse_z
    has_depth = depth > 0
    inverse_depth = 1.0 / jnp.where(has_depth, depth, 1.0)
    sx = camera.fx / noise.pixel_sigma
    sy = camera.fy / noise.pixel_sigma
    sw = jnp.where(has_depth, 1.0 / noise.inverse_depth_sigma, 0.0)
    error = jnp.stack(
        [
            (camera.fx * x + camera.cx - uv[:, 0]) / noise.pixel_sigma,
            (camera.fy * y + camera.cy - uv[:, 1]) / noise.pixel_sigma,
            (inverse_z - inverse_depth) * sw,
        ],
        axis=-1,
    )
    zero = jnp.zeros_like(x)
    jacobian = jnp.stack(
        [
            sx * jnp.stack([inverse_z, zero, -x * inverse_z, -x * y, 1 + x * x, -y], -1),
            sy * jnp.stack([zero, inverse_z, -y * inverse_z, -(1 + y * y), x * y, x], -1),
            sw[:, None]
            * jnp.stack([zero, zero, -(inverse_z**2), -inverse_z * y, inverse_z * x, zero], -1),
        ],
        axis=1,
    )
    return Residuals(error=error, pose_jacobian=jacobian, in_front=in_front)


def chi_square_inliers(residuals: Residuals, depth: jax.Array, mask: jax.Array) -> jax.Array:
    """(M,) bool: inside the pixel gate, and inside the joint gate where depth is known."""
    squared = residuals.error**2
    pixel = squared[:, 0] + squared[:, 1]
    joint = pixel + squared[:, 2]
    return (
        mask
        & residuals.in_front
        & (pixel < CHI2_PIXEL)
        & ((depth <= 0) | (joint < CHI2_PIXEL_DEPTH))
    )


def optimize_pose(
    camera_from_world: jax.Array,
    points: jax.Array,
    uv: jax.Array,
    depth: jax.Array,
    mask: jax.Array,
    camera: Camera,
    noise: NoiseModel,
    rounds: int = 4,
    iterations: int = 5,
) -> tuple[jax.Array, jax.Array]:
    """Pose that explains the observations best, re-selecting inliers between rounds.

    Gauss-Newton; the first half of the rounds weighs by Huber, the rest is plain least squares on
    the gated observations.

    Args:
        camera_from_world: (4, 4) start.
        points: (M, 3) world, metres.
        uv: (M, 2) pixels.
        depth: (M,) metres, 0 where unknown.
        mask: (M,) bool, observations to use.
        camera: intrinsics.
        noise: standard deviations.
        rounds: how often inliers are selected.
        iterations: Gauss-Newton steps in a round.

    Returns:
        The (4, 4) pose and the (M,) inliers.
    """
    # A weight of zero does not silence a NaN: masked entries are replaced.
    points, uv = (jnp.where(mask[:, None], values, 0.0) for values in (points, uv))
    depth = jnp.where(mask, depth, 0.0)
    huber = jnp.sqrt(CHI2_PIXEL_DEPTH)

    def step(pose, weight_mask, robust):
        residuals = linearize(pose, points, uv, depth, camera, noise)
        norm = jnp.sqrt(jnp.sum(residuals.error**2, -1) + 1e-12)
        weight = jnp.where(robust & (norm > huber), huber / norm, 1.0)
        weight = jnp.where(weight_mask & residuals.in_front, weight, 0.0)
        rows = residuals.pose_jacobian.reshape(-1, 6)
        weighted = (residuals.pose_jacobian * weight[:, None, None]).reshape(-1, 6)
        hessian = weighted.T @ rows + 1e-4 * jnp.eye(6)
        gradient = weighted.T @ residuals.error.reshape(-1)
        delta = -jax.scipy.linalg.solve(hessian, gradient, assume_a="pos")
        delta = jnp.where(jnp.all(jnp.isfinite(delta)), delta, 0.0)
        return jaxlie.SE3.exp(delta).as_matrix() @ pose

    def one_round(i, carry):
        pose, inliers = carry
        robust = i < (rounds + 1) // 2
        pose = jax.lax.fori_loop(0, iterations, lambda _, p: step(p, inliers, robust), pose)
        residuals = linearize(pose, points, uv, depth, camera, noise)
        return pose, chi_square_inliers(residuals, depth, mask)

    return jax.lax.fori_loop(0, rounds, one_round, (camera_from_world, mask))
