"""Parts that the robust solvers share: masking, sampling minimal sets, the stopping rule."""

import jax
import jax.numpy as jnp


def valid_points(
    arrays: tuple[jax.Array, ...], mask: jax.Array | None, weights: jax.Array | None
) -> tuple[tuple[jax.Array, ...], jax.Array, jax.Array]:
    """Removes what may not vote: masked, non-finite, and non-positive weight.

    Args:
        arrays: (N, D) each.
        mask: (N,) bool or None.
        weights: (N,) or None.

    Returns:
        The arrays with zeros in removed rows, valid (N,) bool, and weights (N,), zero if removed.
    """
    valid = jnp.ones(arrays[0].shape[0], bool) if mask is None else mask.astype(bool)
    for array in arrays:
        valid = valid & jnp.all(jnp.isfinite(array), axis=-1)
    if weights is None:
        weights = valid.astype(arrays[0].dtype)
    else:
        valid = valid & jnp.isfinite(weights) & (weights > 0.0)
        weights = jnp.where(valid, weights, 0.0)
    return tuple(jnp.where(valid[:, None], array, 0.0) for array in arrays), valid, weights


def sample_minimal_sets(
    key: jax.Array, weights: jax.Array, num_sets: int, size: int
) -> tuple[jax.Array, jax.Array]:
    """Draws index sets with probability proportional to the weights.

    Args:
        key: PRNG key.
        weights: (N,) non-negative.
        num_sets: number of sets.
        size: indices in a set.

    Returns:
        Indices (size, num_sets), and distinct (num_sets,): False where an index came up twice.
    """
    cumulative = jnp.cumsum(weights)
    draws = jax.random.uniform(key, (size, num_sets), weights.dtype) * cumulative[-1]
    indices = jnp.searchsorted(cumulative, draws, side="right")
    indices = jnp.minimum(indices, weights.shape[0] - 1)
    distinct = jnp.ones(num_sets, bool)
    for i in range(size):
        for j in range(i):
            distinct = distinct & (indices[i] != indices[j])
    return indices, distinct
