"""Landmark attention: a map code with one attention layer, initialised from observations.

    y = softmax(tau * f K^T + b) V

K are the descriptors of M landmarks, V their points. With K and V taken from observed features
the map works before any training, grows by writing rows, and trains like any other head. The
spread of the attention is the uncertainty: s^2 = g^2 sum_j a_j |V_j - y|^2 + s_0^2, with a gain g
and a floor s_0 that are calibrated or trained.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ace_jax.models.layers import in_blocks
from ace_jax.models.scene_coordinates import SceneCoordinates
from ace_jax.precision import full_precision

MIN_STD = 1e-3  # metres; s_0 before calibration
EMPTY = -1e9  # bias of a row that holds no landmark
BLOCK = 128  # queries per block: a block of logits against 4096 landmarks stays in the L2 cache


@full_precision
def attend(
    queries: jax.Array,
    descriptors: jax.Array,
    points: jax.Array,
    tau: jax.Array | float,
    bias: jax.Array | None = None,
    allowed: jax.Array | None = None,
    gain: jax.Array | float = 1.0,
    floor: jax.Array | float = MIN_STD,
) -> SceneCoordinates:
    """Scene coordinates of N features by attention over M landmarks.

    Args:
        queries: (N, D) unit descriptors f.
        descriptors: (M, D) landmark descriptors K.
        points: (M, 3) landmark points V, world, metres.
        tau: inverse temperature.
        bias: (M,) added to the logits; `EMPTY` switches a row off.
        allowed: (N, M) bool; False hides a landmark from one query (used in training, so that a
            feature does not find itself).
        gain: g, factor on the spread.
        floor: s_0, metres.

    Returns:
        Coordinates and scale. A query with no landmark at all gets the landmarks' mean with a
        large spread.
    """
    # Second moments lose digits far from the origin: take them about the landmarks' centre.
    if bias is None:
        bias = jnp.zeros(points.shape[0], queries.dtype)
    weight = (jax.lax.stop_gradient(bias) > EMPTY / 2).astype(points.dtype)
    centre = jax.lax.stop_gradient(weight @ jnp.nan_to_num(points) / jnp.maximum(weight.sum(), 1.0))
    local = points - centre
    values = jnp.concatenate(
        [local, jnp.sum(local**2, axis=1, keepdims=True), jnp.ones_like(local[:, :1])], axis=1
    )
    keys = descriptors.T * tau

    def block(rows: tuple[jax.Array, ...]) -> jax.Array:
        logits = rows[0] @ keys + bias
        if allowed is not None:
            logits = jnp.where(rows[1], logits, EMPTY)
        # exp(l - max) without its sum; the sum is the last column of the product.
        peak = jax.lax.stop_gradient(logits.max(axis=1, keepdims=True))
        return jnp.exp(logits - peak) @ values

    rows = (queries,) if allowed is None else (queries, allowed)
    moments = in_blocks(block, rows, BLOCK)
    mean = moments[:, :3] / moments[:, 4:]
    variance = moments[:, 3] / moments[:, 4] - jnp.sum(mean**2, axis=1)
    scale = jnp.sqrt(gain**2 * jnp.maximum(variance, 0.0) + floor**2)
    return SceneCoordinates(xyz=mean + centre, scale=scale)


@full_precision
def nearest(
    queries: jax.Array, descriptors: jax.Array, bias: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The landmark of greatest inner product for each query.

    Args:
        queries: (N, D) unit descriptors.
        descriptors: (M, D) landmark descriptors.
        bias: (M,) added to the similarity; `EMPTY` switches a row off.

    Returns:
        (N,) int32 landmark and (N,) its similarity.
    """
    keys = descriptors.T
    index = jnp.arange(descriptors.shape[0], dtype=jnp.int32)

    def block(rows: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        similarity = rows[0] @ keys
        if bias is not None:
            similarity = similarity + bias
        best = similarity.max(axis=1)
        # XLA's CPU argmax is up to twice as slow as this.
        first = jnp.where(similarity >= best[:, None], index, jnp.int32(index.size))
        return jnp.minimum(first.min(axis=1), index.size - 1), best

    return in_blocks(block, (queries,), BLOCK)


class LandmarkAttention(nn.Module):
    """The head: `descriptors` (M, D), `points` (M, 3), `bias` (M,), and the logarithms of tau,
    gain and floor.

    Attributes:
        landmarks: M, the number of rows; unused rows carry the bias `EMPTY`.
        dim: D, the descriptor length.
        tau: initial inverse temperature (40 suits XFeat before training, 80 for tracking with it,
            160 RootSIFT).
    """

    landmarks: int = 4096
    dim: int = 64
    tau: float = 40.0

    @nn.compact
    def __call__(
        self, descriptors: jax.Array, allowed: jax.Array | None = None
    ) -> SceneCoordinates:
        """Coordinates of features (N, D); `allowed` (N, M) as in `attend`."""
        shape = (self.landmarks, self.dim)
        keys = self.param("descriptors", nn.initializers.zeros, shape)
        points = self.param("points", nn.initializers.zeros, (self.landmarks, 3))
        bias = self.param("bias", nn.initializers.constant(EMPTY), (self.landmarks,))
        tau, gain, floor = (
            jnp.exp(self.param(f"log_{name}", nn.initializers.constant(jnp.log(start)), ()))
            for name, start in (("tau", self.tau), ("gain", 1.0), ("floor", MIN_STD))
        )
        return attend(descriptors, keys, points, tau, bias, allowed, gain, floor)


def landmark_variables(
    descriptors: jax.Array,
    points: jax.Array,
    tau: float,
    landmarks: int | None = None,
    gain: float = 1.0,
    floor: float = MIN_STD,
) -> dict:
    """Variables of a `LandmarkAttention` that holds these landmarks, padded to `landmarks` rows."""
    filled = descriptors.shape[0]
    rows = filled if landmarks is None else landmarks
    pad = rows - filled
    if pad < 0:
        raise ValueError(f"{filled} landmarks do not fit into {rows} rows")
    return {
        "params": {
            "descriptors": jnp.pad(jnp.asarray(descriptors, jnp.float32), ((0, pad), (0, 0))),
            "points": jnp.pad(jnp.asarray(points, jnp.float32), ((0, pad), (0, 0))),
            "bias": jnp.pad(jnp.zeros(filled), (0, pad), constant_values=EMPTY),
            "log_tau": jnp.log(jnp.float32(tau)),
            "log_gain": jnp.log(jnp.float32(gain)),
            "log_floor": jnp.log(jnp.float32(floor)),
        }
    }
