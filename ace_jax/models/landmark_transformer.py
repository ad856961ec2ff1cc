"""The landmark transformer: a map code of landmarks, read by a transformer that can be pre-trained.

A code is a set of M rows (descriptor, bias, point): the landmarks of `landmark_attention`. Before
any training this head *is* landmark attention, whatever its depth; pre-training over many scenes
then adds what a single descriptor does not determine: the reliability of similarities, agreement
among candidates, and the error of the answer.

Block b attends from a feature's state x to all landmarks j,

    logit_j = tau(x) (x Q_b) . f_j + bias_j + u_b . f_j - w_b(x) |p_j - y|^2 / 2

where y is the previous block's answer: the last term, a mean-shift step, prefers landmarks near it.
The block's answer is the weighted mean of the points; x takes in the mean descriptor of what was
found and how well it was found, and passes through an MLP. Q_b begins as the inverse of the
isometric embedding of descriptors (queries and keys are tied), w_b, u_b and all paths back into x
begin at zero: that is why step 0 is landmark attention. There is one head; the code is a set, and
features are independent of each other, as in ACE-G, unless `context` lets each one hear its
neighbours in the image between the blocks (`landmark_context`).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ace_jax.geometry.small_linalg import full_matmul
from ace_jax.models.landmark_attention import EMPTY, MIN_STD
from ace_jax.models.landmark_context import (
    Agreement,
    Candidates,
    candidates_of,
    neighbours_of,
)
from ace_jax.models.scene_coordinates import SceneCoordinates
from ace_jax.precision import network_precision, operand_precision

EXTRA = 4  # columns of a code beside the descriptor: bias, x, y, z
_PULL_FLOOR = 0.05  # metres, added to the spread that the mean-shift step divides by; tuned
_BOUND = 3.0  # on the change of log s: smooth, so that no loss explodes
_STATISTICS = 3  # numbers that each look at the landmarks gives, see `_Attention`
_QUERY_BLOCK = 1024  # queries whose attention is in memory at once


def code_of(descriptors: jax.Array, points: jax.Array, mask: jax.Array) -> jax.Array:
    """The code (M, D + 4) of observed landmarks: descriptors (M, D), points (M, 3), mask (M,)."""
    mask = mask[:, None]
    rows = jnp.concatenate([descriptors, jnp.zeros(mask.shape), points], axis=1)
    # Zeros, because a weight of zero does not hide NaN.
    empty = jnp.zeros(rows.shape[1]).at[-EXTRA].set(EMPTY)
    return jnp.where(mask, rows, empty).astype(jnp.float32)


def _isometry(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
    """Orthonormal rows or columns, whichever are fewer."""
    return nn.initializers.orthogonal()(key, shape, dtype)


class _Attention(nn.Module):
    """One look at all landmarks: where the feature is, how sure, and what was found there."""

    tau: float
    steady: bool
    candidates: int
    dtype: Any

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        state: jax.Array,
        embed: jax.Array,
        code: jax.Array,
        before: SceneCoordinates | None,
        support: tuple[jax.Array, jax.Array] | None,
        allowed: jax.Array | None,
    ) -> tuple[SceneCoordinates, jax.Array, jax.Array, Candidates | None]:
        """See the module; returns the answer, mean descriptors (N, D), statistics (N, 3).

        Descriptors are compared with `x`; `state` says how sharply, and how much the answer before
        counts. `support` holds landmarks (N, C) and what is added to their logits. Last come the
        likeliest landmarks, if they are asked for.
        """
        dim = code.shape[1] - EXTRA
        keys, bias, points = code[:, :dim], code[:, dim], code[:, dim + 1 :]
        # The same matrix as the embedding's transpose at first, its own afterwards.
        query = self.param("query", lambda _: embed.T)
        normed = nn.LayerNorm(name="norm")(state)
        log_tau = self.param("log_tau", nn.initializers.constant(jnp.log(self.tau)), (1,))
        per_query = nn.Dense(2, kernel_init=nn.initializers.zeros, name="per_query")(normed)
        warmer = 0.0 if self.steady else _BOUND * jnp.tanh(per_query[:, :1] / _BOUND)
        tau = jnp.exp(log_tau + warmer)
        trust = self.param("trust", nn.initializers.zeros, (dim,))

        gain, floor = (
            jnp.exp(self.param(f"log_{name}", nn.initializers.constant(jnp.log(start)), (1,)))
            for name, start in (("gain", 1.0), ("floor", MIN_STD))
        )
        # Second moments lose digits far from the origin: take them about the landmarks' centre.
        used = (jax.lax.stop_gradient(bias) > EMPTY / 2).astype(jnp.float32)
        centre = jax.lax.stop_gradient(full_matmul(used, points) / jnp.maximum(used.sum(), 1.0))
        local = points - centre
        square = jnp.sum(local**2, axis=1, keepdims=True)

        logits = self._product(tau * (x @ query), keys.T) + bias + keys @ trust
        if before is not None:
            width = self.param("pull", nn.initializers.zeros, (1,))
            pull = width * jnp.exp(_BOUND * jnp.tanh(per_query[:, 1:] / _BOUND))
            pull = pull / (before.scale[:, None] ** 2 + _PULL_FLOOR**2)
            y = before.xyz - centre
            logits = logits - 0.5 * pull * (
                square.T - 2.0 * full_matmul(y, local.T) + jnp.sum(y**2, axis=1, keepdims=True)
            )
        if support is not None:
            rows = jnp.arange(logits.shape[0])[:, None]
            logits = logits.at[rows, support[0]].add(support[1])
        if allowed is not None:
            logits = jnp.where(allowed, logits, EMPTY)
        peak = jax.lax.stop_gradient(logits.max(axis=1, keepdims=True))
        weights = jnp.exp(logits - peak)
        values = jnp.concatenate([local, square, jnp.ones_like(square)], axis=1)
        moments = full_matmul(weights, values)
        total = moments[:, 4:]
        found = self._product(weights, keys) / total
        mean = moments[:, :3] / total
        variance = jnp.maximum(moments[:, 3] / total[:, 0] - jnp.sum(mean**2, axis=1), 0.0)
        scale = jnp.sqrt(gain**2 * variance + floor**2)
        # How far the answers spread, how many they are, how alike what was found is.
        statistics = jnp.stack(
            [
                jnp.log(scale),
                jnp.log(total[:, 0]),
                jnp.sum(found * (x @ embed.T), axis=1) * 4.0,
            ],
            axis=1,
        )
        likeliest = candidates_of(weights, total, self.candidates) if self.candidates else None
        return SceneCoordinates(xyz=mean + centre, scale=scale), found, statistics, likeliest

    def _product(self, a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(
            a.astype(self.dtype),
            b.astype(self.dtype),
            precision=operand_precision(self.dtype),
            preferred_element_type=jnp.float32,
        )


class _MLP(nn.Module):
    """LayerNorm, linear, GELU, linear; the last layer starts at zero."""

    width: int
    out: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(self.width, name="hidden")(nn.LayerNorm(name="norm")(x))
        return nn.Dense(self.out, kernel_init=nn.initializers.zeros, name="out")(nn.gelu(x))


class LandmarkTransformer(nn.Module):
    """Features (N, D) and a code of landmarks (M, D + 4) to scene coordinates with uncertainty.

    Attributes:
        dim: width d of the features inside, at least D.
        blocks: looks at the code.
        mlp_ratio: hidden width of the MLPs over d.
        tau: initial inverse temperature.
        steady: compare descriptors as they came in every block, with one temperature for all, and
            answer with the mean of landmarks; what is learned of a feature then sets its pull and
            its scale alone. Otherwise blocks change what they compare, how sharply, and shift the
            answer: in scenes like those of training that finds more, but places it less precisely.
        context: neighbours in the image that each feature hears between two blocks; 0: features are
            independent of each other.
        candidates: landmarks of each feature that take part in this.
        dtype: of the operands of the products with the code; sums are float32.
    """

    dim: int = 128
    blocks: int = 2
    mlp_ratio: float = 2.0
    tau: float = 80.0
    steady: bool = False
    context: int = 0
    candidates: int = 8
    dtype: Any = jnp.float32

    @nn.compact
    @network_precision
    def __call__(
        self,
        descriptors: jax.Array,
        code: jax.Array,
        allowed: jax.Array | None = None,
        uv: jax.Array | None = None,
        mask: jax.Array | None = None,
    ) -> SceneCoordinates:
        """Coordinates of features (N, D), with context of one image.

        Args:
            descriptors: (N, D) unit descriptors.
            code: (M, D + 4), see `code_of`.
            allowed: (N, M) bool; False hides a landmark from one feature. None: all are seen.
            uv: (N, 2) pixels over the image's width; for context only, without which each feature
                is alone.
            mask: (N,) bool, False for padding, which nobody hears; None: there is none.
        """
        if self.blocks < 1:
            raise ValueError(f"blocks is {self.blocks}, must be at least 1")
        hidden = int(self.dim * self.mlp_ratio)
        embed = self.param("embed", _isometry, (descriptors.shape[1], self.dim))
        first = x = descriptors @ embed
        answer = support = None
        neighbours = None
        if self.context:
            if uv is None:
                uv, mask = jnp.zeros((len(first), 2)), jnp.zeros(len(first), bool)
            some = jnp.ones(len(first), bool) if mask is None else mask
            neighbours = neighbours_of(uv, some, self.context)
        for index in range(self.blocks):
            kept = self.candidates if neighbours is not None and index + 1 < self.blocks else 0
            attention = _Attention(
                self.tau, self.steady, kept, self.dtype, name=f"attention.{index}"
            )
            matched = first if self.steady else x
            answer, found, statistics, likeliest = attention(
                matched, x, embed, code, answer, support, allowed
            )
            news = [found, statistics]
            if likeliest is not None:
                more, told = Agreement(name=f"agreement.{index}")(
                    x, answer, code[:, -3:], likeliest, neighbours
                )
                support = likeliest.index, more
                news.append(told)
            x = x + nn.Dense(self.dim, kernel_init=nn.initializers.zeros, name=f"news.{index}")(
                jnp.concatenate(news, axis=1)
            )
            x = x + _MLP(hidden, self.dim, name=f"mlp.{index}")(x)
        raw = _MLP(hidden, 4, name="out")(jnp.concatenate([x, statistics], axis=1))
        shift = 0.0 if self.steady else answer.scale[:, None] * raw[:, :3]
        return SceneCoordinates(
            xyz=answer.xyz + shift,
            scale=answer.scale * jnp.exp(_BOUND * jnp.tanh(raw[:, 3] / _BOUND)),
        )
