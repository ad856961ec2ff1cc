"""Relative-pose factors of bundle adjustment: measured motions between keyframes of a window.

The error of one is r = log(T_j T_i^-1 Z^-1), in the axes of camera j, as in `pose_graph`.
"""

import flax.struct
import jax
import jax.numpy as jnp
import jaxlie

from ace_jax.precision import full_precision


@flax.struct.dataclass
class RelativePoses:
    """E measurements.

    Attributes:
        first: (E,) int32 keyframe i, its row in the window.
        second: (E,) int32 keyframe j.
        second_from_first: (E, 4, 4) measured motion of points from camera i to camera j.
        information: (E, 6, 6) inverse covariance of r (translation, rotation), 1/m^2, 1/rad^2;
            zeros where there is no measurement.
    """

    first: jax.Array
    second: jax.Array
    second_from_first: jax.Array
    information: jax.Array


@full_precision
def chi_square(relative: RelativePoses, camera_from_world: jax.Array) -> jax.Array:
    """Sum of the errors of poses (K, 4, 4), squared, in units of their covariances."""
    error = _errors(relative, camera_from_world)
    return jnp.einsum("ei,eij,ej->", error, relative.information, error)


@full_precision
def normal_equations(
    relative: RelativePoses, camera_from_world: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Gauss-Newton Hessian (K, 6, K, 6) and gradient (K, 6) with respect to left twists.

    Twists are (translation, rotation). The Jacobian of log is taken to be the identity: errors are
    millimetres.
    """
    count = camera_from_world.shape[0]
    i, j, weight = relative.first, relative.second, relative.information
    to_first = -jax.vmap(_adjoint)(relative.second_from_first)  # dr / d twist of i
    weighed = jnp.einsum("eij,ej->ei", weight, _errors(relative, camera_from_world))
    across = jnp.einsum("eij,ejk->eik", weight, to_first)
    turned = jnp.swapaxes(to_first, 1, 2)
    hessian = jnp.zeros((count, 6, count, 6))
    hessian = hessian.at[j, :, j, :].add(weight).at[i, :, i, :].add(turned @ across)
    hessian = hessian.at[j, :, i, :].add(across)
    hessian = hessian.at[i, :, j, :].add(jnp.swapaxes(across, 1, 2))
    gradient = jnp.zeros((count, 6)).at[j].add(weighed)
    return hessian, gradient.at[i].add(jnp.einsum("eij,ej->ei", turned, weighed))


def _errors(relative: RelativePoses, camera_from_world: jax.Array) -> jax.Array:
    poses = jaxlie.SE3.from_matrix(camera_from_world)
    first, second = (
        jax.tree.map(lambda x, at=at: x[at], poses) for at in (relative.first, relative.second)
    )
    measured = jaxlie.SE3.from_matrix(relative.second_from_first)
    return (second @ first.inverse() @ measured.inverse()).log()


def _adjoint(matrix: jax.Array) -> jax.Array:
    return jaxlie.SE3.from_matrix(matrix).adjoint()
