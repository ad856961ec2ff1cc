"""Bundle adjustment of a window of keyframes and its landmarks (Triggs et al. 1999).

Observations stand in a dense (keyframe, landmark) table, so the Schur complement over landmarks is
two matrix products; residuals are those of `pose_optimization`.
"""

import flax.struct
import jax
import jax.numpy as jnp
import jaxlie

from ace_jax.geometry.camera import MIN_DEPTH, Camera
from ace_jax.slam.pose_optimization import CHI2_PIXEL, CHI2_PIXEL_DEPTH, NoiseModel


@flax.struct.dataclass
class BundleProblem:
    """A window of K keyframes and L landmarks.

    Attributes:
        camera_from_world: (K, 4, 4); the first F are free to move.
        free: (F,) bool, False for unused places and for a keyframe that defines the gauge.
        points: (L, 3) world, metres.
        uv: (K, L, 2) pixels.
        depth: (K, L) metres, 0 where unknown.
        observed: (K, L) bool.
    """

    camera_from_world: jax.Array
    free: jax.Array
    points: jax.Array
    uv: jax.Array
    depth: jax.Array
    observed: jax.Array


@flax.struct.dataclass
class BundleResult:
    """Adjusted poses (K, 4, 4), points (L, 3), which observations (K, L) fit, and success."""

    camera_from_world: jax.Array
    points: jax.Array
    inliers: jax.Array
    success: jax.Array


def _residuals(poses, points, problem, camera, noise):
    """Whitened errors (3 x (K, L)), projection terms and depth weight."""
    rotation, translation = poses[:, :3, :3], poses[:, :3, 3]
    # One (K, L) array per coordinate: XLA's CPU loops are fastest on structures of arrays.
    px, py, pz = points[:, 0], points[:, 1], points[:, 2]
    xc, yc, zc = (
        rotation[:, i, 0, None] * px
        + rotation[:, i, 1, None] * py
        + rotation[:, i, 2, None] * pz
        + translation[:, i, None]
        for i in range(3)
    )
    in_front = zc > MIN_DEPTH
    w = 1.0 / jnp.where(in_front, zc, 1.0)
    x, y = xc * w, yc * w
    has_depth = problem.depth > 0
    sw = jnp.where(has_depth, 1.0 / noise.inverse_depth_sigma, 0.0)
    eu = (camera.fx * x + camera.cx - problem.uv[..., 0]) / noise.pixel_sigma
    ev = (camera.fy * y + camera.cy - problem.uv[..., 1]) / noise.pixel_sigma
    ew = (w - 1.0 / jnp.where(has_depth, problem.depth, 1.0)) * sw
    return (eu, ev, ew), (x, y, w, sw), in_front


def _chi_square(errors):
    eu, ev, ew = errors
    pixel = eu * eu + ev * ev
    return pixel, pixel + ew * ew


def _huber_cost(errors, used):
    _, joint = _chi_square(errors)
    norm = jnp.sqrt(joint + 1e-12)
    delta = jnp.sqrt(CHI2_PIXEL_DEPTH)
    cost = jnp.where(norm < delta, joint, 2 * delta * norm - delta**2)
    return jnp.sum(jnp.where(used, jnp.minimum(cost, 100.0), 0.0))


