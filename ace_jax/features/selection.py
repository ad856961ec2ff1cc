"""Selects a spatially well distributed subset of an image's features."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.programs import program

_MOST_CELLS = 32  # along each side of the image, a power of two


@program
def by_reliability(scores: jax.Array, uv: jax.Array, mask: jax.Array) -> jax.Array:
    """The order (N,) in which to take features: any number of the first is the best choice.

    High scores come first. Features of equal score, as dense encoders give them, are taken from all
    over the image: one from each of its cells, then a second one from each, and so on; the cells
    follow each other as in Bayer's ordered dithering ("An optimum method for two-level rendition of
    continuous-tone pictures", ICC 1973), so that a part of a round is spread evenly, too. Masked
    features come last.

    Args:
        scores: (N,) the higher, the more reliable.
        uv: (N, 2) pixels.
        mask: (N,) bool.
    """
    low = jnp.min(jnp.where(mask[:, None], uv, jnp.inf), axis=0)
    high = jnp.max(jnp.where(mask[:, None], uv, -jnp.inf), axis=0)
    place = jnp.where(mask[:, None], (uv - low) / jnp.maximum(high - low, 1e-6), 0.0)
    # No more cells than a grid of 4:3 has rows: empty ones would leave parts of a round uneven.
    rows = math.sqrt(0.75 * len(scores))
    cells = min(1 << int(math.log2(max(rows, 1.0))), _MOST_CELLS)
    column, row = jnp.clip((place * cells).astype(jnp.int32), 0, cells - 1).T
    turn = jnp.asarray(_bayer(cells))[row, column]
    cost = jnp.where(mask, -scores, jnp.inf)
    # Equal features of a cell next to each other: how many come before tells a feature's round.
    order = jnp.lexsort((turn, cost))
    cost, turn = cost[order], turn[order]
    position = jnp.arange(len(order))
    first = (cost != jnp.roll(cost, 1)) | (turn != jnp.roll(turn, 1)) | (position == 0)
    rounds = position - jax.lax.cummax(jnp.where(first, position, 0))
    return order[jnp.lexsort((turn, rounds, cost))]


def _bayer(size: int) -> np.ndarray:
    """(size, size) int32: Bayer's threshold matrix, all numbers below size^2."""
    matrix = np.zeros((1, 1), np.int32)
    while len(matrix) < size:
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    return matrix
