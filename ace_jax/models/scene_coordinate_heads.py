"""Scene coordinate heads: descriptors (N, D) in, `SceneCoordinates` out; one registry.

Every head is a Flax module. Its trainable arrays are in the collection `params`; what belongs to
the scene and is not trained (its mean, its extent) is in the collection `scene`, so that one
compiled function serves every map of the same head.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ace_jax.errors import UserError
from ace_jax.models.landmark_attention import LandmarkAttention
from ace_jax.models.landmark_transformer import LandmarkTransformer
from ace_jax.models.map_code_transformer import MapCodeTransformer
from ace_jax.models.scene_coordinates import HomogeneousDecode, SceneCoordinates
from ace_jax.plugins import Registry
from ace_jax.precision import network_precision


def _uniform_fan_in(fan_in: int) -> Callable[..., jax.Array]:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the initial weights of ACE's layers."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


def _dense(
    features: int, fan_in: int, name: str, precision: jax.lax.Precision | None = None
) -> nn.Dense:
    init = _uniform_fan_in(fan_in)
    return nn.Dense(features, kernel_init=init, bias_init=init, precision=precision, name=name)


class HomogeneousMLP(nn.Module):
    """ACE's head: residual blocks of three layers, three more, homogeneous coordinates.

    Brachmann et al., "Accelerated Coordinate Encoding", CVPR 2023. Layer names are upstream's
    (its 1x1 convolutions are dense layers here). Works on any descriptor, so it is the head of
    ACE-DINOv2 as well.

    Attributes:
        width: hidden width.
        blocks: residual blocks after the first one.
        uncertainty: a fifth output, log s; otherwise the scale is one everywhere.
        gain: factor on the descriptors. Those of unit length need about sqrt(D): entries of
            about one train much faster.
        decode: constants of the homogeneous decode.
    """

    width: int = 512
    blocks: int = 1
    uncertainty: bool = False
    gain: float = 1.0
    decode: HomogeneousDecode = HomogeneousDecode()

    @nn.compact
    @network_precision
    def __call__(self, descriptors: jax.Array) -> SceneCoordinates:
        """Coordinates of features (N, D)."""
        mean = self.variable("scene", "mean", jnp.zeros, (3,)).value

        def layer(x: jax.Array, name: str) -> jax.Array:
            return nn.relu(_dense(self.width, x.shape[-1], name)(x))

        x = descriptors = self.gain * descriptors
        for name in ("res3_conv1", "res3_conv2", "res3_conv3"):
            x = layer(x, name)
        skip, dim = descriptors, descriptors.shape[-1]
        if dim != self.width:
            skip = _dense(self.width, dim, "head_skip")(skip)
        residual = skip + x
        for block in range(self.blocks):
            x = residual
            for index in range(3):
                x = layer(x, f"{block}c{index}")
            residual = residual + x
        x = layer(layer(residual, "fc1"), "fc2")
        # Metres: their rounding would be an error of millimetres.
        outputs, highest = 5 if self.uncertainty else 4, jax.lax.Precision.HIGHEST
        raw = _dense(outputs, self.width, "fc3", highest)(x)
        scale = jnp.exp(raw[..., 4]) if self.uncertainty else jnp.ones(raw.shape[:-1], raw.dtype)
        return SceneCoordinates(xyz=self.decode(raw, mean), scale=scale)


class TriMLP(nn.Module):
    """ACE-SLAM's head: one MLP gives logits over three plane grids, each votes for two axes.

    The planes XY, XZ and YZ span the scene's extent with `cells` x `cells` cells. Softmax per
    plane; a plane votes with its expected cell centre; the two votes for each axis are averaged.
    The scale is the spread of the votes: the variance under the averaged distributions, the
    disagreement between two planes included.

    Attributes:
        width: hidden width.
        layers: hidden layers.
        cells: cells per axis.
        gain: factor on the descriptors, as for `HomogeneousMLP`.
    """

    width: int = 256
    layers: int = 4
    cells: int = 24
    gain: float = 1.0

    @nn.compact
    @network_precision
    def __call__(self, descriptors: jax.Array) -> SceneCoordinates:
        """Coordinates of features (N, D)."""
        lower = self.variable("scene", "lower", lambda: jnp.full((3,), -4.0)).value
        upper = self.variable("scene", "upper", lambda: jnp.full((3,), 4.0)).value
        x = self.gain * descriptors
        for index in range(self.layers):
            x = nn.relu(nn.Dense(self.width, name=f"fc{index}")(x))
        logits = nn.Dense(3 * self.cells**2, name="planes")(x)
        shape = (*descriptors.shape[:-1], 3, self.cells, self.cells)
        weights = jax.nn.softmax(logits.reshape(*shape[:-2], -1)).reshape(shape)
        # Votes for the cells along each axis, from the two planes that have it: (..., 3, cells).
        x_xy, x_xz, y_yz = jnp.moveaxis(weights.sum(-1), -2, 0)
        y_xy, z_xz, z_yz = jnp.moveaxis(weights.sum(-2), -2, 0)
        votes = jnp.stack([x_xy + x_xz, y_xy + y_yz, z_xz + z_yz], axis=-2) / 2
        # Centres of the cells in units of the extent, in [0, 1].
        centre = (jnp.arange(self.cells) + 0.5) / self.cells
        unit = jnp.sum(votes * centre, axis=-1)
        variance = jnp.sum(votes * (centre - unit[..., None]) ** 2, axis=-1)
        variance = variance * (upper - lower) ** 2
        # Within one cell a vote says nothing: the floor keeps the square root differentiable.
        floor = jnp.sum(((upper - lower) / self.cells) ** 2) * 1e-4
        return SceneCoordinates(
            xyz=lower + unit * (upper - lower), scale=jnp.sqrt(variance.sum(-1) + floor)
        )


HEADS: Registry[type[nn.Module]] = Registry(
    "ace_jax.heads",
    {
        "homogeneous_mlp": HomogeneousMLP,
        "tri_mlp": TriMLP,
        "landmark_attention": LandmarkAttention,
        "map_code_transformer": MapCodeTransformer,
        "landmark_transformer": LandmarkTransformer,
    },
)


def create_head(name: str, **options: Any) -> nn.Module:
    """The head called `name` with these options.

    Raises:
        UserError: unknown name or option.
    """
    head = HEADS.find(name)
    if head is None:
        raise UserError(f"no head is called {name!r}; choose one of {', '.join(HEADS.names())}")
    try:
        return head(**options)
    except TypeError as error:
        raise UserError(f"head {name!r}: {error}; see {head.__name__}'s attributes") from None
