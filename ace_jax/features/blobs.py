"""Blob detector: extrema of a difference of Gaussians at one scale, jitted.

Lowe, IJCV 2004, sections 3 and 4, without the pyramid: a video's next frame has almost the same
scale. Blobs are found again more often and placed twice as precisely as learned keypoints are
(docs/encoders.md).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.features import keypoints
from ace_jax.features.filters import gaussian_blur

SIGMA = 1.2  # pixels of the working image
SCALE_RATIO = 1.6  # of the two Gaussians
EDGE_RATIO = 10.0  # largest ratio of principal curvatures
_BORDER = 4  # pixels
_NEIGHBOURS = np.stack([np.tile([-1, 0, 1], 3), np.repeat([-1, 0, 1], 3)], axis=-1)  # x, y


def difference_of_gaussians(grey: jax.Array, sigma: float) -> jax.Array:
    """Blur at `sigma` minus blur at 1.6 `sigma`."""
    fine = gaussian_blur(grey, sigma)
    return fine - gaussian_blur(fine, sigma * math.sqrt(SCALE_RATIO**2 - 1))


def detect(
    grey: jax.Array, count: int, threshold: float, sigma: float = SIGMA
) -> tuple[jax.Array, jax.Array]:
    """The `count` strongest blobs, bright and dark.

    Args:
        grey: (H, W) float in 0..255; H and W are multiples of 4.
        count: N.
        threshold: smallest |difference of Gaussians|.
        sigma: of the finer Gaussian, pixels.

    Returns:
        uv (N, 2) sub-pixel positions and scores (N,) descending, zero for padding.
    """
    height, width = grey.shape
    response = difference_of_gaussians(grey, sigma)
    strength = jnp.abs(response)
    peaks = jnp.where(_is_round(response), keypoints.local_maxima(strength, radius=1), 0.0)
    x, y, peak = keypoints.best_of_blocks(peaks)
    inside = (x >= _BORDER) & (y >= _BORDER) & (x < width - _BORDER) & (y < height - _BORDER)
    scores, index = keypoints.top(jnp.where(inside & (peak > threshold), peak, 0.0), count)
    x = jnp.clip(x[index], 1, width - 2)
    y = jnp.clip(y[index], 1, height - 2)
    return _vertex(response, x, y), scores


def _is_round(response: jax.Array) -> jax.Array:
    """(H, W) bool: no edge. Both curvatures have one sign and a ratio below EDGE_RATIO."""
    c = response[1:-1, 1:-1]
    xx = response[1:-1, 2:] - 2 * c + response[1:-1, :-2]
    yy = response[2:, 1:-1] - 2 * c + response[:-2, 1:-1]
    diagonal = response[2:, 2:] + response[:-2, :-2]
    xy = (diagonal - response[2:, :-2] - response[:-2, 2:]) / 4
    determinant = xx * yy - xy * xy
    r = EDGE_RATIO
    round_enough = jnp.square(xx + yy) * r < (r + 1) ** 2 * determinant
    return jnp.pad((determinant > 0) & round_enough, 1)


def _vertex(response: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """(N, 2) extremum of the quadratic through the 3x3 values at pixels (x, y), 1 off the border.

    The step is limited to 0.6 pixel; where the quadratic has no extremum it is zero.
    """
    p = response[y[:, None] + _NEIGHBOURS[:, 1], x[:, None] + _NEIGHBOURS[:, 0]]
    gx, gy = (p[:, 5] - p[:, 3]) / 2, (p[:, 7] - p[:, 1]) / 2
    xx = p[:, 5] - 2 * p[:, 4] + p[:, 3]
    yy = p[:, 7] - 2 * p[:, 4] + p[:, 1]
    xy = (p[:, 8] + p[:, 0] - p[:, 2] - p[:, 6]) / 4
    determinant = xx * yy - xy * xy
    found = determinant > 1e-9
    inverse = jnp.where(found, 1.0 / jnp.where(found, determinant, 1.0), 0.0)
    dx = jnp.clip((xy * gy - yy * gx) * inverse, -0.6, 0.6)
    dy = jnp.clip((xy * gx - xx * gy) * inverse, -0.6, 0.6)
    return jnp.stack([x + dx, y + dy], axis=-1)
