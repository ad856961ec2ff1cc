"""Output of all scene coordinate heads, and the homogeneous decoding that several share."""

import math

import flax.struct
import jax
import jax.numpy as jnp

# Bounds of the homogeneous coordinate, as ACE has them: h >= 1 / MAX_SCALE, h <= 1 / MIN_SCALE.
MAX_SCALE = 4.0
MIN_SCALE = 0.01
# Constants that upstream's heads store beside their weights; here they are fields.
BUFFERS = ("max_scale", "min_scale", "max_inv_scale", "min_inv_scale", "h_beta", "mean")


@flax.struct.dataclass
class SceneCoordinates:
    """The 3D points that N features show.

    Attributes:
        xyz: (N, 3) float32, world axes, metres.
        scale: (N,) float32, the head's own estimate of the error's standard deviation, metres;
            one everywhere for a head that has no opinion.
    """

    xyz: jax.Array
    scale: jax.Array


@flax.struct.dataclass
class HomogeneousDecode:
    """Turns four raw outputs into a point: y = o[:3] / h + mean, h a bounded softplus of o[3].

    h = min(log(1 + exp(beta * o[3])) / beta + 1 / max_scale, 1 / min_scale), with beta chosen so
    that o[3] = 0 gives h = 1 (Brachmann et al., "Accelerated Coordinate Encoding", CVPR 2023).

    Attributes:
        beta: ln 2 / (1 - 1 / max_scale), or the rounded value that a checkpoint carries.
        max_inv_scale: 1 / max_scale, the smallest h.
        min_inv_scale: 1 / min_scale, the largest h; the gradient is zero above it.
    """

    beta: float = flax.struct.field(
        pytree_node=False, default=math.log(2.0) / (1.0 - 1.0 / MAX_SCALE)
    )
    max_inv_scale: float = flax.struct.field(pytree_node=False, default=1.0 / MAX_SCALE)
    min_inv_scale: float = flax.struct.field(pytree_node=False, default=1.0 / MIN_SCALE)

    def __call__(self, raw: jax.Array, mean: jax.Array) -> jax.Array:
        """Points (..., 3) of raw outputs (..., >= 4) about `mean` (3,), metres."""
        h = jnp.logaddexp(0.0, self.beta * raw[..., 3:4]) / self.beta + self.max_inv_scale
        return raw[..., :3] / jnp.minimum(h, self.min_inv_scale) + mean
