"""Pose refinement: one camera against known points, by Levenberg-Marquardt on pixels and depth.

`refine_pose` minimises one robust cost (after RANSAC); `refine_pose_with_gating` drops outliers by
chi-square tests between rounds (tracking: Mur-Artal and Tardos, "ORB-SLAM2", 2017, III-C).
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.geometry import robust_loss, se3
from ace_jax.geometry import small_linalg as la
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.implicit import attach_gradient
from ace_jax.geometry.reprojection import (
    CHI2_PIXEL_DEPTH,
    DEFAULT_NOISE,
    NoiseModel,
    Observations,
    Residuals,
    chi_square_inliers,
    inverse_of,
    pose_rows,
    residuals_of,
)
from ace_jax.geometry.robust_loss import Loss
from ace_jax.precision import full_precision

_CONVERGED = 1e-6  # numerics: of the cost; a step that lowers it by less is the last one
_BEHIND = 1e6  # squared sigmas of a point behind the camera
_START_DAMPING = 1e-4  # of the normal matrix's diagonal: nearly Gauss-Newton


def normal_equations(
    pose: jax.Array,
    observations: Observations,
    camera: Camera,
    noise: NoiseModel,
    loss_scale: float | jax.Array,
    loss: Loss,
) -> tuple[jax.Array, jax.Array]:
    """[J | r]^T W [J | r] (7, 7) and the robust cost () at a pose (3, 4) or (4, 4)."""
    residuals, rho, weight = _weighed(pose, observations, camera, noise, loss_scale, loss)
    cost = loss_scale**2 * jnp.sum(observations.weights * rho)
    root = jnp.sqrt(jnp.where(residuals.in_front, observations.weights * weight, 0.0))
    rows = pose_rows(residuals, camera, noise, root)
    return la.full_matmul(rows, rows.T), cost


def pose_cost(
    pose: jax.Array,
    observations: Observations,
    camera: Camera,
    noise: NoiseModel,
    loss_scale: float | jax.Array,
    loss: Loss,
) -> jax.Array:
    """The robust cost () that `refine_pose` lowers, at a pose (4, 4); twice differentiable."""
    _, rho, _ = _weighed(pose, observations, camera, noise, loss_scale, loss)
    return loss_scale**2 * jnp.sum(observations.weights * rho)


def _weighed(
    pose: jax.Array,
    observations: Observations,
    camera: Camera,
    noise: NoiseModel,
    loss_scale: float | jax.Array,
    loss: Loss,
) -> tuple[Residuals, jax.Array, jax.Array]:
    """Residuals, and of each observation the loss (N,) and its derivative (N,)."""
    points, uv, q = observations.points_3d, observations.points_2d, observations.inverse_depth
    residuals = residuals_of(pose, points, uv, q, camera, noise)
    # A point behind the camera costs as much as a very distant one, and does not pull.
    squared = jnp.where(residuals.in_front, residuals.joint, _BEHIND)
    return residuals, *loss(squared / loss_scale**2)


def minimize(
    evaluate: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    pose: jax.Array,
    num_steps: int | jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Levenberg-Marquardt over one pose (Marquardt 1963), the damping relative to the diagonal.

    Args:
        evaluate: normal equations (7, 7), see `normal_equations`, and the cost () at a pose (3, 4).
        pose: (3, 4) start, rotation on SO(3).
        num_steps: at most; a step that raises the cost is not taken.

    Returns:
        The pose (3, 4), its normal equations and its cost.
    """

    def step(state: tuple) -> tuple:
        pose, normal, cost, damping, _ = state
        tangent, size = _damped_step(normal, damping)
        candidate = _retract(pose, tangent)
        new_normal, new_cost = evaluate(candidate)
        # Equal up to rounding counts as better: close to the optimum the cost is flat.
        better = new_cost <= cost * (1.0 + 1e-6)
        return (
            jnp.where(better, candidate, pose),
            jnp.where(better, new_normal, normal),
            jnp.where(better, new_cost, cost),
            jnp.clip(jnp.where(better, 0.1 * damping, 10.0 * damping), 1e-8, 1e4),
            better & (size < _CONVERGED * cost),
        )

    def unfinished(state: tuple) -> jax.Array:
        count, (*_, converged) = state
        return (count < num_steps) & ~converged

    _, (pose, normal, cost, *_) = jax.lax.while_loop(
        unfinished,
        lambda state: (state[0] + 1, step(state[1])),
        (0, (pose, *evaluate(pose), jnp.asarray(_START_DAMPING, pose.dtype), False)),
    )
    return pose, normal, cost


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
    noise: NoiseModel = DEFAULT_NOISE,
    loss_scale: float | jax.Array = 1.0,
    loss: Loss = robust_loss.squared,
    num_steps: int | jax.Array = 10,
) -> Refinement:
    """Levenberg-Marquardt from an initial pose, reweighted in every step for robust losses.

    Differentiable: the gradient of the pose with respect to observations, camera and sigmas is
    that of the optimum; the initial pose has none.

    Args:
        camera_from_world: (4, 4) initial pose, rotation on SO(3).
        observations: correspondences.
        camera: intrinsics.
        noise: standard deviations.
        loss_scale: scale of the loss, in sigmas.
        loss: one of `robust_loss`, on a correspondence's pixels and depth together (static).
        num_steps: iterations at most.

    Returns:
        `Refinement`; without success the initial pose.
    """
    # One NaN among the votes would make every cost NaN, and the pose would stay where it began.
    data = (observations.cleaned(), camera, noise, loss_scale)
    initial, constants = jax.lax.stop_gradient((camera_from_world, data))
    pose, normal, cost = minimize(
        lambda pose: normal_equations(pose, *constants, loss), initial[:3], num_steps
    )
    success = jnp.all(jnp.isfinite(pose)) & jnp.isfinite(cost)
    pose = jnp.where(success, _on_so3(pose), initial)
    return Refinement(
        camera_from_world=attach_gradient(
            lambda pose, data: pose_cost(pose, *data, loss), pose, success, data
        ),
        cost=cost,
        information=normal[:6, :6],
        success=success,
    )


