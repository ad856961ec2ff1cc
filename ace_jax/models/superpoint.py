"""SuperPoint: keypoints and descriptors from one convolutional network.

DeTone, Malisiewicz, Rabinovich, "SuperPoint", CVPR workshops 2018. Parameters carry the names of
the published file, whose licence allows research without commercial use only.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

from ace_jax.models.layers import Conv

CELL = 8
DESCRIPTOR_DIM = 256


@flax.struct.dataclass
class SuperPointMaps:
    """Outputs on the 1/8 grid.

    Attributes:
        keypoint_logits: (B, H/8, W/8, 65); 64 pixels of the cell row by row, then "no keypoint".
        descriptors: (B, H/8, W/8, 256), unit length.
    """

    keypoint_logits: jax.Array
    descriptors: jax.Array


class SuperPoint(nn.Module):
    """Grey images to keypoint logits and descriptors."""

    @nn.compact
    def __call__(self, grey: jax.Array) -> SuperPointMaps:
        """Runs the network on (B, H, W) in 0..1; H and W are multiples of 8."""
        x = grey[..., None]
        for i, width in enumerate((64, 64, 128, 128), start=1):
            x = nn.relu(Conv(width, name=f"conv{i}a")(x))
            x = nn.relu(Conv(width, name=f"conv{i}b")(x))
            if i < 4:
                x = nn.max_pool(x, (2, 2), (2, 2))
        keypoints = nn.relu(Conv(256, name="convPa")(x))
        keypoints = Conv(65, kernel_size=1, name="convPb")(keypoints)
        descriptors = nn.relu(Conv(256, name="convDa")(x))
        descriptors = Conv(DESCRIPTOR_DIM, kernel_size=1, name="convDb")(descriptors)
        squared = jnp.sum(jnp.square(descriptors), axis=-1, keepdims=True)
        # The floor is below any real descriptor: it keeps a black image's zeros from becoming NaN.
        return SuperPointMaps(keypoints, descriptors * lax.rsqrt(jnp.maximum(squared, 1e-12)))
