"""Double precision for a block, by whichever name this version of JAX has it."""

import contextlib

import jax


def double_precision(enabled: bool = True) -> contextlib.AbstractContextManager:
    """`jax.enable_x64`, which older versions (before 0.8) have among the experimental ones."""
    enable = getattr(jax, "enable_x64", None)
    if enable is None:
        from jax.experimental import enable_x64 as enable
    return enable(enabled)
