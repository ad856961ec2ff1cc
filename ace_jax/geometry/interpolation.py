"""Interpolation in images and maps."""

import jax
import jax.numpy as jnp


def sample_bilinear(maps: jax.Array, points: jax.Array) -> jax.Array:
    """Values (N, C) of `maps` (H, W, C) at `points` (N, 2) as (x, y) in map cells; edges clamp."""
    h, w, _ = maps.shape
    x = jnp.clip(points[:, 0], 0.0, w - 1.0)
    y = jnp.clip(points[:, 1], 0.0, h - 1.0)
    x0, y0 = jnp.floor(x).astype(jnp.int32), jnp.floor(y).astype(jnp.int32)
    x1, y1 = jnp.minimum(x0 + 1, w - 1), jnp.minimum(y0 + 1, h - 1)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    top = maps[y0, x0] * (1 - fx) + maps[y0, x1] * fx
    bottom = maps[y1, x0] * (1 - fx) + maps[y1, x1] * fx
    return top * (1 - fy) + bottom * fy
