"""The map-code transformer of ACE-G: features attend to a map code, a set of vectors.

Cross-attention only: each feature is independent of the others, and the code is a set (no
positional encoding). Public defaults: 6 blocks, 8 heads, width 512, a code of 4096 vectors.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ace_jax.models.layers import in_blocks
from ace_jax.models.scene_coordinates import HomogeneousDecode, SceneCoordinates
from ace_jax.precision import network_precision, operand_precision

EPSILON = 1e-5  # LayerNorm
CODE_STD = 0.01  # of a new map code (ACE-G)
_QUERY_BLOCK = 1024  # queries whose attention is in memory at once


@network_precision
def attention(queries: jax.Array, keys: jax.Array, values: jax.Array, heads: int) -> jax.Array:
    """Softmax attention with scale head_dim^-0.5.

    Args:
        queries: (N, d).
        keys: (M, d).
        values: (M, d).
        heads: number of heads; divides d.

    Returns:
        (N, d) float32: sums and softmax are, whatever the operands. The weights of more than a
        block of queries are never held at once, in the gradient neither: (40960 queries x 4096
        keys x 8 heads) would be 5 GB a block.
    """
    count, width = queries.shape
    head_dim = width // heads
    q = queries.reshape(count, heads, head_dim) * head_dim**-0.5
    k, v = (x.reshape(-1, heads, head_dim) for x in (keys, values))
    product = functools.partial(
        jnp.einsum, precision=operand_precision(v.dtype), preferred_element_type=jnp.float32
    )

    @jax.checkpoint
    def block(q: jax.Array) -> jax.Array:
        weights = jax.nn.softmax(product("nhd,mhd->hnm", q, k))
        return product("hnm,mhd->nhd", weights.astype(v.dtype), v)

    return in_blocks(block, q, _QUERY_BLOCK).reshape(count, width)


class _MLP(nn.Module):
    """Linear, GELU (exact), LayerNorm after the activation if asked; then a last linear layer."""

    widths: tuple[int, ...]
    norm: bool
    dtype: Any = jnp.float32
    dtype_out: Any = None  # of the last layer; None: as the others
    precision_out: jax.lax.Precision | None = None  # of the last layer; None: as around it

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for index, width in enumerate(self.widths):
            last = index + 1 == len(self.widths)
            dtype = self.dtype_out if last and self.dtype_out else self.dtype
            precision = self.precision_out if last else None
            x = nn.Dense(width, dtype=dtype, precision=precision, name=f"fcs.{index}")(x)
            if not last:
                x = nn.gelu(x, approximate=False)
                if self.norm:
                    x = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name=f"norms.{index}")(x)
        return x


class _Attention(nn.Module):
    heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        def linear(name: str) -> nn.Dense:
            return nn.Dense(query.shape[-1], dtype=self.dtype, name=name)

        q, k, v = linear("q_proj")(query), linear("k_proj")(key), linear("v_proj")(value)
        return linear("proj")(attention(q, k, v, self.heads))


class _Block(nn.Module):
    """q += Attn(LN q, LN C, LN C); q += MLP(LN q)."""

    heads: int
    mlp_ratio: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, query: jax.Array, code: jax.Array) -> jax.Array:
        width = query.shape[-1]

        def norm(x: jax.Array, name: str) -> jax.Array:
            return nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name=name)(x)

        query = query + _Attention(self.heads, self.dtype, name="attn")(
            norm(query, "q_norm"), norm(code, "k_norm"), norm(code, "v_norm")
        )
        widths = (int(width * self.mlp_ratio), width)
        mlp = _MLP(widths, norm=False, dtype=self.dtype, name="mlp")
        return query + mlp(norm(query, "norm2"))


class MapCodeTransformer(nn.Module):
    """Features (N, D) and a map code (M, C) to scene coordinates with uncertainty.

    Parameter names, joined by dots, are the released head's.

    Attributes:
        dim: width d of the features inside.
        blocks: number of blocks N.
        heads: attention heads.
        code_dim: width C of the code; None for d.
        mlp_ratio: hidden width of the in-MLP over D and of the blocks' MLPs over d.
        final_layers: layers of the out-MLP.
        final_ratio: hidden width of the out-MLP over d.
        decode: constants of the homogeneous decode.
        dtype: of the layers' operands; sums, norms' statistics, softmax, the residual stream and
            the last layer, which gives metres, are float32.
    """

    dim: int = 512
    blocks: int = 6
    heads: int = 8
    code_dim: int | None = None
    mlp_ratio: float = 4.0
    final_layers: int = 2
    final_ratio: float = 1.0
    decode: HomogeneousDecode = HomogeneousDecode()
    dtype: Any = jnp.float32

    @nn.compact
    @network_precision
    def __call__(self, descriptors: jax.Array, code: jax.Array) -> SceneCoordinates:
        """Coordinates of features (N, D) under the map `code` (M, C)."""
        mean = self.variable("scene", "mean", jnp.zeros, (3,)).value
        hidden = int(descriptors.shape[-1] * self.mlp_ratio)
        x = _MLP((hidden, self.dim), norm=True, dtype=self.dtype, name="in_mlp")(descriptors)
        x = x.astype(jnp.float32)
        for index in range(self.blocks):
            name = f"transformer_blocks.{index}"
            block = _Block(self.heads, self.mlp_ratio, self.dtype, name=name)
            x = block(x, code)
        widths = (int(self.dim * self.final_ratio),) * (self.final_layers - 1) + (5,)
        metres = {"dtype_out": jnp.float32, "precision_out": jax.lax.Precision.HIGHEST}
        raw = _MLP(widths, norm=True, dtype=self.dtype, **metres, name="out_mlp")(x)
        return SceneCoordinates(xyz=self.decode(raw, mean), scale=jnp.exp(raw[..., 4]))

    def init_code(self, key: jax.Array, size: int = 4096) -> jax.Array:
        """A new map code (size, C), N(0, 0.01^2)."""
        return CODE_STD * jax.random.normal(key, (size, self.code_dim or self.dim))
