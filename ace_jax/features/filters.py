"""Image filters in JAX."""

import functools
import math
import operator

import jax
import jax.numpy as jnp
import numpy as np


def gaussian_blur(image: jax.Array, sigma: float) -> jax.Array:
    """Separable Gaussian of (..., H, W) with replicated borders.

    Args:
        image: one image, or several.
        sigma: pixels.
    """
    radius = math.ceil(3.5 * sigma)
    taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (image.ndim - 2, image.ndim - 1):
        pad = [(0, 0)] * image.ndim
        pad[axis] = (radius, radius)
        padded, size = jnp.pad(image, pad, mode="edge"), image.shape[axis]
        image = functools.reduce(
            operator.add,
            (
                tap * jax.lax.slice_in_dim(padded, i, i + size, axis=axis)
                for i, tap in enumerate(taps)
            ),
        )
    return image
