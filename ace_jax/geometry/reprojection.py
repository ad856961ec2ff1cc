"""Reprojection residuals of known points: pixels and inverse depth in units of their noise.

r = ((u - u_hat) / sigma_px, (v - v_hat) / sigma_px, (1/z - 1/d) / sigma_inverse_depth), the last
where the depth d was measured: the noise of depth in metres grows with the square of the distance,
as that of stereo and structured light does. A left perturbation (v, omega) moves a camera-frame
point X by v + omega x X, so with x = X/Z, y = Y/Z, q = 1/Z:

    d x = [ q, 0, -x q,  -x y,      1 + x^2, -y ]
    d y = [ 0, q, -y q,  -1 - y^2,  x y,      x ]
    d q = [ 0, 0, -q^2,  -y q,      x q,      0 ]

Pose refinement and bundle adjustment have these residuals.
"""

import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.geometry.camera import MIN_DEPTH, Camera

CHI2_PIXEL = 5.991  # theory: 95 % quantile of chi-square, 2 degrees of freedom
CHI2_PIXEL_DEPTH = 7.815  # theory: 95 % quantile of chi-square, 3 degrees of freedom


@flax.struct.dataclass
class NoiseModel:
    """Standard deviations: keypoints in pixels, depth as inverse depth in 1/m."""

    pixel_sigma: jax.Array | float
    inverse_depth_sigma: jax.Array | float


# A pixel; and a depth camera's noise with what registration and edges add, 4 cm at 1 m: at this
# ratio a depth counts about as much as a pixel at f = 525.
DEFAULT_NOISE = NoiseModel(1.0, 0.0375)


@flax.struct.dataclass
class Observations:
    """What a camera saw, ready for refinement; N correspondences.

    Attributes:
        points_3d: (3, N) world coordinates, metres.
        points_2d: (2, N) pixels of an ideal pinhole camera.
        weights: (N,); 0, negative or not finite removes a point, as does a point that is not
            finite.
        inverse_depth: (N,) 1/m, 0 (or not finite) where unknown; or None.
    """

    points_3d: jax.Array
    points_2d: jax.Array
    weights: jax.Array
    inverse_depth: jax.Array | None = None

    def cleaned(self) -> "Observations":
        """The same, finite throughout: what may not vote has weight 0 and no gradient."""
        used = jnp.isfinite(self.weights) & (self.weights > 0.0)
        for points in (self.points_3d, self.points_2d):
            used = used & jnp.all(jnp.isfinite(points), axis=0)
        q = self.inverse_depth
        return Observations(
            points_3d=jnp.where(used, self.points_3d, 0.0),
            points_2d=jnp.where(used, self.points_2d, 0.0),
            weights=jnp.where(used, self.weights, 0.0),
            inverse_depth=None if q is None else jnp.where(jnp.isfinite(q) & (q > 0.0), q, 0.0),
        )


@flax.struct.dataclass
class Residuals:
    """Residuals of N observations in sigmas; one array per coordinate, XLA's fastest form on a CPU.

    Attributes:
        u, v: (N,) pixels.
        w: (N,) inverse depth, 0 where unknown; None if there is none at all.
        x, y: (N,) the point's projection at unit depth.
        inverse_z: (N,) 1/m.
        depth_weight: (N,) one over sigma of the inverse depth, 0 where unknown; or None.
        in_front: (N,) bool, the point lies before the camera.
    """

    u: jax.Array
    v: jax.Array
    w: jax.Array | None
    x: jax.Array
    y: jax.Array
    inverse_z: jax.Array
    depth_weight: jax.Array | None
    in_front: jax.Array

    @property
    def pixel(self) -> jax.Array:
        """(N,) chi-square of the pixel, 2 degrees of freedom."""
        return self.u * self.u + self.v * self.v

    @property
    def joint(self) -> jax.Array:
        """(N,) chi-square of pixel and depth, 3 degrees of freedom where there is depth."""
        return self.pixel if self.w is None else self.pixel + self.w * self.w


def inverse_of(depth: jax.Array) -> jax.Array:
    """1 / depth (...), 1/m; 0 where depth is 0, negative or not finite."""
    known = jnp.isfinite(depth) & (depth > 0.0)
    return jnp.where(known, 1.0 / jnp.where(known, depth, 1.0), 0.0)


def residuals_of(
    camera_from_world: jax.Array,
    points: jax.Array,
    uv: jax.Array,
    inverse_depth: jax.Array | None,
    camera: Camera,
    noise: NoiseModel,
) -> Residuals:
    """Residuals of points (3, N) seen at uv (2, N) with inverse depth (N,), 0 where unknown."""
    # Sums of columns, not a matrix product: XLA fuses it with what follows.
    xc, yc, zc = (
        row[0] * points[0] + row[1] * points[1] + row[2] * points[2] + row[3]
        for row in camera_from_world[:3]
    )
    in_front = zc > MIN_DEPTH
    inverse_z = 1.0 / jnp.where(in_front, zc, 1.0)
    x, y = xc * inverse_z, yc * inverse_z
    u, v = camera.pixels(x, y)
    w = depth_weight = None
    if inverse_depth is not None:
        depth_weight = jnp.where(inverse_depth > 0.0, 1.0 / noise.inverse_depth_sigma, 0.0)
        w = (inverse_z - inverse_depth) * depth_weight
    return Residuals(
        u=(u - uv[0]) / noise.pixel_sigma,
        v=(v - uv[1]) / noise.pixel_sigma,
        w=w,
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
        residuals: of N observations.
        camera: intrinsics.
        noise: standard deviations.
        root_weight: (N,) by which each observation's rows are multiplied.

    Returns:
        (7, 3 N), or (7, 2 N) without depth: six rows of the Jacobian and one of errors; times its
        transpose it holds the normal equations of a Gauss-Newton step.
    """
    r, x, y, q = residuals, residuals.x, residuals.y, residuals.inverse_z
    su = camera.fx / noise.pixel_sigma * root_weight
    sv = camera.fy / noise.pixel_sigma * root_weight
    zero = jnp.zeros_like(x)
    rows = [
        [su * q, zero, -su * x * q, -su * x * y, su * (1 + x * x), -su * y, root_weight * r.u],
        [zero, sv * q, -sv * y * q, -sv * (1 + y * y), sv * x * y, sv * x, root_weight * r.v],
    ]
    if r.w is not None:
        sw = r.depth_weight * root_weight * q
        rows.append([zero, zero, -sw * q, -sw * y, sw * x, zero, root_weight * r.w])
    return jnp.concatenate([jnp.stack(row) for row in rows], axis=1)


def chi_square_inliers(residuals: Residuals, mask: jax.Array) -> jax.Array:
    """(N,) bool: inside the pixel gate, and inside the joint gate where depth is known."""
    joint_gate = jnp.where(residuals.depth_weight > 0.0, CHI2_PIXEL_DEPTH, jnp.inf)
    inside = (residuals.pixel < CHI2_PIXEL) & (residuals.joint < joint_gate)
    return mask & residuals.in_front & inside
