"""ACE's encoder: a fully convolutional network, grey image in, features at 1/8 out.

Brachmann et al., "Accelerated Coordinate Encoding", CVPR 2023. Parameters carry the names of the
published file.
"""

import flax.linen as nn
import jax

from ace_jax.models.layers import Conv

CELL = 8  # side in pixels of the image patch that one output cell stands for


class AceEncoder(nn.Module):
    """Grey images to features.

    Attributes:
        features: output channels; 512 in the published network.
    """

    features: int = 512

    @nn.compact
    def __call__(self, grey: jax.Array) -> jax.Array:
        """Maps (B, H, W), normalized as (g - 0.4) / 0.25, to (B, ceil(H/8), ceil(W/8), features).

        There is a ReLU before each residual sum as well.
        """
        x = grey[..., None]
        for i, (width, stride) in enumerate(((32, 1), (64, 2), (128, 2), (256, 2)), start=1):
            x = nn.relu(Conv(width, stride=stride, name=f"conv{i}")(x))
        residual = x
        x = nn.relu(Conv(256, name="res1_conv1")(x))
        x = nn.relu(Conv(256, kernel_size=1, name="res1_conv2")(x))
        x = nn.relu(Conv(256, name="res1_conv3")(x))
        residual = residual + x
        x = nn.relu(Conv(512, name="res2_conv1")(residual))
        x = nn.relu(Conv(512, kernel_size=1, name="res2_conv2")(x))
        x = nn.relu(Conv(self.features, name="res2_conv3")(x))
        return Conv(self.features, kernel_size=1, name="res2_skip")(residual) + x
