"""Gradients of an optimised pose with respect to the data, by the implicit function theorem.

At a minimum of cost(pose, data) the gradient g in the pose's left tangent is zero; it stays zero
when the data move, so d tangent = -H^-1 (d g / d data) d data with H the Hessian. The search that
found the minimum need not be differentiable; without a gradient the rule costs nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ace_jax.geometry import small_linalg as la

Cost = Callable[[jax.Array, Any], jax.Array]


def attach_gradient(cost: Cost, pose: jax.Array, success: jax.Array, data: Any) -> jax.Array:
    """The pose (4, 4), constant so far, as a differentiable function of the data.

    Args:
        cost: (pose (4, 4), data) to a scalar, twice differentiable, minimal at `pose`. It must not
            close over traced arrays: they belong into the data.
        pose: (4, 4).
        success: () bool; elsewhere the gradient is zero.
        data: pytree of float arrays.

    Returns:
        `pose`.
    """

    @jax.custom_jvp
    def attached(pose: jax.Array, success: jax.Array, data: Any) -> jax.Array:
        del success, data
        return pose

    @attached.defjvp
    def attached_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
        pose, success, data = primals

        def gradient(tangent: jax.Array, data: Any) -> jax.Array:
            return jax.grad(lambda t: cost(_move(t, pose), data))(tangent)

        zero = jnp.zeros(6, pose.dtype)
        hessian = jax.jacfwd(gradient)(zero, data)
        _, change = jax.jvp(lambda d: gradient(zero, d), (data,), (tangents[2],))
        diagonal = jnp.diagonal(hessian)
        usable = success & jnp.all(jnp.isfinite(hessian)) & jnp.all(diagonal > 0.0)
        # Double where: a singular Hessian must not reach the division.
        scale = jax.lax.rsqrt(jnp.where(usable, diagonal, 1.0))
        identity = jnp.eye(6, dtype=pose.dtype)
        hessian = jnp.where(usable, hessian * scale[:, None] * scale[None, :], identity)
        tangent, definite = la.solve_definite_6x6(la.unstack_matrix(hessian), tuple(scale * change))
        tangent = jnp.where(usable & definite, -scale * jnp.stack(tangent), 0.0)
        _, pose_dot = jax.jvp(lambda t: _move(t, pose), (zero,), (tangent,))
        return pose, pose_dot

    pose, success = jax.lax.stop_gradient((pose, success))
    # Double where: what made the search fail, a NaN for instance, must not reach the derivative.
    data = jax.tree.map(lambda x: jnp.where(success, x, 1.0), data)
    return attached(pose, success, data)


def _move(tangent: jax.Array, pose: jax.Array) -> jax.Array:
    """exp(tangent) @ pose (4, 4) to second order: all that derivatives at zero see of it."""
    vx, vy, vz, x, y, z = tangent
    zero = jnp.zeros_like(x)
    twist = jnp.stack(
        [zero, -z, y, vx, z, zero, -x, vy, -y, x, zero, vz, zero, zero, zero, zero]
    ).reshape(4, 4)
    first = la.full_matmul(twist, pose)
    return pose + first + 0.5 * la.full_matmul(twist, first)
