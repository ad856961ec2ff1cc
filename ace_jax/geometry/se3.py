"""Rigid motions as 4x4 matrices, thin over jaxlie, and the nearest rotation to a matrix.

A tangent vector is (v, omega): translation part first, then rotation, metres and radians, as in
jaxlie. Perturbations act from the left: `exp(tangent) @ camera_from_world` moves the camera frame.
"""

import jax
import jax.numpy as jnp
import jaxlie

from ace_jax.geometry import small_linalg as la
from ace_jax.precision import full_precision

_EIGENVALUE_STEPS = 12  # numerics: Newton steps; many, as roots may lie close to each other
# Numerics: smallest (s2 +- s3) / (s1 + s2 +- s3), about the squared aspect ratio of a point set, at
# which a rotation is called defined.
_RANK_TOLERANCE = 1e-6


@full_precision
def exp(tangent: jax.Array) -> jax.Array:
    """Matrices (..., 4, 4) of tangent vectors (..., 6)."""
    return jaxlie.SE3.exp(tangent).as_matrix()


@full_precision
def log(matrix: jax.Array) -> jax.Array:
    """Tangent vectors (..., 6) of rigid motions (..., 4, 4)."""
    return jaxlie.SE3.from_matrix(matrix).log()


def from_rotation_translation(rotation: jax.Array, translation: jax.Array) -> jax.Array:
    """Matrices (..., 4, 4) of rotations (..., 3, 3) and translations (..., 3)."""
    top = jnp.concatenate([rotation, translation[..., None]], axis=-1)
    bottom = jnp.broadcast_to(jnp.array([0.0, 0.0, 0.0, 1.0], top.dtype), (*top.shape[:-2], 1, 4))
    return jnp.concatenate([top, bottom], axis=-2)


def invert(matrix: jax.Array) -> jax.Array:
    """Inverses (..., 4, 4) of rigid motions (..., 4, 4)."""
    rotation = jnp.swapaxes(matrix[..., :3, :3], -1, -2)
    translation = -la.full_matmul(rotation, matrix[..., :3, 3:])[..., 0]
    return from_rotation_translation(rotation, translation)


def transform(b_from_a: jax.Array, points: jax.Array) -> jax.Array:
    """Points (..., N, 3) of frame a in frame b, for one motion (..., 4, 4) each."""
    rotation, translation = b_from_a[..., :3, :3], b_from_a[..., :3, 3]
    moved = la.full_matmul(points, jnp.swapaxes(rotation, -1, -2))
    return moved + translation[..., None, :]


def rotation_angle(rotation: jax.Array) -> jax.Array:
    """Angle in radians (...) of rotations (..., 3, 3), accurate also near 0 and pi."""
    sine = 0.5 * jnp.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        axis=-1,
    )
    cosine = 0.5 * (jnp.trace(rotation, axis1=-2, axis2=-1) - 1.0)
    squared = jnp.sum(sine**2, axis=-1)
    zero = squared == 0.0
    # Double where: the square root has no gradient at the identity.
    norm = jnp.where(zero, 0.0, jnp.sqrt(jnp.where(zero, 1.0, squared)))
    return jnp.arctan2(norm, cosine)


def orthonormalise(rotation: jax.Array) -> jax.Array:
    """Removes the rounding from almost-rotations (..., 3, 3); a cheap `project_to_so3`.

    One Newton step for the polar factor, R (3 I - R^T R) / 2, which squares the error.
    """
    gram = la.full_matmul(jnp.swapaxes(rotation, -1, -2), rotation)
    return la.full_matmul(rotation, 1.5 * jnp.eye(3, dtype=rotation.dtype) - 0.5 * gram)


def project_to_so3(matrix: jax.Array) -> jax.Array:
    """The rotation (..., 3, 3) nearest to a matrix (..., 3, 3); identity where none is defined."""
    rotation, _ = nearest_rotation(la.unstack_matrix(matrix))
    return la.stack_matrix(rotation)


def nearest_rotation(m: la.Matrix) -> tuple[la.Matrix, jax.Array]:
    """The rotation R that maximises trace(R^T m), without an SVD.

    Horn, "Closed-form solution of absolute orientation using unit quaternions", JOSA A 1987: the
    quaternion is the eigenvector of a symmetric 4x4 matrix to its largest eigenvalue. That is found
    by Newton's method on the characteristic polynomial from an upper bound (Theobald, "Rapid
    calculation of RMSDs using a quaternion-based characteristic polynomial", Acta Cryst. A 2005);
    the vector is the largest column of the adjugate. Newton steps on SO(3) then remove the
    rounding. Only the last of these is differentiated: at the optimum it has the exact derivative
    (implicit function theorem), and no gradient passes through the eigenvalue.

    Args:
        m: 3x3 components of any batch shape and scale.

    Returns:
        The rotation's components, and True where it is well defined. Elsewhere (rank below 2,
        collinear or coincident points, or not finite) the rotation is the identity and constant.
    """
    squared = la.dot(sum(m, ()), sum(m, ()))
    usable = jnp.isfinite(squared) & (squared > 0.0)
    # Double where: unusable entries are replaced before anything is differentiated.
    m = tuple(
        tuple(jnp.where(usable, x, float(i == j)) for j, x in enumerate(row))
        for i, row in enumerate(m)
    )
    scale = jax.lax.rsqrt(la.dot(sum(m, ()), sum(m, ())))
    m = tuple(tuple(x * scale for x in row) for row in m)
    fixed = jax.tree.map(jax.lax.stop_gradient, m)
    rotation = quaternion_to_rotation(_horn_quaternion(fixed))
    rotation, _ = improve_rotation(rotation, fixed)
    rotation, stable = improve_rotation(jax.lax.stop_gradient(rotation), m)
    good = usable & stable
    rotation = tuple(
        tuple(jnp.where(good, x, float(i == j)) for j, x in enumerate(row))
        for i, row in enumerate(rotation)
    )
    return rotation, good


