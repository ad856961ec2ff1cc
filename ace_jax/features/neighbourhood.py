"""What a learned descriptor sees of an image around its keypoints.

Either the histograms of gradient directions that RootSIFT consists of, or grey windows; both at the
image's own resolution and at half of it, so that the second reaches twice as far, sees what blur
and noise leave, and places more of the surroundings.
"""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.features import root_sift
from ace_jax.features.filters import gaussian_blur
from ace_jax.geometry.interpolation import sample_bilinear
from ace_jax.models.patch_descriptor import HISTOGRAM, SIDE, PatchDescriptor

_SPACING = 4 * root_sift.CELL / SIDE  # pixels: a window is as wide as RootSIFT's cells
_LEAST_DEVIATION = 2.0  # grey levels: what varies less than noise is not enlarged to be structure


def neighbourhoods(module: PatchDescriptor, grey: jax.Array, uv: jax.Array) -> jax.Array:
    """The network's inputs at keypoints.

    Args:
        module: says what it wants to see.
        grey: (H, W) in 0..255.
        uv: (N, 2) pixels.

    Returns:
        (N, 128 * octaves) or (N, 16, 16, octaves).
    """
    angle = root_sift.orientations(grey, uv) if module.oriented else None
    multiple = 2**module.octaves  # each octave is even
    padding = [(0, -side % multiple) for side in grey.shape]
    grey = jnp.pad(grey, padding, mode="edge")
    found = []
    for octave in range(module.octaves):
        if octave:
            grey = (grey[::2] + grey[1::2]) / 2.0
            grey = (grey[:, ::2] + grey[:, 1::2]) / 2.0
        at = (uv + 0.5) / 2**octave - 0.5
        if module.inputs == "histograms":
            found.append(root_sift.describe(root_sift.pooled_directions(grey), at, angle))
        else:
            found.append(_windows(gaussian_blur(grey, root_sift.SMOOTHING), at, angle))
    # Entries of unit vectors of 128 are small: of the size that layers are initialized for.
    if module.inputs == "histograms":
        return jnp.concatenate(found, axis=-1) * HISTOGRAM**0.5
    return jnp.stack(found, axis=-1)


def describe(module: PatchDescriptor, params: Any, grey: jax.Array, uv: jax.Array) -> jax.Array:
    """Descriptors (N, D) of unit length of keypoints (N, 2) in an image (H, W), 0..255."""
    found = module.apply({"params": params}, neighbourhoods(module, grey, uv))
    return cast(jax.Array, found)


def _windows(grey: jax.Array, uv: jax.Array, angle: jax.Array | None) -> jax.Array:
    """(N, S, S) windows of zero mean and unit deviation."""
    along = (np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2) * _SPACING
    grid = np.stack(np.meshgrid(along, along), axis=-1).reshape(1, -1, 2)
    if angle is None:
        at = uv[:, None] + grid
    else:
        cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
        x, y = grid[..., 0], grid[..., 1]
        at = uv[:, None] + jnp.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)
    values = sample_bilinear(grey[..., None], at.reshape(-1, 2)).reshape(-1, SIDE * SIDE)
    values = values - values.mean(axis=1, keepdims=True)
    squared = jnp.square(values).mean(axis=1, keepdims=True)
    values = values * jax.lax.rsqrt(squared + _LEAST_DEVIATION**2)
    return values.reshape(-1, SIDE, SIDE)
