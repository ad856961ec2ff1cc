"""Lens distortion of OpenCV's two camera models, and its inverse for points.

The solvers take pixels of an ideal pinhole camera: `undistort` them first. Formulas: OpenCV
documentation, "Camera Calibration and 3D Reconstruction" and "Fisheye camera model" (the latter
after Kannala and Brandt, PAMI 2006).
"""

import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.geometry.camera import Camera

_NEWTON_STEPS = 10  # numerics: at most; Newton's method converges quadratically
_TOLERANCE = 1e-4  # normalised image units, about 0.05 px: of the inverse's residual
_MAX_ANGLE = 1.48  # radians off the axis (85 degrees); beyond, a pinhole image is useless


@flax.struct.dataclass
class RadialTangential:
    """OpenCV's standard model; with k4 to k6 its rational form. Dimensionless."""

    k1: float | jax.Array = 0.0
    k2: float | jax.Array = 0.0
    p1: float | jax.Array = 0.0
    p2: float | jax.Array = 0.0
    k3: float | jax.Array = 0.0
    k4: float | jax.Array = 0.0
    k5: float | jax.Array = 0.0
    k6: float | jax.Array = 0.0


@flax.struct.dataclass
class Fisheye:
    """OpenCV's fisheye model: angle to radius by theta (1 + k1 theta^2 + ... + k4 theta^8)."""

    k1: float | jax.Array = 0.0
    k2: float | jax.Array = 0.0
    k3: float | jax.Array = 0.0
    k4: float | jax.Array = 0.0


Distortion = RadialTangential | Fisheye


def distort(points_2d: jax.Array, camera: Camera, distortion: Distortion) -> jax.Array:
    """Pixels (..., 2) of the real image for pixels (..., 2) of the ideal pinhole image."""
    x, y = camera.normalised(points_2d[..., 0], points_2d[..., 1])
    if isinstance(distortion, Fisheye):
        squared = x * x + y * y
        centre = squared < 1e-12
        # Double where: at the centre the ratio of radii is 1, and 0 / 0 is not evaluated.
        radius = jnp.sqrt(jnp.where(centre, 1.0, squared))
        theta = jnp.arctan(radius)
        scale = jnp.where(centre, 1.0, _fisheye_radius(theta, distortion) / radius)
        x, y = scale * x, scale * y
    else:
        x, y = _radial_tangential(x, y, distortion)
    return jnp.stack(camera.pixels(x, y), axis=-1)


def undistort(
    points_2d: jax.Array, camera: Camera, distortion: Distortion
) -> tuple[jax.Array, jax.Array]:
    """Pixels of the ideal pinhole image for pixels of the real one, by Newton's method.

    Args:
        points_2d: (..., 2) pixels of the distorted image.
        camera: intrinsics, the same for both images.
        distortion: `RadialTangential` or `Fisheye`.

    Returns:
        Pixels (..., 2), finite in any case, and valid (...): False where the model has no
        inverse, or the ray is more than 85 degrees off the axis. Pass it on as a mask.
    """
    x, y = camera.normalised(points_2d[..., 0], points_2d[..., 1])
    finite = jnp.isfinite(x) & jnp.isfinite(y)
    x, y = jnp.where(finite, x, 0.0), jnp.where(finite, y, 0.0)
    if isinstance(distortion, Fisheye):
        x, y, valid = _undistort_fisheye(x, y, distortion)
    else:
        x, y, valid = _undistort_radial_tangential(x, y, distortion)
    valid = valid & finite & jnp.isfinite(x) & jnp.isfinite(y)
    pixels = camera.pixels(jnp.where(valid, x, 0.0), jnp.where(valid, y, 0.0))
    return jnp.stack(pixels, axis=-1), valid


def _radial_tangential(
    x: jax.Array, y: jax.Array, d: RadialTangential
) -> tuple[jax.Array, jax.Array]:
    r2 = x * x + y * y
    radial = (1.0 + r2 * (d.k1 + r2 * (d.k2 + r2 * d.k3))) / (
        1.0 + r2 * (d.k4 + r2 * (d.k5 + r2 * d.k6))
    )
    return (
        x * radial + 2.0 * d.p1 * x * y + d.p2 * (r2 + 2.0 * x * x),
        y * radial + d.p1 * (r2 + 2.0 * y * y) + 2.0 * d.p2 * x * y,
    )


def _undistort_radial_tangential(
    u: jax.Array, v: jax.Array, d: RadialTangential
) -> tuple[jax.Array, jax.Array, jax.Array]:
    def jacobian(x: jax.Array, y: jax.Array) -> tuple:
        one, zero = jnp.ones_like(x), jnp.zeros_like(x)
        function = lambda x, y: _radial_tangential(x, y, d)  # noqa: E731
        value, (a, c) = jax.jvp(function, (x, y), (one, zero))
        _, (b, e) = jax.jvp(function, (x, y), (zero, one))
        return value, a, b, c, e

    def newton(_: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, y = state
        (fu, fv), a, b, c, e = jacobian(x, y)
        determinant = a * e - b * c
        # Beyond the fold of a strong distortion the map turns over: a step from there is useless.
        safe = jnp.where(determinant > 0.05, determinant, 1.0)
        du, dv = fu - u, fv - v
        step_x = jnp.where(determinant > 0.05, (e * du - b * dv) / safe, du)
        step_y = jnp.where(determinant > 0.05, (a * dv - c * du) / safe, dv)
        return x - step_x, y - step_y

    x, y = jax.lax.fori_loop(0, _NEWTON_STEPS, newton, (u, v))
    (fu, fv), a, b, c, e = jacobian(x, y)
    valid = jnp.abs(fu - u) + jnp.abs(fv - v) < _TOLERANCE
    return x, y, valid & (a * e - b * c > 0.0)


def _fisheye_radius(theta: jax.Array, d: Fisheye) -> jax.Array:
    t2 = theta * theta
    return theta * (1.0 + t2 * (d.k1 + t2 * (d.k2 + t2 * (d.k3 + t2 * d.k4))))


def _undistort_fisheye(
    u: jax.Array, v: jax.Array, d: Fisheye
) -> tuple[jax.Array, jax.Array, jax.Array]:
    squared = u * u + v * v
    centre = squared < 1e-12
    radius = jnp.sqrt(jnp.where(centre, 1.0, squared))

    def newton(_: int, theta: jax.Array) -> jax.Array:
        t2 = theta * theta
        slope = 1.0 + t2 * (3.0 * d.k1 + t2 * (5.0 * d.k2 + t2 * (7.0 * d.k3 + t2 * 9.0 * d.k4)))
        step = (_fisheye_radius(theta, d) - radius) / jnp.maximum(slope, 0.05)
        return jnp.clip(theta - step, 0.0, 0.5 * jnp.pi)

    start = jnp.minimum(radius, _MAX_ANGLE)
    theta = jax.lax.fori_loop(0, _NEWTON_STEPS, newton, start)
    converged = jnp.abs(_fisheye_radius(theta, d) - radius) < _TOLERANCE
    valid = centre | (converged & (theta < _MAX_ANGLE))
    scale = jnp.where(valid & ~centre, jnp.tan(jnp.where(valid, theta, 0.0)) / radius, 1.0)
    return scale * u, scale * v, valid
