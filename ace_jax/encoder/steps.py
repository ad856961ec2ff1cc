"""State and step of the training of a descriptor.

Two losses over the keypoints of one pair of images, the negatives being the image's other
keypoints, those without a partner included:

    InfoNCE (van den Oord et al., 2018), in both directions, with a learned scale of the cosines
    HardNet (Mishchuk et al., NeurIPS 2017): a match is nearer than the nearest wrong one by 1
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import optax

from ace_jax.encoder.batches import Batch
from ace_jax.models.patch_descriptor import PatchDescriptor, input_shape
from ace_jax.precision import full_precision
from ace_jax.training.schedules import warmup_cosine

_SCALE = 16.0  # of cosines, to begin with
_LARGEST_SCALE = 200.0
# Of what takes no part: logits, and a cosine that is farther than any. Moderate, as XLA's fused
# gradients of numbers near 1e10 were not finite.
_NO_LOGIT, _NO_COSINE = -1e4, -4.0


@flax.struct.dataclass
class EncoderState:
    """What training changes.

    Attributes:
        step: () int32 steps done.
        params: of the network; and the logarithm of the cosines' scale.
        optimizer: its state.
    """

    step: jax.Array
    params: Any
    optimizer: Any


def optimizer(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """AdamW with warm-up, then cosine decay to zero over the run."""
    options = config.optimizer
    schedule = warmup_cosine(options.learning_rate, options.warmup, config.steps)
    return optax.chain(
        optax.clip_by_global_norm(options.clip),
        optax.adamw(schedule, weight_decay=options.weight_decay),
    )


def init(config: ml_collections.ConfigDict, module: PatchDescriptor) -> EncoderState:
    """The state before the first step."""
    shape = (1, *input_shape(module))
    network = module.init(jax.random.key(config.seed), jnp.zeros(shape))["params"]
    params = {"network": network, "log_scale": jnp.log(jnp.float32(_SCALE))}
    return EncoderState(jnp.int32(0), params, optimizer(config).init(params))


def create_step(
    config: ml_collections.ConfigDict, module: PatchDescriptor
) -> Callable[[EncoderState, Batch], tuple[EncoderState, dict[str, jax.Array]]]:
    """The jitted step: (state, batch) -> (state, figures), see `losses` for these."""
    transform = optimizer(config)

    def step(state: EncoderState, batch: Batch) -> tuple[EncoderState, dict[str, jax.Array]]:
        def total(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            figures = losses(params, module, batch)
            return figures["info_nce"] + config.hard_weight * figures["hard"], figures

        gradient, figures = jax.grad(total, has_aux=True)(state.params)
        updates, moments = transform.update(gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return EncoderState(state.step + 1, params, moments), figures

    return functools.partial(jax.jit, donate_argnums=0)(step)


def losses(params: Any, module: PatchDescriptor, batch: Batch) -> dict[str, jax.Array]:
    """Means over a batch's matches: `info_nce`, `hard`, and the share that is `nearest`."""
    pairs, points = batch.partner.shape

    def described(x: jax.Array) -> jax.Array:
        flat = x.reshape(pairs * points, *x.shape[2:])
        out = module.apply({"params": params["network"]}, flat)
        return out.reshape(pairs, points, module.dim)

    scale = jnp.exp(jnp.minimum(params["log_scale"], jnp.log(_LARGEST_SCALE)))
    each = jax.vmap(functools.partial(_of_pair, scale))(
        described(batch.first), described(batch.second), batch.masks, batch.partner, batch.doubtful
    )
    count = jnp.maximum(each.pop("count").sum(), 1.0)
    return {name: sums.sum() / count for name, sums in each.items()} | {"scale": scale}


@full_precision
def _of_pair(
    scale: jax.Array,
    one: jax.Array,
    two: jax.Array,
    masks: jax.Array,
    partner: jax.Array,
    doubtful: jax.Array,
) -> dict[str, jax.Array]:
    """Sums over the matches of one pair with descriptors (N, D) each."""
    matched = partner >= 0
    rows, at = jnp.arange(one.shape[0]), jnp.maximum(partner, 0)
    cosine = one @ two.T
    right = cosine[rows, at]
    usable = masks[0][:, None] & masks[1][None] & ~doubtful
    own = jnp.zeros_like(usable).at[rows, at].set(matched)
    rivals = jnp.where(usable & ~own, cosine, _NO_COSINE)
    logits = jnp.where(usable, scale * cosine, _NO_LOGIT)
    # A row's softmax is over the second image's keypoints, a column's over the first's.
    forward = jax.nn.logsumexp(logits, axis=1)
    backward = jax.nn.logsumexp(logits, axis=0)[at]
    info_nce = 0.5 * (forward + backward) - scale * right
    rival = jnp.maximum(rivals.max(axis=1), rivals.max(axis=0)[at])
    hard = jnp.maximum(1.0 + _distance(right) - _distance(rival), 0.0)

    def total(values: jax.Array) -> jax.Array:
        return jnp.where(matched, values, 0.0).sum()

    return {
        "info_nce": total(info_nce),
        "hard": total(hard),
        "nearest": total((right > rival).astype(jnp.float32)),
        "count": matched.sum().astype(jnp.float32),
    }


def _distance(cosine: jax.Array) -> jax.Array:
    """Between unit vectors; at zero its slope is finite."""
    return jnp.sqrt(jnp.maximum(2.0 - 2.0 * cosine, 1e-6))
