"""DINOv2's vision transformer, without and with register tokens.

Oquab et al., "DINOv2", 2023; Darcet et al., "Vision transformers need registers", 2023. Parameters
carry the names of the published files (see ace_jax/weights/layout.py).
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ace_jax.models.layers import Linear
from ace_jax.precision import network_precision, operand_precision

EPSILON = 1e-6  # LayerNorm
TRAINING_GRID = 37  # patches along each side of the training images (518 pixels)
_QUERY_BLOCK = 1024  # queries whose attention is in memory at once

Interpolation = Literal["offset", "size", "antialias"]


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """Shape and conventions of a vision transformer.

    Attributes:
        dim: width D.
        depth: number of blocks.
        heads: attention heads; divides D.
        ffn: "mlp", or "swiglu" (ViT-g).
        registers: number of register tokens.
        interpolation: how position embeddings follow the image's size, see `position_weights`.
            "offset" for the official models without registers, "antialias" for those with (and for
            all of timm's), "size" for Hugging Face's Dinov2Model.
        patch: side of a patch, pixels.
    """

    dim: int
    depth: int
    heads: int
    ffn: Literal["mlp", "swiglu"] = "mlp"
    registers: int = 0
    interpolation: Interpolation = "offset"
    patch: int = 14

    @property
    def hidden(self) -> int:
        """Width inside a block's feed-forward layer."""
        if self.ffn == "mlp":
            return 4 * self.dim
        return -(-int(4 * self.dim * 2 / 3) // 8) * 8


@flax.struct.dataclass
class ViTFeatures:
    """What the transformer makes of images; h x w patches.

    Attributes:
        patches: (B, h, w, D) after the final norm.
        class_token: (B, D) after the final norm.
        registers: (B, R, D) after the final norm.
        layers: for each block asked for, its output (B, 1 + R + h * w, D): class, registers,
            patches row by row.
    """

    patches: jax.Array
    class_token: jax.Array
    registers: jax.Array
    layers: tuple[jax.Array, ...] = ()


class VisionTransformer(nn.Module):
    """Images to patch features.

    Attributes:
        config: shape and conventions.
        dtype: of the operands of matrix products; sums, norms and the residual stream are float32.
        checkpoint: recompute each block in the backward pass instead of keeping what is inside.
    """

    config: ViTConfig
    dtype: Any = jnp.float32
    checkpoint: bool = False

    @nn.compact
    def __call__(
        self, images: jax.Array, layers: Sequence[int] = (), norm_layers: bool = True
    ) -> ViTFeatures:
        """Features of images.

        Args:
            images: (B, H, W, 3) float, normalized; H and W are multiples of the patch size.
            layers: blocks whose output is wanted too, from 0; negative counts from the end.
            norm_layers: whether these outputs go through the final norm.
        """
        c = self.config
        batch, h, w = images.shape[0], images.shape[1] // c.patch, images.shape[2] // c.patch
        final_norm = nn.LayerNorm(epsilon=EPSILON, name="norm")
        x = self.tokens(images)

        block_type = nn.remat(_Block) if self.checkpoint else _Block
        wanted = [layer % c.depth for layer in layers]
        kept = {}
        for i in range(c.depth):
            x = block_type(c, self.dtype, name=f"blocks.{i}")(x)
            if i in wanted:
                kept[i] = x
        normed = final_norm(x)
        outputs = tuple(final_norm(kept[i]) if norm_layers else kept[i] for i in wanted)
        first = 1 + c.registers
        return ViTFeatures(
            patches=normed[:, first:].reshape(batch, h, w, c.dim),
            class_token=normed[:, 0],
            registers=normed[:, 1:first],
            layers=outputs,
        )

    @nn.compact
    def tokens(self, images: jax.Array) -> jax.Array:
        """Tokens (B, 1 + R + h * w, D) that enter the first block."""
        c = self.config
        batch, height, width, _ = images.shape
        if height % c.patch or width % c.patch:
            raise ValueError(f"image sides must be multiples of {c.patch}: {height}x{width}")
        h, w = height // c.patch, width // c.patch
        patches = images.reshape(batch, h, c.patch, w, c.patch, 3).transpose(0, 1, 3, 2, 4, 5)
        x = _PatchEmbedding(c, self.dtype, name="patch_embed.proj")(
            patches.reshape(batch, h * w, -1)
        )
        small = nn.initializers.normal(0.02)
        class_token = self.param("cls_token", small, (1, 1, c.dim))
        positions = self.param("pos_embed", small, (1, 1 + TRAINING_GRID**2, c.dim))
        x = x + interpolate_positions(positions[:, 1:], h, w, c.interpolation)
        parts = [jnp.broadcast_to(class_token + positions[:, :1], (batch, 1, c.dim))]
        if c.registers:
            # Registers get no position.
            registers = self.param("register_tokens", small, (1, c.registers, c.dim))
            parts.append(jnp.broadcast_to(registers, (batch, c.registers, c.dim)))
        return jnp.concatenate([*parts, x], axis=1)


class _PatchEmbedding(nn.Module):
    """A convolution whose stride is its size: one product. The kernel keeps the origin's shape."""

    config: ViTConfig
    dtype: Any

    @nn.compact
    @network_precision
    def __call__(self, patches: jax.Array) -> jax.Array:
        c = self.config
        init = nn.initializers.lecun_normal()
        kernel = self.param("kernel", init, (c.patch, c.patch, 3, c.dim))
        bias = self.param("bias", nn.initializers.zeros, (c.dim,))
        product = jnp.matmul(
            patches.astype(self.dtype),
            kernel.reshape(-1, c.dim).astype(self.dtype),
            precision=operand_precision(self.dtype),
            preferred_element_type=jnp.float32,
        )
        return product + bias


class _Block(nn.Module):
    """x += ls1 * Attention(LN x); x += ls2 * FFN(LN x)."""

    config: ViTConfig
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        y = nn.LayerNorm(epsilon=EPSILON, name="norm1")(x)
        qkv = Linear(3 * c.dim, self.dtype, name="attn.qkv")(y)
        y = attention(*jnp.split(qkv.astype(self.dtype), 3, axis=-1), c.heads)
        y = Linear(c.dim, self.dtype, name="attn.proj")(y)
        x = x + _LayerScale(name="ls1")(y)

        y = nn.LayerNorm(epsilon=EPSILON, name="norm2")(x)
        if c.ffn == "mlp":
            y = nn.gelu(Linear(c.hidden, self.dtype, name="mlp.fc1")(y), approximate=False)
            y = Linear(c.dim, self.dtype, name="mlp.fc2")(y)
        else:
            gate, value = jnp.split(Linear(2 * c.hidden, self.dtype, name="mlp.w12")(y), 2, axis=-1)
            y = Linear(c.dim, self.dtype, name="mlp.w3")(nn.silu(gate) * value)
        return x + _LayerScale(name="ls2")(y)


class _LayerScale(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.param("gamma", nn.initializers.ones, (x.shape[-1],))


def attention(q: jax.Array, k: jax.Array, v: jax.Array, heads: int) -> jax.Array:
    """Softmax attention (B, T, D) with scale head_dim^-0.5; the result is float32."""
    b, t, d = q.shape
    q, k, v = (x.reshape(b, t, heads, d // heads) for x in (q, k, v))
    result = lax.platform_dependent(q, k, v, cpu=_attention_by_blocks, default=_fused_attention)
    return result.reshape(b, t, d)


@network_precision
def _fused_attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    return jax.nn.dot_product_attention(q, k, v).astype(jnp.float32)


@network_precision
def _attention_by_blocks(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """One head and one block of queries at a time, (B, T, H, d).

    A block's scores stay in the cache: on CPUs four times faster than all heads at once, and the
    memory no longer grows with the square of T.
    """
    b, t, heads, d = q.shape
    blocks = -(-t // _QUERY_BLOCK)
    size = -(-t // blocks)
    q, k, v = (x.transpose(0, 2, 1, 3).reshape(b * heads, t, d) for x in (q, k, v))
    q = jnp.pad(q, ((0, 0), (0, blocks * size - t), (0, 0))).reshape(-1, size, d)
    scale = d**-0.5
    product = functools.partial(
        jnp.matmul, precision=operand_precision(v.dtype), preferred_element_type=jnp.float32
    )

    @jax.checkpoint
    def attend(index: jax.Array) -> jax.Array:
        head = index // blocks
        scores = product(q[index], k[head].T) * scale
        weights = jnp.exp(scores - scores.max(axis=-1, keepdims=True))
        total = weights.sum(axis=-1, keepdims=True)
        return product(weights.astype(v.dtype), v[head]) / total

    out = lax.map(attend, jnp.arange(b * heads * blocks))
    out = out.reshape(b, heads, blocks * size, d)[:, :, :t]
    return out.transpose(0, 2, 1, 3)


def interpolate_positions(
    positions: jax.Array, height: int, width: int, rule: Interpolation
) -> jax.Array:
    """Position embeddings (1, 37 * 37, D) for a grid of height x width: (1, height * width, D)."""
    grid = TRAINING_GRID
    # As upstream: untouched at the training size only.
    if height == width == grid:
        return positions
    rows = position_weights(height, grid, rule)
    columns = position_weights(width, grid, rule)
    square = positions.reshape(grid, grid, -1)
    result = jnp.einsum("hi,wj,ijd->hwd", rows, columns, square, precision=lax.Precision.HIGHEST)
    return result.reshape(1, height * width, -1)


def position_weights(size: int, grid: int, rule: Interpolation) -> np.ndarray:
    """(size, grid) float32 weights of bicubic interpolation along one axis, as torch computes it.

    Args:
        size: of the result.
        grid: of the source.
        rule: "offset": step grid / (size + 0.1), kernel a = -0.75, borders repeated; "size": the
            same with step grid / size; "antialias": step grid / size, kernel a = -0.5 widened by
            the step when shrinking, normalized, cut off at the borders.
    """
    step = grid / (size + 0.1) if rule == "offset" else grid / size
    centres = (np.arange(size) + 0.5) * step - 0.5
    source = np.arange(grid)
    if rule == "antialias":
        scale = max(step, 1.0)
        weights = _cubic((source[None] - centres[:, None]) / scale, -0.5)
        return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    weights = np.zeros((size, grid))
    first = np.floor(centres).astype(int)
    for tap in range(-1, 3):
        column = np.clip(first + tap, 0, grid - 1)
        np.add.at(weights, (np.arange(size), column), _cubic(first + tap - centres, -0.75))
    return weights.astype(np.float32)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel, support 2."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