def _horn_quaternion(m: la.Matrix) -> la.Components:
    """Unit quaternion (w, x, y, z) that maximises trace(R^T m), |m|_F = 1."""
    (xx, yx, zx), (xy, yy, zy), (xz, yz, zz) = m
    horn = (
        (xx + yy + zz, yz - zy, zx - xz, xy - yx),
        (yz - zy, xx - yy - zz, xy + yx, zx + xz),
        (zx - xz, xy + yx, yy - xx - zz, yz + zy),
        (xy - yx, zx + xz, yz + zy, zz - xx - yy),
    )
    linear = -8.0 * la.determinant_3x3(m)
    constant = la.dot(horn[0], tuple(_cofactor(horn, 0, j) for j in range(4)))
    # lambda^4 - 2 lambda^2 + linear lambda + constant, from s1 + s2 + s3 <= sqrt(3) |m|_F.
    value = jnp.full_like(xx, 3.0**0.5)

    def newton(_: int, value: jax.Array) -> jax.Array:
        square = value * value
        polynomial = (square - 2.0) * square + linear * value + constant
        slope = 4.0 * value * (square - 1.0) + linear
        return value - polynomial / jnp.maximum(slope, 1e-6)

    value = jax.lax.fori_loop(0, _EIGENVALUE_STEPS, newton, value)
    shifted = tuple(
        tuple(x - value if i == j else x for j, x in enumerate(row)) for i, row in enumerate(horn)
    )
    # The adjugate is proportional to q q^T: its column with the largest diagonal is well scaled.
    best = tuple(_cofactor(shifted, 0, j) for j in range(4))
    peak = jnp.abs(best[0])
    for i in (1, 2, 3):
        column = tuple(_cofactor(shifted, i, j) for j in range(4))
        larger = jnp.abs(column[i]) > peak
        best = tuple(jnp.where(larger, a, b) for a, b in zip(column, best, strict=True))
        peak = jnp.maximum(peak, jnp.abs(column[i]))
    norm = la.dot(best, best)
    good = norm > 1e-30
    inverse_norm = jax.lax.rsqrt(jnp.where(good, norm, 1.0))
    return tuple(jnp.where(good, x * inverse_norm, float(i == 0)) for i, x in enumerate(best))


def _cofactor(m: la.Matrix, row: int, column: int) -> jax.Array:
    """Signed 3x3 minor of a 4x4 matrix."""
    minor = tuple(
        tuple(x for j, x in enumerate(entries) if j != column)
        for i, entries in enumerate(m)
        if i != row
    )
    value = la.determinant_3x3(minor)
    return value if (row + column) % 2 == 0 else -value


def quaternion_to_rotation(q: la.Components) -> la.Matrix:
    """Rotation components of a unit quaternion (w, x, y, z)."""
    w, x, y, z = q
    return (
        (1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - w * z), 2.0 * (x * z + w * y)),
        (2.0 * (x * y + w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - w * x)),
        (2.0 * (x * z - w * y), 2.0 * (y * z + w * x), 1.0 - 2.0 * (x * x + y * y)),
    )


def small_rotation(omega: la.Components) -> la.Matrix:
    """A rotation that equals exp([omega]x) to second order; exactly on SO(3) and smooth at 0.

    The quaternion (1, omega / 2), normalised: the Gibbs vector of the rotation.
    """
    half = tuple(0.5 * x for x in omega)
    scale = jax.lax.rsqrt(1.0 + la.dot(half, half))
    return quaternion_to_rotation((scale, *(scale * x for x in half)))


def improve_rotation(rotation: la.Matrix, m: la.Matrix) -> tuple[la.Matrix, jax.Array]:
    """One Newton step of max_R trace(R^T m), and True where the maximum is well defined.

    With S = R^T m the gradient in omega (R exp([omega]x)) is the axial vector of S - S^T, and the
    Hessian is -(tr(S) I - sym(S)), whose smallest eigenvalue is s2 +- s3 of m's singular values.
    """
    s = la.matmul(la.transpose(rotation), m)
    gradient = (s[2][1] - s[1][2], s[0][2] - s[2][0], s[1][0] - s[0][1])
    trace = s[0][0] + s[1][1] + s[2][2]
    hessian = tuple(
        tuple((trace if i == j else 0.0) - 0.5 * (s[i][j] + s[j][i]) for j in range(3))
        for i in range(3)
    )
    determinant = jax.lax.stop_gradient(la.determinant_3x3(hessian))
    stable = determinant > _RANK_TOLERANCE * jnp.abs(jax.lax.stop_gradient(trace)) ** 3
    # Double where: an undefined rotation must not divide by zero, nor carry a gradient.
    hessian = tuple(
        tuple(jnp.where(stable, x, float(i == j)) for j, x in enumerate(row))
        for i, row in enumerate(hessian)
    )
    omega, _ = la.solve_3x3(hessian, tuple(jnp.where(stable, x, 0.0) for x in gradient))
    return la.matmul(rotation, small_rotation(omega)), stable
