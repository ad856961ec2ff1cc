"""Layers shared by the convolutional encoders.

Parameters are named after the published checkpoints: the path of a parameter, joined by dots, is
the checkpoint's key with `weight` written as `kernel` (see ace_jax/weights/layout.py).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


class Conv(nn.Module):
    """2D convolution in NHWC with symmetric zero padding, as torch's `Conv2d` computes it.

    Attributes:
        features: output channels.
        kernel_size: side of the square kernel; padding is `kernel_size // 2`.
        stride: step along both axes.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, C) to (B, ceil(H / stride), ceil(W / stride), features)."""
        k, s, c = self.kernel_size, self.stride, x.shape[-1]
        kernel = self.param("kernel", nn.initializers.he_normal(), (k, k, c, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        pad = k // 2
        if k == 3 and c <= 4:
            return _few_channels(x, kernel, s) + bias
        return (
            lax.conv_general_dilated(
                x,
                kernel.astype(x.dtype),
                (s, s),
                ((pad, pad), (pad, pad)),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            + bias
        )


def _few_channels(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """3x3 convolution as one fused loop of shifted products.

    XLA's CPU convolution packs patches into a matrix; for a handful of input channels the packing
    costs ten times the arithmetic.
    """
    _, height, width, channels = x.shape
    h, w = -(-height // stride), -(-width // stride)
    planes = jnp.pad(jnp.moveaxis(x, -1, 1), ((0, 0), (0, 0), (1, 1), (1, 1)))
    total = 0.0
    for i in range(3):
        for j in range(3):
            for c in range(channels):
                rows = slice(i, i + stride * (h - 1) + 1, stride)
                columns = slice(j, j + stride * (w - 1) + 1, stride)
                weight = kernel[i, j, c][None, :, None, None]
                total = total + planes[:, c : c + 1, rows, columns] * weight
    return jnp.moveaxis(total, 1, -1)
