"""Small networks that describe the neighbourhood of a keypoint.

Two kinds of input, see `features.neighbourhood`: histograms of gradient directions, for which the
network is three dense layers, and grey windows, for which it is two convolutions and a dense layer,
as in L2-Net and HardNet (Tian et al., CVPR 2017; Mishchuk et al., NeurIPS 2017), much narrower.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from ace_jax.models.layers import Conv, Linear

INPUTS = ("histograms", "windows")
HISTOGRAM = 128  # entries of one octave: eight directions in 4x4 cells
SIDE = 16  # pixels of a window


class PatchDescriptor(nn.Module):
    """Neighbourhoods to descriptors of unit length.

    Attributes:
        inputs: one of `INPUTS`.
        octaves: resolutions of the input, each half of the one before.
        oriented: whether the input is turned to the image's gradient at the keypoint.
        dim: D.
        widths: of the hidden layers: dense ones for histograms, 3x3 convolutions of stride 2 for
            windows. They are the cost, see `multiply_adds`.
    """

    inputs: str = "histograms"
    octaves: int = 2
    oriented: bool = False
    dim: int = 64
    widths: Sequence[int] = (256, 256)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Describes.

        Args:
            x: (N, C) histograms, or (N, S, S, W): W windows of S x S pixels; see
                `features.neighbourhood.neighbourhoods`.

        Returns:
            (N, D); a keypoint without any structure around it has a vector like any other.
        """
        for i, width in enumerate(self.widths):
            if self.inputs == "histograms":
                x = nn.relu(Linear(width, name=f"layers.{i}")(x))
            else:
                x = nn.relu(Conv(width, stride=2, name=f"layers.{i}")(x))
        x = Linear(self.dim, name="out")(x.reshape(x.shape[0], math.prod(x.shape[1:])))
        return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(axis=-1, keepdims=True), 1e-12))


def input_shape(module: PatchDescriptor) -> tuple[int, ...]:
    """The shape of one keypoint's neighbourhood."""
    if module.inputs == "histograms":
        return (HISTOGRAM * module.octaves,)
    return (SIDE, SIDE, module.octaves)


def multiply_adds(module: PatchDescriptor) -> int:
    """Multiplications for one keypoint, those of its neighbourhood left out."""
    total, *size = 0, *input_shape(module)
    for width in module.widths:
        if module.inputs == "histograms":
            total, size = total + size[0] * width, [width]
        else:
            half = [-(-side // 2) for side in size[:2]]
            total += math.prod(half) * 9 * size[2] * width
            size = [*half, width]
    return total + math.prod(size) * module.dim
