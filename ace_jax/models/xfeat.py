"""XFeat: a light convolutional network for keypoints and descriptors.

Potje et al., "XFeat: Accelerated Features for Lightweight Image Matching", CVPR 2024 (section 3.2
and figure 3). Batch normalization is folded into the convolutions, as in the published ONNX file.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.models.layers import Conv, space_to_depth

CELL = 8  # side in pixels of the image patch that one output cell stands for
DESCRIPTOR_DIM = 64

# Output channels and stride of the 3x3 layers; a block may end with a 1x1 layer.
_BLOCK2 = ((24, 1), (24, 1))
_BLOCK3 = ((64, 2), (64, 1))
_BLOCK4 = ((64, 2), (64, 1), (64, 1))
_BLOCK5 = ((128, 2), (128, 1), (128, 1))


@flax.struct.dataclass
class XFeatMaps:
    """Raw outputs on the 1/8 grid.

    Attributes:
        descriptors: (B, H/8, W/8, 64), not normalized.
        keypoint_logits: (B, H/8, W/8, 65); 64 pixels of the cell row by row, then "no keypoint".
        reliability: (B, H/8, W/8) in 0..1.
    """

    descriptors: jax.Array
    keypoint_logits: jax.Array
    reliability: jax.Array


class XFeat(nn.Module):
    """The network; parameters carry the origin's names (`block1.0.layer.0` and so on)."""

    @nn.compact
    def __call__(self, image: jax.Array) -> XFeatMaps:
        """Runs the network.

        Args:
            image: (B, H, W) or (B, H, W, C) float; channels are averaged. H and W are multiples
                of 8. Any affine scale of intensities: the image is normalized here.
        """
        grey = image if image.ndim == 3 else image.mean(axis=-1)
        mean = grey.mean(axis=(1, 2), keepdims=True)
        variance = jnp.square(grey - mean).mean(axis=(1, 2), keepdims=True)
        grey = (grey - mean) * jax.lax.rsqrt(variance + 1e-5)

        x = nn.relu(Conv(4, block_out=4, name="block1.0.layer.0")(grey[..., None]))
        x = nn.relu(Conv(8, stride=2, block=4, block_out=2, name="block1.1.layer.0")(x))
        x = nn.relu(Conv(8, block=2, block_out=2, name="block1.2.layer.0")(x))
        x = nn.relu(Conv(24, stride=2, block=2, name="block1.3.layer.0")(x))
        batch, height, width = grey.shape
        coarse = grey.reshape(batch, height // 4, 4, width // 4, 4).mean(axis=(2, 4))
        x = x + Conv(24, kernel_size=1, name="skip1.1")(coarse[..., None])
        x = _block("block2", _BLOCK2, x)
        x3 = _block("block3", _BLOCK3, x, pointwise=64)
        x4 = _block("block4", _BLOCK4, x3)
        x5 = _block("block5", _BLOCK5, x4, pointwise=64)
        x = x3 + _upsample(x4, x3.shape) + _upsample(x5, x3.shape)
        x = _block("block_fusion", ((64, 1), (64, 1)), x)
        descriptors = Conv(64, kernel_size=1, name="block_fusion.2")(x)

        r = _pointwise("heatmap_head", 2, descriptors)
        r = nn.sigmoid(Conv(1, kernel_size=1, name="heatmap_head.2")(r))

        k = space_to_depth(grey, CELL)
        k = _pointwise("keypoint_head", 3, k)
        k = Conv(65, kernel_size=1, name="keypoint_head.3")(k)
        return XFeatMaps(descriptors, k, r[..., 0])


def _block(
    name: str, layers: tuple[tuple[int, int], ...], x: jax.Array, pointwise: int = 0
) -> jax.Array:
    for i, (features, stride) in enumerate(layers):
        x = nn.relu(Conv(features, stride=stride, name=f"{name}.{i}.layer.0")(x))
    if pointwise:
        x = nn.relu(Conv(pointwise, kernel_size=1, name=f"{name}.{len(layers)}.layer.0")(x))
    return x


def _pointwise(name: str, count: int, x: jax.Array) -> jax.Array:
    for i in range(count):
        x = nn.relu(Conv(64, kernel_size=1, name=f"{name}.{i}.layer.0")(x))
    return x


def _upsample(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Bilinear, half-pixel centres, edges clamped."""
    return jax.image.resize(x, (*shape[:3], x.shape[-1]), "bilinear", antialias=False)
