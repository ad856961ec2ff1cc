"""Motion-only optimisation: one camera against fixed landmarks, with outliers gated out.

Residuals are pixels and inverse depth, each in units of its noise, so chi-square gates apply:
r = ((u - u_hat) / sigma_px, (v - v_hat) / sigma_px, (1/d - 1/z) / sigma_inverse_depth).
"""

import flax.struct
import jax
import jax.numpy as jnp
import jaxlie

from ace_jax.geometry.camera import MIN_DEPTH, Camera
from ace_jax.precision import full_precision

CHI2_PIXEL = 5.991  # 95 % quantile, 2 degrees of freedom
CHI2_PIXEL_DEPTH = 7.815  # 95 % quantile, 3 degrees of freedom
CONVERGED = 1e-6  # metres and radians; a smaller Gauss-Newton step ends a round


@flax.struct.dataclass
class NoiseModel:
    """Standard deviations: keypoints in pixels, depth as inverse depth in 1/m."""

    pixel_sigma: jax.Array | float
    inverse_depth_sigma: jax.Array | float


@flax.struct.dataclass
class Residuals:
    """Whitened residuals of M observations; one array per coordinate, XLA's fastest form on a CPU.

    Attributes:
        u, v: (M,) pixels in units of sigma.
        w: (M,) inverse depth in units of sigma; 0 without depth.
        x, y: (M,) the point's projection at unit depth.
        inverse_z: (M,) 1/m.
        depth_weight: (M,) one over sigma of the inverse depth; 0 without depth.
        in_front: (M,) bool, the point lies before the camera.
    """

    u: jax.Array
    v: jax.Array
    w: jax.Array
    x: jax.Array
    y: jax.Array
    inverse_z: jax.Array
    depth_weight: jax.Array
    in_front: jax.Array

    @property
    def pixel(self) -> jax.Array:
        """(M,) chi-square of the pixel, 2 degrees of freedom."""
        return self.u * self.u + self.v * self.v

    @property
    def joint(self) -> jax.Array:
        """(M,) chi-square of pixel and depth, 3 degrees of freedom where there is depth."""
        return self.pixel + self.w * self.w


def residuals_of(
    camera_from_world: jax.Array,
    points: jax.Array,
    uv: jax.Array,
    depth: jax.Array,
    camera: Camera,
    noise: NoiseModel,
) -> Residuals:
    """Residuals of points (M, 3) seen at uv (M, 2) with depth (M,) (0: none) by one camera."""
    rotation, translation = camera_from_world[:3, :3], camera_from_world[:3, 3]
    px, py, pz = points[:, 0], points[:, 1], points[:, 2]
    xc, yc, zc = (
        rotation[i, 0] * px + rotation[i, 1] * py + rotation[i, 2] * pz + translation[i]
        for i in range(3)
    )
    in_front = zc > MIN_DEPTH
    inverse_z = 1.0 / jnp.where(in_front, zc, 1.0)
    x, y = xc * inverse_z, yc * inverse_z
    has_depth = depth > 0
    depth_weight = jnp.where(has_depth, 1.0 / noise.inverse_depth_sigma, 0.0)
    return Residuals(
        u=(camera.fx * x + camera.cx - uv[:, 0]) / noise.pixel_sigma,
        v=(camera.fy * y + camera.cy - uv[:, 1]) / noise.pixel_sigma,
        w=(inverse_z - 1.0 / jnp.where(has_depth, depth, 1.0)) * depth_weight,
        x=x,
        y=y,
        inverse_z=inverse_z,
        depth_weight=depth_weight,
        in_front=in_front,
    )


