"""Bundle adjustment of a window of keyframes and its landmarks (Triggs et al., 1999).

Observations stand in a dense (keyframe, landmark) table, so the Schur complement over landmarks is
a matrix product; residuals are those of `reprojection`, and of relative poses that were measured
otherwise.
"""

import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.geometry import relative_poses, robust_loss, se3
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.pose_refinement import huber_if
from ace_jax.geometry.relative_poses import RelativePoses
from ace_jax.geometry.reprojection import (
    CHI2_PIXEL_DEPTH,
    NoiseModel,
    Residuals,
    chi_square_inliers,
    inverse_of,
    pose_rows,
    residuals_of,
)
from ace_jax.precision import full_precision

MAX_COST = 100.0  # squared sigmas of one observation (judged): mismatches must not decide success
_UPPER = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))  # of a symmetric 3x3 matrix


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
        relative: measured motions between keyframes.
    """

    camera_from_world: jax.Array
    free: jax.Array
    points: jax.Array
    uv: jax.Array
    depth: jax.Array
    observed: jax.Array
    relative: RelativePoses


@flax.struct.dataclass
class BundleResult:
    """Adjusted poses (K, 4, 4), points (L, 3), which observations (K, L) fit, and success."""

    camera_from_world: jax.Array
    points: jax.Array
    inliers: jax.Array
    success: jax.Array


def _huber_cost(residuals: Residuals, used: jax.Array) -> jax.Array:
    rho, _ = robust_loss.huber(residuals.joint / CHI2_PIXEL_DEPTH)
    return jnp.sum(jnp.where(used, jnp.minimum(CHI2_PIXEL_DEPTH * rho, MAX_COST), 0.0))


def _point_rows(
    residuals: Residuals, rotation: jax.Array, camera: Camera, noise: NoiseModel, root: jax.Array
) -> list[list[jax.Array]]:
    """Jacobian with respect to the points in world axes: 3 rows (u, v, depth) of 3 times (L,)."""
    x, y, w = residuals.x, residuals.y, residuals.inverse_z
    su = camera.fx / noise.pixel_sigma * root * w
    sv = camera.fy / noise.pixel_sigma * root * w
    sw = residuals.depth_weight * root * w * w
    axes = range(3)
    return [
        [su * (rotation[0, c] - x * rotation[2, c]) for c in axes],
        [sv * (rotation[1, c] - y * rotation[2, c]) for c in axes],
        [-sw * rotation[2, c] for c in axes],
    ]


@full_precision
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
    inverse_depth = inverse_of(problem.depth)
    num_free, num_points = problem.free.shape[0], problem.points.shape[0]
    rows_in_use = jnp.sum(jnp.cumsum(jnp.any(problem.observed, 1)[::-1]) > 0)

    def residuals_in(k, pose, points):
        return residuals_of(pose, points.T, problem.uv[k].T, inverse_depth[k], camera, noise)

    def accumulate(k, poses, points, used, robust, hll, bl):
        """Adds keyframe k to the landmarks' normal equations; returns its rows too."""
        residuals = residuals_in(k, poses[k], points)
        _, weight = huber_if(robust)(residuals.joint / CHI2_PIXEL_DEPTH)
        root = jnp.sqrt(jnp.where(used[k] & residuals.in_front, weight, 0.0))
        rows = _point_rows(residuals, poses[k, :3, :3], camera, noise, root)
        errors = residuals.u * root, residuals.v * root, residuals.w * root
        hll = hll + jnp.stack([sum(r[i] * r[j] for r in rows) for i, j in _UPPER])
        bl = bl + jnp.stack(
            [sum(r[i] * e for r, e in zip(rows, errors, strict=True)) for i in range(3)]
        )
        return hll, bl, (residuals, root, rows)

    def step(poses, points, used, robust):
        def free(carry, k):
            hll, bl, (residuals, root, rows) = accumulate(k, poses, points, used, robust, *carry)
            pose = pose_rows(residuals, camera, noise, root)
            by_row = pose.reshape(7, 3, num_points)
            hpl = jnp.stack(
                [
                    jnp.stack([sum(by_row[i, r] * rows[r][c] for r in range(3)) for c in range(3)])
                    for i in range(6)
                ]
            )
            return (hll, bl), (pose @ pose.T, hpl)

        def fixed(k, carry):
            return accumulate(k, poses, points, used, robust, *carry)[:2]

        # One keyframe at a time: its rows fit into a core's cache, and absent ones cost nothing.
        carry = jnp.zeros((6, num_points)), jnp.zeros((3, num_points))
        carry, (normal, hpl) = jax.lax.scan(free, carry, jnp.arange(num_free))
        hll, bl = jax.lax.fori_loop(num_free, rows_in_use, fixed, carry)
        hpp, bp = normal[:, :6, :6], normal[:, :6, 6]
        hessian, gradient = relative_poses.normal_equations(problem.relative, poses)

        xx, xy, xz, yy, yz, zz = hll
        xx, yy, zz = (h * (1 + damping) + 1e-3 for h in (xx, yy, zz))
        inverse = _inverse_symmetric_3x3(xx, xy, xz, yy, yz, zz)
        solved = jnp.stack(
            [sum(hpl[:, :, c] * inverse[c][d] for c in range(3)) for d in range(3)], axis=2
        )  # (F, 6, 3, L): hpl times the inverse
        coupling = hpl.reshape(num_free * 6, 3 * num_points)
        left = solved.reshape(num_free * 6, 3 * num_points)
        schur = -(left @ coupling.T).reshape(num_free, 6, num_free, 6)
        blocks = jnp.arange(num_free)
        hpp = hpp + jax.vmap(jnp.diag)(damping * jnp.einsum("fii->fi", hpp) + 1e-3)
        schur = schur.at[blocks, :, blocks, :].add(hpp) + hessian[:num_free, :, :num_free]
        rhs = bp + gradient[:num_free] - (left @ bl.reshape(-1)).reshape(num_free, 6)
        # Poses that may not move: identity block, zero right-hand side.
        moves = problem.free[:, None, None, None] & problem.free[None, None, :, None]
        schur = jnp.where(moves, schur, 0.0)
        schur = schur.reshape(num_free * 6, num_free * 6)
        schur = schur + jnp.diag(jnp.repeat(jnp.where(problem.free, 0.0, 1.0), 6))
        rhs = jnp.where(problem.free[:, None], rhs, 0.0).reshape(-1)
        pose_delta = -jax.scipy.linalg.solve(schur, rhs, assume_a="pos")
        bl = bl + (pose_delta @ coupling).reshape(3, num_points)
        point_delta = [-sum(inverse[c][d] * bl[d] for d in range(3)) for c in range(3)]
        moved = jax.vmap(lambda d, p: se3.exp(d) @ p)(
            pose_delta.reshape(num_free, 6), poses[:num_free]
        )
        return poses.at[:num_free].set(moved), points + jnp.stack(point_delta, axis=1)

    def residual_table(poses, points):
        """Residuals whose arrays are (K, L)."""
        return jax.vmap(residuals_in, (0, 0, None))(jnp.arange(len(poses)), poses, points)

    def inlier_table(poses, points):
        residuals = residual_table(poses, points)
        return chi_square_inliers(residuals, problem.observed), residuals

    def cost(residuals, poses):
        relative = relative_poses.chi_square(problem.relative, poses)
        return _huber_cost(residuals, judged) + relative

    start = residual_table(problem.camera_from_world, problem.points)
    judged = problem.observed & start.in_front
    start_cost = cost(start, problem.camera_from_world)

    # One loop for both kinds of iterations: the step, most of the program, is compiled once.
    def iterate(i, carry):
        *window, used = carry
        used = jax.lax.cond(i == robust_iterations, lambda: inlier_table(*window)[0], lambda: used)
        return *step(*window, used, i < robust_iterations), used

    carry = problem.camera_from_world, problem.points, problem.observed
    poses, points, _ = jax.lax.fori_loop(0, robust_iterations + plain_iterations, iterate, carry)
    inliers, residuals = inlier_table(poses, points)
    finite = jnp.all(jnp.isfinite(poses)) & jnp.all(jnp.isfinite(points))
    success = finite & (cost(residuals, poses) <= start_cost * 1.001)
    return BundleResult(
        camera_from_world=jnp.where(success, poses, problem.camera_from_world),
        points=jnp.where(success, points, problem.points),
        inliers=jnp.where(success, inliers, problem.observed),
        success=success,
    )


def _inverse_symmetric_3x3(a, b, c, d, e, f) -> list[list[jax.Array]]:
    """Inverse of positive definite [[a, b, c], [b, d, e], [c, e, f]], each (L,), by cofactors.

    A LAPACK call for each landmark is far slower.
    """
    ca, cb, cc = d * f - e * e, c * e - b * f, b * e - c * d
    cd, ce, cf = a * f - c * c, b * c - a * e, a * d - b * b
    scale = 1.0 / jnp.maximum(a * ca + b * cb + c * cc, 1e-20)
    ca, cb, cc, cd, ce, cf = (cofactor * scale for cofactor in (ca, cb, cc, cd, ce, cf))
    return [[ca, cb, cc], [cb, cd, ce], [cc, ce, cf]]
