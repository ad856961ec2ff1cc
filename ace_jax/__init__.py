"""ace_jax: scene coordinate regression in JAX (SLAM, mapping, relocalization, pre-training)."""

__version__ = "0.1.0"
