"""Robust losses rho(s) of a squared residual s that is measured in squared scales."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Loss = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


def squared(s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Least squares: rho = s, and the weight rho' = 1."""
    return s, jnp.ones_like(s)


def huber(s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Quadratic up to the scale, linear beyond."""
    far = s > 1.0
    root = jnp.sqrt(jnp.where(far, s, 1.0))
    return jnp.where(far, 2.0 * root - 1.0, s), jnp.where(far, 1.0 / root, 1.0)


def cauchy(s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log(1 + s)."""
    return jnp.log1p(s), 1.0 / (1.0 + s)


def tukey(s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Biweight, (1 - (1 - s)^3) / 3 up to the scale: nothing beyond it has any influence."""
    inside = jnp.maximum(1.0 - s, 0.0)
    return (1.0 - inside**3) / 3.0, inside**2


def truncated(s: jax.Array) -> tuple[jax.Array, jax.Array]:
    """min(s, 1): least squares on inliers, and the negative of the MSAC score."""
    return jnp.minimum(s, 1.0), jnp.where(s < 1.0, 1.0, 0.0)
