"""Keypoints from a score map: non-maximum suppression, sub-pixel refinement, descriptors.

All shapes are static. Coordinates are pixels of the score map, centres at integers.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ace_jax.models.layers import depth_to_space
from ace_jax.precision import full_precision

_BLOCK = 4  # side in pixels; at most one keypoint in each


def cell_probabilities(logits: jax.Array) -> jax.Array:
    """(H/8, W/8, 65) logits to the (H, W) map of keypoint probabilities.

    The softmax of each cell is over its 64 pixels and "no keypoint". Clipped, so that the sum
    cannot overflow; subtracting the maximum would cost another pass.
    """
    e = jnp.exp(jnp.clip(logits, -60.0, 60.0))
    e = (e / e.sum(axis=-1, keepdims=True))[..., :-1]
    return depth_to_space(e[None], 8)[0]


def local_maxima(heatmap: jax.Array, radius: int) -> jax.Array:
    """The heatmap (H, W) where it is the largest within `radius` (Chebyshev), zero elsewhere."""
    side = 2 * radius + 1
    largest = heatmap
    for window in ((side, 1), (1, side)):  # separable: 15 times faster than one square window
        largest = lax.reduce_window(largest, -jnp.inf, lax.max, window, (1, 1), "SAME")
    return jnp.where(heatmap >= largest, heatmap, 0.0)


def greedy_maxima(scores: jax.Array, radius: int, rounds: int = 4) -> jax.Array:
    """Greedy suppression: the best pixel is kept, its neighbourhood dropped, and so on.

    Unlike `local_maxima`, a pixel next to a better one survives if that one is itself dropped.
    Each round settles all pixels whose better neighbours are settled; four leave one keypoint in
    thousands undecided, which is then dropped.

    Args:
        scores: (H, W), zero where there is no candidate.
        radius: of the square neighbourhood, pixels.
        rounds: at most so many.
    """
    side = 2 * radius + 1

    def spread(image: jax.Array) -> jax.Array:
        for window in ((side, 1), (1, side)):
            image = lax.reduce_window(image, 0.0, lax.max, window, (1, 1), "SAME")
        return image

    kept = jnp.zeros_like(scores)
    open_scores = scores
    for _ in range(rounds):
        best = (open_scores > 0) & (open_scores >= spread(open_scores))
        kept = jnp.where(best, scores, kept)
        open_scores = jnp.where(spread(best.astype(scores.dtype)) > 0, 0.0, open_scores)
    return kept


def best_of_blocks(peaks: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The largest peak of each 4x4 block: x, y (M,) int32 and value (M,), row by row.

    Sorting all H*W pixels costs more than the network on a CPU; two 5x5-suppressed maxima rarely
    share a block. H and W are multiples of 4.
    """
    height, width = peaks.shape
    h, w = height // _BLOCK, width // _BLOCK
    rows = peaks.reshape(h, _BLOCK, width)
    value, dy = _running_max([rows[:, i] for i in range(_BLOCK)])
    columns, dys = value.reshape(h, w, _BLOCK), dy.reshape(h, w, _BLOCK)
    value, dx = _running_max([columns[..., j] for j in range(_BLOCK)])
    dy = functools.reduce(
        lambda chosen, j: jnp.where(dx == j, dys[..., j], chosen), range(1, _BLOCK), dys[..., 0]
    )
    x = jnp.arange(w, dtype=jnp.int32)[None] * _BLOCK + dx
    y = jnp.arange(h, dtype=jnp.int32)[:, None] * _BLOCK + dy
    return x.ravel(), y.ravel(), value.ravel()


def _running_max(slices: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Elementwise maximum and the number of the first slice that has it (vectorizes; argmax does
    not)."""
    best, number = slices[0], jnp.zeros(slices[0].shape, jnp.int32)
    for i, candidate in enumerate(slices[1:], start=1):
        number = jnp.where(candidate > best, i, number)
        best = jnp.maximum(best, candidate)
    return best, number


def top(scores: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """The `count` largest scores, descending, and their indices; padded with score 0, index 0."""
    values, index = lax.top_k(scores, min(count, scores.shape[0]))
    pad = count - values.shape[0]
    return jnp.pad(values, (0, pad)), jnp.pad(index, (0, pad))


@full_precision
def refine(heatmap: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Sub-pixel positions (N, 2) as (x, y): the centroid of the 3x3 neighbourhood's scores."""
    offsets = np.array([-1, 0, 1])
    padded = jnp.pad(heatmap, 1)
    rows = y[:, None] + 1 + offsets.repeat(3)
    columns = x[:, None] + 1 + np.tile(offsets, 3)
    # One product gives the sum and both moments.
    moments = np.stack([np.ones(9), np.tile(offsets, 3), offsets.repeat(3)], axis=1)
    total, dx, dy = (padded[rows, columns] @ moments.astype(np.float32)).T
    total = jnp.maximum(total, 1e-12)
    return jnp.stack([x + dx / total, y + dy / total], axis=-1)


def normalize(descriptors: jax.Array) -> jax.Array:
    """Unit length along the last axis; a zero vector stays zero, with finite gradient."""
    squared = jnp.sum(jnp.square(descriptors), axis=-1, keepdims=True)
    return descriptors * lax.rsqrt(jnp.maximum(squared, 1e-12))