def pose_rows(
    residuals: Residuals, camera: Camera, noise: NoiseModel, root_weight: jax.Array
) -> jax.Array:
    """Jacobian with respect to a left twist (translation, rotation), and the errors, as rows.

    Args:
        residuals: of M observations.
        camera: intrinsics.
        noise: standard deviations.
        root_weight: (M,) by which each observation's rows are multiplied.

    Returns:
        (7, 3 M): six rows of the Jacobian and one of errors; times its transpose it holds the
        normal equations of a Gauss-Newton step.
    """
    r, x, y, w = residuals, residuals.x, residuals.y, residuals.inverse_z
    su = camera.fx / noise.pixel_sigma * root_weight
    sv = camera.fy / noise.pixel_sigma * root_weight
    sw = r.depth_weight * root_weight
    zero = jnp.zeros_like(x)
    u = [su * w, zero, -su * x * w, -su * x * y, su * (1 + x * x), -su * y, root_weight * r.u]
    v = [zero, sv * w, -sv * y * w, -sv * (1 + y * y), sv * x * y, sv * x, root_weight * r.v]
    d = [zero, zero, -sw * w * w, -sw * w * y, sw * w * x, zero, root_weight * r.w]
    return jnp.concatenate([jnp.stack(u), jnp.stack(v), jnp.stack(d)], axis=1)


def huber_root_weight(residuals: Residuals, used: jax.Array, robust: jax.Array) -> jax.Array:
    """(M,) square root of each observation's weight: Huber's where `robust`, 0 where unused."""
    delta = jnp.sqrt(CHI2_PIXEL_DEPTH)
    norm = jnp.sqrt(residuals.joint + 1e-12)
    weight = jnp.where(robust & (norm > delta), delta / norm, 1.0)
    return jnp.sqrt(jnp.where(used & residuals.in_front, weight, 0.0))


def chi_square_inliers(residuals: Residuals, depth: jax.Array, mask: jax.Array) -> jax.Array:
    """(M,) bool: inside the pixel gate, and inside the joint gate where depth is known."""
    return (
        mask
        & residuals.in_front
        & (residuals.pixel < CHI2_PIXEL)
        & ((depth <= 0) | (residuals.joint < CHI2_PIXEL_DEPTH))
    )


@full_precision
def optimize_pose(
    camera_from_world: jax.Array,
    points: jax.Array,
    uv: jax.Array,
    depth: jax.Array,
    mask: jax.Array,
    camera: Camera,
    noise: NoiseModel,
    votes: jax.Array | None = None,
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
        votes: (M,) bool, those that may move the pose; None: all. The others are only judged.
        rounds: how often inliers are selected.
        iterations: Gauss-Newton steps in a round, at most.

    Returns:
        The (4, 4) pose and the (M,) inliers.
    """
    # A weight of zero does not silence a NaN: masked entries are replaced.
    points, uv = (jnp.where(mask[:, None], values, 0.0) for values in (points, uv))
    depth = jnp.where(mask, depth, 0.0)
    votes = mask if votes is None else votes

    def step(pose, used, robust):
        residuals = residuals_of(pose, points, uv, depth, camera, noise)
        weight = huber_root_weight(residuals, used, robust)
        rows = pose_rows(residuals, camera, noise, weight)
        normal = rows @ rows.T
        hessian = normal[:6, :6] + 1e-4 * jnp.eye(6)
        delta = -jax.scipy.linalg.solve(hessian, normal[:6, 6], assume_a="pos")
        delta = jnp.where(jnp.all(jnp.isfinite(delta)), delta, 0.0)
        return jaxlie.SE3.exp(delta).as_matrix() @ pose, jnp.max(jnp.abs(delta))

    def one_round(i, carry):
        pose, inliers = carry
        robust = i < (rounds + 1) // 2

        def again(state):
            _, change, count = state
            return (change > CONVERGED) & (count < iterations)

        def iterate(state):
            pose, _, count = state
            return *step(pose, inliers & votes, robust), count + 1

        pose, _, _ = jax.lax.while_loop(again, iterate, (pose, jnp.float32(jnp.inf), 0))
        residuals = residuals_of(pose, points, uv, depth, camera, noise)
        return pose, chi_square_inliers(residuals, depth, mask)

    return jax.lax.fori_loop(0, rounds, one_round, (camera_from_world, mask))
