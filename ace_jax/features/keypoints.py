"""From a score map to keypoints: suppression, selection, sub-pixel position, descriptors.

All shapes are static. Coordinates are pixels of the score map, centres at integers.
"""

import jax
import jax.numpy as jnp
from jax import lax

_SELECTION_CELL = 4  # side in pixels; one keypoint at most in each


def local_maxima(heatmap: jax.Array, radius: int) -> jax.Array:
    """The heatmap (H, W) where it is the largest within `radius` (Chebyshev), zero elsewhere."""
    return jnp.where(heatmap >= _window_max(heatmap, radius), heatmap, 0.0)


def _window_max(image: jax.Array, radius: int) -> jax.Array:
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (radius, radius)
        padded = jnp.pad(image, pad)
        size = image.shape[axis]
        image = padded_max = lax.slice_in_dim(padded, 0, size, axis=axis)
        for shift in range(1, 2 * radius + 1):
            shifted = lax.slice_in_dim(padded, shift, shift + size, axis=axis)
            padded_max = jnp.maximum(padded_max, shifted)
        image = padded_max
    return image


def select(scores: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """The `count` largest scores of a sparse map.

    Sorting all H*W pixels costs more than the network on a CPU. So each 4x4 block first gives its
    largest; maxima that are 5x5-suppressed rarely share a block.

    Args:
        scores: (H, W), zero where there is no keypoint; H and W are multiples of 4.
        count: N.

    Returns:
        indices (N,) into the flattened map and scores (N,) in descending order, zero for padding.
    """
    h, w = scores.shape
    cell = _SELECTION_CELL
    blocks = scores.reshape(h // cell, cell, w // cell, cell).transpose(0, 2, 1, 3)
    blocks = blocks.reshape(-1, cell * cell)
    best = blocks.max(axis=1)
    values, block = lax.top_k(best, min(count, best.shape[0]))
    inside = jnp.argmax(blocks[block], axis=1)
    y = (block // (w // cell)) * cell + inside // cell
    x = (block % (w // cell)) * cell + inside % cell
    pad = count - values.shape[0]
    return jnp.pad(y * w + x, (0, pad)), jnp.pad(values, (0, pad))


def refine(heatmap: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Sub-pixel positions (N, 2) as (x, y): the centroid of the 3x3 neighbourhood's scores."""
    h, w = heatmap.shape
    offsets = jnp.array([-1, 0, 1])
    rows = y[:, None, None] + offsets[None, :, None]
    columns = x[:, None, None] + offsets[None, None, :]
    inside = (rows >= 0) & (rows < h) & (columns >= 0) & (columns < w)
    patch = heatmap[jnp.clip(rows, 0, h - 1), jnp.clip(columns, 0, w - 1)]
    patch = jnp.where(inside, patch, 0.0)
    total = jnp.maximum(patch.sum(axis=(1, 2)), 1e-12)
    dx = (patch * offsets[None, None, :]).sum(axis=(1, 2)) / total
    dy = (patch * offsets[None, :, None]).sum(axis=(1, 2)) / total
    return jnp.stack([x + dx, y + dy], axis=-1)


def sample_bilinear(maps: jax.Array, points: jax.Array) -> jax.Array:
    """Values (N, C) of `maps` (H, W, C) at `points` (N, 2) as (x, y) in map cells; edges clamp."""
    h, w, _ = maps.shape
    x = jnp.clip(points[:, 0], 0.0, w - 1.0)
    y = jnp.clip(points[:, 1], 0.0, h - 1.0)
    x0, y0 = jnp.floor(x).astype(jnp.int32), jnp.floor(y).astype(jnp.int32)
    x1, y1 = jnp.minimum(x0 + 1, w - 1), jnp.minimum(y0 + 1, h - 1)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    top = maps[y0, x0] * (1 - fx) + maps[y0, x1] * fx
    bottom = maps[y1, x0] * (1 - fx) + maps[y1, x1] * fx
    return top * (1 - fy) + bottom * fy


def normalize(descriptors: jax.Array) -> jax.Array:
    """Unit length along the last axis; a zero vector stays zero, with finite gradient."""
    squared = jnp.sum(jnp.square(descriptors), axis=-1, keepdims=True)
    return descriptors * lax.rsqrt(jnp.maximum(squared, 1e-12))
