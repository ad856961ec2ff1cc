"""Layers shared by the convolutional encoders.

Parameters are named after the published checkpoints: the path of a parameter, joined by dots, is
the checkpoint's key with `weight` written as `kernel` (see ace_jax/weights/layout.py).
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ace_jax.precision import network_precision, operand_precision


class Conv(nn.Module):
    """2D convolution in NHWC with symmetric zero padding, as torch's `Conv2d` computes it.

    Layers of a few channels starve the vector units of a CPU. On blocks of b x b pixels, given as
    (B, H/b, W/b, b*b*C) in the order row, column, channel, they are the same function of more
    channels and run faster, although most of the larger kernel is zero. H and W are multiples of b.

    Attributes:
        features: output channels.
        kernel_size: side of the square kernel, 1 or 3; padding is `kernel_size // 2`.
        stride: step along both axes.
        block: side of the blocks that the input is given in.
        block_out: side of the blocks that the output is wanted in: `block / stride`, or anything
            for an input without blocks and stride 1.
    """

    features: int
    kernel_size: int = 3
    stride: int = 1
    block: int = 1
    block_out: int = 1

    @nn.compact
    @network_precision
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (B, H, W, C) to (B, ceil(H / stride), ceil(W / stride), features)."""
        k, c = self.kernel_size, x.shape[-1] // self.block**2
        kernel = self.param("kernel", nn.initializers.he_normal(), (k, k, c, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        bias = jnp.tile(bias, self.block_out**2)
        if self.block > 1:
            kernel = blocked_kernel(kernel, self.block, self.stride)
            return _convolve(x, kernel, 1, (1, kernel.shape[0] - 2)) + bias
        if self.block_out > 1:
            kernel = blocking_kernel(kernel, self.block_out)
            return _convolve(x, kernel, self.block_out, (1, 1)) + bias
        return _convolve(x, kernel, self.stride, (k // 2, k // 2)) + bias


def _convolve(x: jax.Array, kernel: jax.Array, stride: int, pad: tuple[int, int]) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (stride, stride),
        (pad, pad),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def blocked_kernel(kernel: jax.Array, block: int, stride: int) -> jax.Array:
    """The kernel of the same convolution over blocks of pixels.

    Args:
        kernel: (3, 3, C, D), applied with padding 1.
        block: side b of the input's blocks.
        stride: 1 or 2, a divisor of b.

    Returns:
        (3, 3, b*b*C, b*b*D) for stride 1, (2, 2, b*b*C, (b/2)^2 D) for stride 2; padded by 1 block
        before, and by 1 (stride 1) or 0 (stride 2) after.
    """
    b, q, taps = block, block // stride, 3 if stride == 1 else 2
    # source[u, v, r, s, a, c] is the tap (3 i + j) that input pixel (r, s) of the neighbouring
    # block (u, v) has in output pixel (a, c), or 9, a zero, where it has none.
    source = np.full((taps, taps, b, b, q, q), 9)
    for a, c, i, j in np.ndindex(q, q, 3, 3):
        y, x = stride * a + i - 1, stride * c + j - 1
        source[y // b + 1, x // b + 1, y % b, x % b, a, c] = 3 * i + j
    big = jnp.moveaxis(_taps(kernel)[source], -2, 4)
    return big.reshape(taps, taps, b * b * kernel.shape[2], q * q * kernel.shape[3])


def blocking_kernel(kernel: jax.Array, block: int) -> jax.Array:
    """The kernel (b + 2, b + 2, C, b*b*D) that, with stride b, gives a convolution's output blocks.

    Args:
        kernel: (3, 3, C, D), applied with padding 1 and stride 1.
        block: side b of the output's blocks.
    """
    source = np.full((block + 2, block + 2, block, block), 9)
    for a, c, i, j in np.ndindex(block, block, 3, 3):
        source[a + i, c + j, a, c] = 3 * i + j
    big = jnp.moveaxis(_taps(kernel)[source], -2, 2)
    return big.reshape(block + 2, block + 2, kernel.shape[2], block * block * kernel.shape[3])


def _taps(kernel: jax.Array) -> jax.Array:
    """(10, C, D): the nine taps of a 3x3 kernel row by row, and zeros."""
    return jnp.pad(kernel.reshape(9, *kernel.shape[2:]), ((0, 1), (0, 0), (0, 0)))


def in_blocks(function: Callable[[Any], Any], rows: Any, size: int) -> Any:
    """Applies a function of rows to `size` of them at a time, so that little is held at once.

    Args:
        function: from arrays of rows to arrays of as many rows.
        rows: a tree of arrays (N, ...); a last incomplete block is padded, and its end cut off.
        size: rows of a block.
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    if count <= size:
        return function(rows)
    padding = -count % size

    def split(x: jax.Array) -> jax.Array:
        padded = jnp.pad(x, ((0, padding), *((0, 0),) * (x.ndim - 1)))
        return padded.reshape(-1, size, *x.shape[1:])

    out = jax.lax.map(function, jax.tree.map(split, rows))
    return jax.tree.map(lambda x: x.reshape((count + padding, *x.shape[2:]))[:count], out)


def space_to_depth(image: jax.Array, block: int) -> jax.Array:
    """(B, H, W) to (B, H/b, W/b, b*b); pixels of a block row by row."""
    n, h, w = image.shape
    x = image.reshape(n, h // block, block, w // block, block)
    return x.transpose(0, 1, 3, 2, 4).reshape(n, h // block, w // block, block * block)


def depth_to_space(blocks: jax.Array, block: int) -> jax.Array:
    """Inverse of `space_to_depth`."""
    n, h, w, _ = blocks.shape
    x = blocks.reshape(n, h, w, block, block)
    return x.transpose(0, 1, 3, 2, 4).reshape(n, h * block, w * block)


class Linear(nn.Module):
    """Affine layer with float32 sums and outputs, whatever the operands.

    Attributes:
        features: output width.
        dtype: of the product's operands.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    @network_precision
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (..., C) to (..., features) float32."""
        init = nn.initializers.lecun_normal()
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        product = jnp.matmul(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            precision=operand_precision(self.dtype),
            preferred_element_type=jnp.float32,
        )
        return product + bias