@full_precision
def refine_pose_with_gating(
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

    The first half of the rounds weighs by Huber's loss, the rest is least squares on the gated
    observations.

    Args:
        camera_from_world: (4, 4) start.
        points: (N, 3) world, metres.
        uv: (N, 2) pixels.
        depth: (N,) metres, 0 where unknown.
        mask: (N,) bool, observations to use.
        camera: intrinsics.
        noise: standard deviations.
        votes: (N,) bool, those that may move the pose; None: all. The others are only judged.
        rounds: how often inliers are selected.
        iterations: Levenberg-Marquardt steps in a round, at most.

    Returns:
        The (4, 4) pose and the (N,) inliers.
    """
    seen = Observations(points.T, uv.T, jnp.where(mask, 1.0, 0.0), inverse_of(depth)).cleaned()
    votes = mask if votes is None else votes

    def one_round(i: jax.Array, carry: tuple) -> tuple:
        pose, inliers = carry
        chosen = seen.replace(weights=jnp.where(inliers & votes, seen.weights, 0.0))
        loss, scale = huber_if(i < (rounds + 1) // 2), CHI2_PIXEL_DEPTH**0.5
        pose, _, _ = minimize(
            lambda pose: normal_equations(pose, chosen, camera, noise, scale, loss),
            pose,
            iterations,
        )
        residuals = residuals_of(
            pose, seen.points_3d, seen.points_2d, seen.inverse_depth, camera, noise
        )
        return pose, chi_square_inliers(residuals, seen.weights > 0)

    start = camera_from_world[:3], mask
    pose, inliers = jax.lax.fori_loop(0, rounds, one_round, start)
    return _on_so3(pose), inliers


def huber_if(robust: bool | jax.Array) -> Loss:
    """Huber's loss where `robust`, else least squares."""

    def loss(s: jax.Array) -> tuple[jax.Array, jax.Array]:
        either = zip(robust_loss.huber(s), robust_loss.squared(s), strict=True)
        return tuple(jnp.where(robust, a, b) for a, b in either)

    return loss


def covariance_from_information(information: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Inverse (6, 6) of an information matrix (6, 6), zero where singular; and success ()."""
    scaled, scale = _scale_to_unit_diagonal(information)
    # All six right-hand sides at once: the rows of the identity are the components.
    identity = tuple(jnp.eye(6, dtype=scaled.dtype))
    inverse, definite = la.solve_definite_6x6(la.unstack_matrix(scaled), identity)
    inverse = jnp.stack(inverse) * scale[:, None] * scale[None, :]
    return jnp.where(definite, inverse, 0.0), definite


def _scale_to_unit_diagonal(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """S M S (6, 6) with unit diagonal, and the diagonal of S (6,): metres and radians alike."""
    diagonal = jnp.diagonal(matrix)
    positive = diagonal > 0.0
    scale = jnp.where(positive, jax.lax.rsqrt(jnp.where(positive, diagonal, 1.0)), 0.0)
    return matrix * scale[:, None] * scale[None, :], scale


def _damped_step(normal: jax.Array, damping: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The Levenberg-Marquardt step (6,) of normal equations (7, 7), and its squared size.

    The size () is in the units of the cost: about what the step lowers it by.
    """
    scaled, scale = _scale_to_unit_diagonal(normal[:6, :6])
    damped = scaled + damping * jnp.eye(6, dtype=scaled.dtype)
    step, definite = la.solve_definite_6x6(la.unstack_matrix(damped), tuple(-normal[:6, 6] * scale))
    step = jnp.stack(step)
    step = jnp.where(definite & jnp.all(jnp.isfinite(step)), step, 0.0)
    return step * scale, jnp.sum(step**2)


def _retract(pose: jax.Array, tangent: jax.Array) -> jax.Array:
    """A pose (3, 4) moved by a tangent vector, to second order; the rotation stays on SO(3)."""
    turn = la.stack_matrix(se3.small_rotation(tuple(tangent[3:])))
    return la.full_matmul(turn, pose) + jnp.pad(tangent[:3, None], ((0, 0), (3, 0)))


def _on_so3(pose: jax.Array) -> jax.Array:
    """A pose (3, 4) as a matrix (4, 4), the rounding removed from its rotation."""
    return se3.from_rotation_translation(se3.orthonormalise(pose[:, :3]), pose[:, 3])
