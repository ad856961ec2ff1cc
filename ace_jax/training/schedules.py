"""Learning-rate schedules, and learning-rate factors by parameter name."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax


def warmup_cosine(peak: float, warmup: int, steps: int) -> optax.Schedule:
    """From 0 to `peak` over `warmup` steps, then back to 0 along a cosine until `steps`."""
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(steps, warmup + 1))


def one_cycle(
    peak: float,
    steps: int,
    warmup: float = 0.3,
    divide: float = 25.0,
    final_divide: float = 1e4,
) -> optax.Schedule:
    """The one-cycle schedule of PyTorch, cosine, two phases, value for value.

    Rises from peak / divide to peak at step `warmup * steps - 1`, then falls to
    peak / divide / final_divide at the last step (optax's own reaches neither at these steps).

    Args:
        peak: highest learning rate.
        steps: total steps.
        warmup: share of the steps in the rise.
        divide: peak over the first value.
        final_divide: the first value over the last.
    """
    start = peak / divide
    end = start / final_divide
    top = max(warmup * steps - 1, 1e-9)
    last = max(steps - 1, top + 1e-9)

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        rising = _cosine(start, peak, jnp.clip(step / top, 0, 1))
        falling = _cosine(peak, end, jnp.clip((step - top) / (last - top), 0, 1))
        return jnp.where(step <= top, rising, falling)

    return schedule


def scale_by_name(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Multiplies the updates of parameters below these names by factors.

    Args:
        factors: by a key anywhere in the parameter's path; the first that is found counts.
    """

    def scaled(path: tuple, update: jax.Array) -> jax.Array:
        names = [str(getattr(entry, "key", entry)) for entry in path]
        return update * next((factors[name] for name in names if name in factors), 1.0)

    return optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(scaled, updates))


def _cosine(first: float, last: float, share: jax.Array) -> jax.Array:
    return last + (first - last) / 2 * (1 + jnp.cos(jnp.pi * share))