def bundle_adjust(
    problem: BundleProblem,
    camera: Camera,
    noise: NoiseModel,
    robust_iterations: int = 4,
    plain_iterations: int = 2,
    damping: float = 1e-3,
) -> BundleResult:
    """Adjusts poses and points: Huber iterations, outliers dropped, then plain ones.

    Args:
        problem: the window.
        camera: intrinsics.
        noise: standard deviations.
        robust_iterations: Levenberg-Marquardt steps with Huber weights.
        plain_iterations: steps on the inliers alone.
        damping: relative damping of the normal equations.

    Returns:
        The adjusted window; on failure (cost not lowered, or not finite) the poses and points that
        came in, with `success` False.
    """
    # A weight of zero does not silence a NaN: what was not observed is replaced.
    problem = problem.replace(
        uv=jnp.where(problem.observed[..., None], problem.uv, 0.0),
        depth=jnp.where(problem.observed, problem.depth, 0.0),
    )
    num_free = problem.free.shape[0]
    num_points = problem.points.shape[0]
    delta = jnp.sqrt(CHI2_PIXEL_DEPTH)

    def step(poses, points, used, robust):
        errors, (x, y, w, sw), in_front = _residuals(poses, points, problem, camera, noise)
        _, joint = _chi_square(errors)
        norm = jnp.sqrt(joint + 1e-12)
        weight = jnp.where(robust & (norm > delta), delta / norm, 1.0)
        weight = jnp.where(used & in_front, weight, 0.0)
        root = jnp.sqrt(weight)
        eu, ev, ew = (e * root for e in errors)
        su = camera.fx / noise.pixel_sigma * root
        sv = camera.fy / noise.pixel_sigma * root
        sw = sw * root
        zero = jnp.zeros_like(x)
        # d(projection)/d(point in camera), rows u, v, inverse depth.
        a = (
            (su * w, zero, -su * x * w),
            (zero, sv * w, -sv * y * w),
            (zero, zero, -sw * w * w),
        )
        rotation = poses[:, :3, :3]
        point_jacobian = jnp.stack(
            [
                jnp.stack(
                    [sum(a[r][k] * rotation[:, k, c, None] for k in range(3)) for c in range(3)],
                    -1,
                )
                for r in range(3)
            ],
            -2,
        )  # (K, L, 3, 3)
        f = slice(0, num_free)
        pose_jacobian = jnp.stack(
            [
                jnp.stack([su * w, zero, -su * x * w, -su * x * y, su * (1 + x * x), -su * y], -1)[
                    f
                ],
                jnp.stack([zero, sv * w, -sv * y * w, -sv * (1 + y * y), sv * x * y, sv * x], -1)[
                    f
                ],
                jnp.stack([zero, zero, -sw * w * w, -sw * w * y, sw * w * x, zero], -1)[f],
            ],
            -2,
        )  # (F, L, 3, 6)
        error = jnp.stack([eu, ev, ew], -1)  # (K, L, 3)

        hll = jnp.einsum("klri,klrj->lij", point_jacobian, point_jacobian)
        bl = jnp.einsum("klri,klr->li", point_jacobian, error)
        hpp = jnp.einsum("flri,flrj->fij", pose_jacobian, pose_jacobian)
        bp = jnp.einsum("flri,flr->fi", pose_jacobian, error[f])
        hpl = jnp.einsum("flri,flrj->flij", pose_jacobian, point_jacobian[f])

        diagonal = jnp.einsum("lii->li", hll)
        hll = hll + jax.vmap(jnp.diag)(damping * diagonal + 1e-3)
        inverse = _inverse_symmetric_3x3(hll)
        y_matrix = jnp.einsum("flij,ljk->flik", hpl, inverse)  # (F, L, 6, 3)
        left = y_matrix.transpose(0, 2, 1, 3).reshape(num_free * 6, num_points * 3)
        right = hpl.transpose(0, 2, 1, 3).reshape(num_free * 6, num_points * 3)
        schur = -left @ right.T
        blocks = jnp.arange(num_free)
        schur = schur.reshape(num_free, 6, num_free, 6)
        hpp = hpp + jax.vmap(jnp.diag)(damping * jnp.einsum("fii->fi", hpp) + 1e-3)
        schur = schur.at[blocks, :, blocks, :].add(hpp)
        rhs = bp - jnp.einsum("flij,lj->fi", y_matrix, bl)
        # Poses that may not move: identity block, zero right-hand side.
        moves = problem.free[:, None, None, None] & problem.free[None, None, :, None]
        schur = jnp.where(moves, schur, 0.0)
        schur = schur.reshape(num_free * 6, num_free * 6)
        schur = schur + jnp.diag(jnp.repeat(jnp.where(problem.free, 0.0, 1.0), 6))
        rhs = jnp.where(problem.free[:, None], rhs, 0.0).reshape(-1)
        pose_delta = -jax.scipy.linalg.solve(schur, rhs, assume_a="pos").reshape(num_free, 6)
        point_delta = -jnp.einsum(
            "lij,lj->li", inverse, bl + jnp.einsum("flij,fi->lj", hpl, pose_delta)
        )
        moved = jax.vmap(lambda d, p: jaxlie.SE3.exp(d).as_matrix() @ p)(
            pose_delta, poses[:num_free]
        )
        return poses.at[:num_free].set(moved), points + point_delta

    def run(carry, used, iterations, robust):
        return jax.lax.fori_loop(0, iterations, lambda _, c: step(*c, used, robust), carry)

    def inlier_table(poses, points):
        errors, _, in_front = _residuals(poses, points, problem, camera, noise)
        pixel, joint = _chi_square(errors)
        fits = (pixel < CHI2_PIXEL) & ((problem.depth <= 0) | (joint < CHI2_PIXEL_DEPTH))
        return problem.observed & in_front & fits, errors

    start_errors, _, start_front = _residuals(
        problem.camera_from_world, problem.points, problem, camera, noise
    )
    start_cost = _huber_cost(start_errors, problem.observed & start_front)
    carry = (problem.camera_from_world, problem.points)
    carry = run(carry, problem.observed, robust_iterations, jnp.array(True))
    inliers, _ = inlier_table(*carry)
    carry = run(carry, inliers, plain_iterations, jnp.array(False))
    inliers, errors = inlier_table(*carry)
    cost = _huber_cost(errors, problem.observed & start_front)
    finite = jnp.all(jnp.isfinite(carry[0])) & jnp.all(jnp.isfinite(carry[1]))
    success = finite & (cost <= start_cost * 1.001)
    return BundleResult(
        camera_from_world=jnp.where(success, carry[0], problem.camera_from_world),
        points=jnp.where(success, carry[1], problem.points),
        inliers=jnp.where(success, inliers, problem.observed),
        success=success,
    )


def _inverse_symmetric_3x3(m: jax.Array) -> jax.Array:
    """Inverse of positive definite (..., 3, 3) by cofactors (a LAPACK call each is far slower)."""
    a, b, c = m[..., 0, 0], m[..., 0, 1], m[..., 0, 2]
    d, e, f = m[..., 1, 1], m[..., 1, 2], m[..., 2, 2]
    ca, cb, cc = d * f - e * e, c * e - b * f, b * e - c * d
    cd, ce, cf = a * f - c * c, b * c - a * e, a * d - b * b
    inverse_det = 1.0 / jnp.maximum(a * ca + b * cb + c * cc, 1e-20)
    rows = [
        jnp.stack([ca, cb, cc], -1),
        jnp.stack([cb, cd, ce], -1),
        jnp.stack([cc, ce, cf], -1),
    ]
    return jnp.stack(rows, -2) * inverse_det[..., None, None]
