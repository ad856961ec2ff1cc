"""Pose refinement by Levenberg-Marquardt on pixels and, where known, depth.

A bounded number of iterations, 6x6 normal equations, analytic Jacobians. A left perturbation
(v, omega) moves a camera-frame point X by v + omega x X, so with u = X/Z, w = Y/Z, q = 1/Z:

    d u = [ q, 0, -u q,  -u w,      1 + u^2, -w ]
    d w = [ 0, q, -w q,  -1 - w^2,  u w,      u ]
    d q = [ 0, 0, -q^2,  -w q,      u q,      0 ]

Depth enters as inverse depth with constant sigma: the noise in metres then grows with the square
of the distance, as that of stereo and structured light does.
"""

import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.geometry import robust_loss, se3
from ace_jax.geometry import small_linalg as la
from ace_jax.geometry.camera import MIN_DEPTH, Camera
from ace_jax.geometry.implicit import attach_gradient
from ace_jax.geometry.robust_loss import Loss

_CONVERGED = 1e-6  # of the cost: a step that lowers it by less is the last one
_BEHIND = 1e6  # squared sigmas of a point behind the camera


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
        pixel_sigma: standard deviation of a pixel coordinate.
        inverse_depth_sigma: standard deviation of the inverse depth, 1/m.
        loss_scale: scale of the loss, in sigmas.
        loss: one of `robust_loss`, on a correspondence's pixels and depth together (static).
        num_steps: iterations at most. A step that raises the cost is not taken.

    Returns:
        `Refinement`; without success the initial pose.
    """
    # One NaN among the votes would make every cost NaN, and the pose would stay where it began.
    data = (observations.cleaned(), camera, pixel_sigma, inverse_depth_sigma, loss_scale)
    initial, constants = jax.lax.stop_gradient((camera_from_world, data))

    def evaluate(pose: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _normal_equations(pose, *constants, loss)

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

    start = initial[:3]
    damping = jnp.asarray(1e-4, start.dtype)
    _, (pose, normal, cost, *_) = jax.lax.while_loop(
        unfinished,
        lambda state: (state[0] + 1, step(state[1])),
        (0, (start, *evaluate(start), damping, False)),
    )
    success = jnp.all(jnp.isfinite(pose)) & jnp.isfinite(cost)
    rotation = se3.orthonormalise(pose[:, :3])
    pose = se3.from_rotation_translation(rotation, pose[:, 3])
    pose = jnp.where(success, pose, initial)
    return Refinement(
        camera_from_world=attach_gradient(
            lambda pose, data: pose_cost(pose, *data, loss), pose, success, data
        ),
        cost=cost,
        information=normal[:6, :6],
        success=success,
    )


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


@flax.struct.dataclass
class _Residuals:
    """Residuals in sigmas and what their Jacobian needs, at one pose."""

    in_front: jax.Array  # (N,)
    inverse_z: jax.Array  # (N,) 1/m, 1 where not in front
    projected: jax.Array  # (2, N) normalised image coordinates
    pixel_scale: jax.Array  # (2, 1) focal lengths over sigma
    pixel: jax.Array  # (2, N)
    depth_scale: jax.Array | None  # (N,) metres, 0 where depth is not known
    depth: jax.Array | None  # (N,)
    rho: jax.Array  # (N,) loss
    loss_weight: jax.Array  # (N,) its derivative


def pose_cost(
    pose: jax.Array,
    observations: Observations,
    camera: Camera,
    pixel_sigma: float | jax.Array,
    inverse_depth_sigma: float | jax.Array,
    loss_scale: float | jax.Array,
    loss: Loss,
) -> jax.Array:
    """The robust cost () that `refine_pose` lowers, at a pose (4, 4); twice differentiable."""
    r = _residuals(pose, observations, camera, pixel_sigma, inverse_depth_sigma, loss_scale, loss)
    return loss_scale**2 * jnp.sum(observations.weights * r.rho)


def _residuals(
    pose: jax.Array,
    observations: Observations,
    camera: Camera,
    pixel_sigma: float | jax.Array,
    inverse_depth_sigma: float | jax.Array,
    loss_scale: float | jax.Array,
    loss: Loss,
) -> _Residuals:
    x, y, z = observations.points_3d
    # Sums of columns, not a matrix product: XLA fuses it with what follows.
    pose = pose[:3]
    moved = pose[:, 0:1] * x + pose[:, 1:2] * y + pose[:, 2:3] * z + pose[:, 3:]
    in_front = moved[2] > MIN_DEPTH
    q = 1.0 / jnp.where(in_front, moved[2], 1.0)
    projected = moved[:2] * q
    scale = jnp.stack([camera.fx, camera.fy]).reshape(2, 1) / pixel_sigma
    centre = jnp.stack([camera.cx, camera.cy]).reshape(2, 1)
    pixel = scale * projected + (centre - observations.points_2d) / pixel_sigma
    squared = pixel[0] ** 2 + pixel[1] ** 2
    depth_scale = depth = None
    if observations.inverse_depth is not None:
        known = observations.inverse_depth > 0.0
        depth_scale = jnp.where(known, 1.0, 0.0) / inverse_depth_sigma
        depth = depth_scale * (q - observations.inverse_depth)
        squared = squared + depth**2
    # A point behind the camera costs as much as a very distant one, and does not pull.
    rho, weight = loss(jnp.where(in_front, squared, _BEHIND) / loss_scale**2)
    return _Residuals(in_front, q, projected, scale, pixel, depth_scale, depth, rho, weight)


def _normal_equations(
    pose: jax.Array,
    observations: Observations,
    camera: Camera,
    pixel_sigma: float | jax.Array,
    inverse_depth_sigma: float | jax.Array,
    loss_scale: float | jax.Array,
    loss: Loss,
) -> tuple[jax.Array, jax.Array]:
    """[J | r]^T W [J | r] (7, 7) and the robust cost () at a pose (3, 4)."""
    r = _residuals(pose, observations, camera, pixel_sigma, inverse_depth_sigma, loss_scale, loss)
    cost = loss_scale**2 * jnp.sum(observations.weights * r.rho)
    q, (u, w) = r.inverse_z, r.projected
    root = jnp.sqrt(jnp.where(r.in_front, observations.weights * r.loss_weight, 0.0))
    a = root * r.pixel_scale
    first, second = jnp.array([[1.0], [0.0]], q.dtype), jnp.array([[0.0], [1.0]], q.dtype)
    rows = jnp.stack(
        [
            a * first * q,
            a * second * q,
            -a * r.projected * q,
            -a * (r.projected * w + second),
            a * (r.projected * u + first),
            a * (second * u - first * w),
            root * r.pixel,
        ]
    ).reshape(7, -1)
    normal = la.full_matmul(rows, rows.T)
    if observations.inverse_depth is not None:
        a = root * r.depth_scale
        zero = jnp.zeros_like(a)
        rows = jnp.stack([zero, zero, -a * q * q, -a * w * q, a * u * q, zero, root * r.depth])
        normal = normal + la.full_matmul(rows, rows.T)
    return normal, cost


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
