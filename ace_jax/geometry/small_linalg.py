"""Closed-form 3x3 and 6x6 linear algebra on components, for use inside vmapped solvers.

Matrices are nested tuples of equally shaped arrays ("structure of arrays"): entry (i, j) of the
whole batch is one array. XLA then fuses a solver into a few vector loops, where `jnp.linalg` would
call LAPACK once per matrix.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

Components = tuple[jax.Array, ...]
Matrix = tuple[Components, ...]


def full_matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """a @ b in full float32: by default accelerators round the operands to 8 to 11 bits."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def unstack_matrix(matrix: jax.Array) -> Matrix:
    """Splits (..., n, m) into n tuples of m arrays (...)."""
    return tuple(
        tuple(matrix[..., i, j] for j in range(matrix.shape[-1])) for i in range(matrix.shape[-2])
    )


def stack_matrix(matrix: Matrix) -> jax.Array:
    """Joins n tuples of m arrays (...) into (..., n, m)."""
    return jnp.stack([jnp.stack(row, axis=-1) for row in matrix], axis=-2)


def dot(a: Sequence[jax.Array], b: Sequence[jax.Array]) -> jax.Array:
    """Inner product of two component vectors."""
    total = a[0] * b[0]
    for x, y in zip(a[1:], b[1:], strict=True):
        total = total + x * y
    return total


def cross(a: Sequence[jax.Array], b: Sequence[jax.Array]) -> Components:
    """Cross product of two component 3-vectors."""
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


def matvec(m: Matrix, v: Sequence[jax.Array]) -> Components:
    """Matrix times vector."""
    return tuple(dot(row, v) for row in m)


def transpose(m: Matrix) -> Matrix:
    """Transposed matrix."""
    return tuple(zip(*m, strict=True))


def matmul(a: Matrix, b: Matrix) -> Matrix:
    """Matrix product."""
    columns = transpose(b)
    return tuple(tuple(dot(row, column) for column in columns) for row in a)


def determinant_3x3(m: Matrix) -> jax.Array:
    """Determinant of a 3x3 matrix."""
    return dot(m[0], cross(m[1], m[2]))


def solve_3x3(m: Matrix, v: Sequence[jax.Array]) -> tuple[Components, jax.Array]:
    """Solves m x = v by cofactors.

    Returns:
        x, zero where m is singular, and the determinant (for the caller's own threshold).
    """
    cofactors = (cross(m[1], m[2]), cross(m[2], m[0]), cross(m[0], m[1]))
    determinant = dot(m[0], cofactors[0])
    singular = determinant == 0.0
    # Double where: the division must not see the zero, or its gradient is NaN.
    inverse = jnp.where(singular, 0.0, 1.0 / jnp.where(singular, 1.0, determinant))
    return tuple(
        inverse * (cofactors[0][i] * v[0] + cofactors[1][i] * v[1] + cofactors[2][i] * v[2])
        for i in range(3)
    ), determinant


def symmetric_adjugate_3x3(m: Matrix) -> Matrix:
    """Adjugate of a symmetric 3x3 matrix."""
    (xx, xy, xz), (_, yy, yz), (_, _, zz) = m
    c00, c11, c22 = yy * zz - yz * yz, xx * zz - xz * xz, xx * yy - xy * xy
    c01, c02, c12 = xz * yz - xy * zz, xy * yz - xz * yy, xy * xz - xx * yz
    return ((c00, c01, c02), (c01, c11, c12), (c02, c12, c22))


def solve_definite_6x6(m: Matrix, v: Sequence[jax.Array]) -> tuple[Components, jax.Array]:
    """Solves m x = v for a symmetric positive definite 6x6 matrix of unit diagonal.

    By 3x3 blocks and their Schur complement: two divisions in all. (XLA makes a kernel of every
    division and square root, and Cholesky's chain of them costs more to compile and to launch
    than to compute.)

    Args:
        m: 6x6 components, diagonal about 1.
        v: 6 components; they may have more axes than m's (several right-hand sides).

    Returns:
        x, finite in any case, and True where m is positive definite beyond rounding.
    """
    a, b = tuple(row[:3] for row in m[:3]), tuple(row[3:] for row in m[:3])
    c = tuple(row[3:] for row in m[3:])
    a_inverse, a_definite = _inverse_definite_3x3(a)
    # Rows of b^T a^-1.
    coupling = matmul(transpose(b), a_inverse)
    reduced = matmul(coupling, b)
    schur = tuple(
        tuple(x - y for x, y in zip(r, s, strict=True)) for r, s in zip(c, reduced, strict=True)
    )
    schur_inverse, schur_definite = _inverse_definite_3x3(schur)
    rest = tuple(x - y for x, y in zip(v[3:], matvec(coupling, v[:3]), strict=True))
    second = matvec(schur_inverse, rest)
    first = tuple(
        x - y
        for x, y in zip(matvec(a_inverse, v[:3]), matvec(transpose(coupling), second), strict=True)
    )
    return (*first, *second), a_definite & schur_definite


def _inverse_definite_3x3(m: Matrix) -> tuple[Matrix, jax.Array]:
    """Inverse of a symmetric 3x3 matrix with entries up to 1, and True where positive definite."""
    tolerance = 32.0 * jnp.finfo(m[0][0].dtype).eps
    adjugate = symmetric_adjugate_3x3(m)
    determinant = dot(m[0], adjugate[0])
    definite = (m[0][0] > tolerance) & (adjugate[2][2] > tolerance**2)
    definite = definite & (determinant > tolerance**3)
    # Double where: neither the value nor the gradient may see a division by zero.
    inverse = jnp.where(definite, 1.0 / jnp.where(definite, determinant, 1.0), 0.0)
    return tuple(tuple(inverse * x for x in row) for row in adjugate), definite
