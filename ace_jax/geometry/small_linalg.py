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


def cholesky(m: Matrix, relative_tolerance: float) -> tuple[Matrix, jax.Array]:
    """Lower Cholesky factor of a symmetric n x n matrix, unrolled.

    A pivot that falls below `relative_tolerance` times its diagonal entry is replaced by 1, so
    that the factor stays finite; the flag tells.

    Args:
        m: symmetric matrix; only the lower triangle is read.
        relative_tolerance: about the machine epsilon times a few.

    Returns:
        The factor (upper triangle: zeros) and True where the matrix was positive definite.
    """
    n = len(m)
    factor: list[list[jax.Array]] = [[jnp.zeros_like(m[0][0])] * n for _ in range(n)]
    definite = jnp.ones_like(m[0][0], dtype=bool)
    for j in range(n):
        pivot = m[j][j] - sum(factor[j][k] ** 2 for k in range(j))
        good = pivot > relative_tolerance * m[j][j]
        definite = definite & good
        factor[j][j] = jnp.sqrt(jnp.where(good, pivot, 1.0))
        inverse = 1.0 / factor[j][j]
        for i in range(j + 1, n):
            rest = m[i][j] - sum(factor[i][k] * factor[j][k] for k in range(j))
            factor[i][j] = rest * inverse
    return tuple(tuple(row) for row in factor), definite


def cholesky_solve(factor: Matrix, v: Sequence[jax.Array]) -> Components:
    """Solves L L^T x = v for a lower factor L."""
    n = len(v)
    y: list[jax.Array] = []
    for i in range(n):
        y.append((v[i] - sum(factor[i][k] * y[k] for k in range(i))) / factor[i][i])
    x: list[jax.Array] = [y[0]] * n
    for i in reversed(range(n)):
        x[i] = (y[i] - sum(factor[k][i] * x[k] for k in range(i + 1, n))) / factor[i][i]
    return tuple(x)
