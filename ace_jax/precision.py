"""Numerical precision of matrix products and convolutions, stated where they are written.

On accelerators JAX rounds float32 operands by default: to 11 significant bits on recent GPUs
(TensorFloat-32), to 8 on TPUs (bfloat16). Poses in metres and differences of large numbers do not
survive that. CPUs compute in float32 whatever is stated, so nothing here costs them anything.

The decorators state a precision for all products inside a function, those of other libraries that
it calls included, and for their gradients. They belong below `jax.jit`, which then records it.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def full_precision(function: Callable) -> Callable:
    """Products in full float32: for geometry, attention, and all whose small differences count."""

    @functools.wraps(function)
    def stated(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return stated


def network_precision(function: Callable) -> Callable:
    """Products of at least 11 bits, as fast as such are: for the layers of learned networks.

    Within a function of full precision they are full, and where the user has set
    `jax_default_matmul_precision` they follow that. Layers that are to compute in bfloat16 have a
    `dtype`.
    """

    @functools.wraps(function)
    def stated(*args: Any, **kwargs: Any) -> Any:
        if jax.config.jax_default_matmul_precision is not None:
            return function(*args, **kwargs)
        with jax.default_matmul_precision("high"):
            return function(*args, **kwargs)

    return stated


def operand_precision(dtype: DTypeLike) -> jax.lax.Precision | None:
    """The `precision` of a product whose operands are cast to `dtype` and whose sums are float32.

    Operands of 16 bits are exact as they are; what is left to round is the float32 gradient that
    they meet in the backward pass. With float32 operands the function around it decides: None.
    """
    return None if jnp.dtype(dtype) == jnp.float32 else jax.lax.Precision.DEFAULT
