"""RootSIFT descriptors of all keypoints of an image in one batch.

Lowe, IJCV 2004, section 6: histograms of gradient directions, eight bins in each of 4x4 cells;
RootSIFT: Arandjelovic and Zisserman, CVPR 2012 (L1-normalize, square root). As in DAISY (Tola et
al., PAMI 2010) the gradient is divided into one map per direction, each map is pooled once for the
whole image, and a descriptor is 16 vectors looked up in the pooled maps. Lowe's Gaussian window and
his limit of 0.2 on an entry are left out: neither changed the number of right matches.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.features import blobs
from ace_jax.features.filters import gaussian_blur
from ace_jax.geometry.interpolation import sample_bilinear

DIM = 128
BINS = 8  # directions, k * 45 degrees from the x to the y axis
# Pixels; Gaussian of the image before its gradient is taken. 1.0 to 1.6 match equally well; this
# one is the detector's too, and XLA computes it once.
SMOOTHING = blobs.SIGMA
CELL = 6.0  # pixels; side of one of the 4x4 cells
_POOLING = CELL / math.sqrt(6.0)  # a Gaussian as wide as the tent of Lowe's bilinear weights
_STRIDE = 2  # the pooled maps are smooth enough for half the resolution
ORIENTATION_SIGMA = 3.0  # pixels


def pooled_directions(grey: jax.Array) -> jax.Array:
    """Histograms of gradient directions around every second pixel.

    Args:
        grey: (H, W) float; H and W are even.

    Returns:
        (H/2, W/2, 8).
    """
    maps = direction_maps(gaussian_blur(grey, SMOOTHING))
    # Sums of slices: XLA's CPU reduction over small axes takes three times as long.
    rows = maps[:, ::2] + maps[:, 1::2]
    pooled = gaussian_blur(rows[:, :, ::2] + rows[:, :, 1::2], _POOLING / _STRIDE)
    return jnp.moveaxis(pooled, 0, -1)


def direction_maps(grey: jax.Array) -> jax.Array:
    """(8, H, W): the gradient of (H, W) as a sum of two neighbours of eight directions.

    The weights are those with which the two unit vectors add up to the gradient: linear in the
    gradient between the directions, without computing an angle.
    """
    x, y = gradient(grey)
    right, left = jnp.maximum(x, 0.0), jnp.maximum(-x, 0.0)
    down, up = jnp.maximum(y, 0.0), jnp.maximum(-y, 0.0)
    beside, above = jnp.abs(x), jnp.abs(y)
    diagonal = math.sqrt(2.0)
    return jnp.stack(
        [
            jnp.maximum(right - above, 0.0),
            diagonal * jnp.minimum(right, down),
            jnp.maximum(down - beside, 0.0),
            diagonal * jnp.minimum(left, down),
            jnp.maximum(left - above, 0.0),
            diagonal * jnp.minimum(left, up),
            jnp.maximum(up - beside, 0.0),
            diagonal * jnp.minimum(right, up),
        ]
    )


def gradient(image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Central differences of (H, W) along x and y; the border is replicated."""
    padded = jnp.pad(image, 1, mode="edge")
    return (
        (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2,
        (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2,
    )


def orientations(grey: jax.Array, uv: jax.Array) -> jax.Array:
    """(N,) radians from x to y: direction of the smoothed image's gradient at (N, 2) pixels.

    It turns with the image exactly. The peak of Lowe's histogram of 36 bins gave as many right
    matches, at many times the cost.
    """
    slopes = jnp.stack(gradient(gaussian_blur(grey, ORIENTATION_SIGMA)), axis=-1)
    slope = sample_bilinear(slopes, uv)
    return jnp.arctan2(slope[:, 1], slope[:, 0])


def describe(pooled: jax.Array, uv: jax.Array, orientation: jax.Array | None = None) -> jax.Array:
    """Unit RootSIFT descriptors.

    Args:
        pooled: (H/2, W/2, 8) of `pooled_directions`.
        uv: (N, 2) pixels of the full image.
        orientation: (N,) radians by which cells and directions are turned; None: upright.

    Returns:
        (N, 128); a keypoint in an area without any gradient has a zero vector.
    """
    along = (np.arange(4, dtype=np.float32) - 1.5) * CELL
    cells = np.stack(np.meshgrid(along, along), axis=-1).reshape(16, 2)
    if orientation is None:
        at = uv[:, None] + cells
    else:
        cos, sin = jnp.cos(orientation)[:, None], jnp.sin(orientation)[:, None]
        x = cos * cells[:, 0] - sin * cells[:, 1]
        y = sin * cells[:, 0] + cos * cells[:, 1]
        at = uv[:, None] + jnp.stack([x, y], axis=-1)
    at = (at.reshape(-1, 2) + 0.5) / _STRIDE - 0.5
    histograms = sample_bilinear(pooled, at).reshape(-1, 16, BINS)
    if orientation is not None:
        histograms = _turned(histograms, orientation)
    flat = histograms.reshape(-1, DIM)
    share = flat / jnp.maximum(flat.sum(axis=1, keepdims=True), 1e-6)
    # The double `where` keeps the gradient of the square root finite at zero.
    return jnp.where(share > 0, jnp.sqrt(jnp.where(share > 0, share, 1.0)), 0.0)


def _turned(histograms: jax.Array, angle: jax.Array) -> jax.Array:
    """(N, 16, 8) histograms relative to the angle (N,), by linear interpolation between bins."""
    bins = angle * (BINS / (2 * math.pi))
    first = jnp.floor(bins)
    weight = (bins - first)[:, None, None]
    index = (jnp.arange(BINS) + first[:, None].astype(jnp.int32)) % BINS

    def shifted(index: jax.Array) -> jax.Array:
        index = jnp.broadcast_to(index[:, None], histograms.shape)
        return jnp.take_along_axis(histograms, index, axis=2)

    return shifted(index) * (1 - weight) + shifted((index + 1) % BINS) * weight
