"""The training loop shared by all heads: a loss on patches, an optimizer, checkpoints.

The state is a `flax.struct.dataclass`; a step is a pure function of state, batch and key; batches
and keys follow from the step number alone, so a run that was killed continues bit for bit.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from ace_jax.errors import UserError
from ace_jax.models.scene_coordinates import SceneCoordinates
from ace_jax.programs import program
from ace_jax.training import losses
from ace_jax.training.checkpoints import Checkpoints
from ace_jax.training.patch_buffer import Batch, PatchSampler
from ace_jax.training.schedules import one_cycle, scale_by_name

Apply = Callable[[Any, Any, Batch, jax.Array], SceneCoordinates]
INLIER_PX = 10.0


@flax.struct.dataclass
class FitState:
    """What training changes.

    Attributes:
        params: what is trained.
        optimizer: state of its optimizer.
        history: (steps, 3) loss, median reprojection error (pixels) and share within 10 px, NaN
            for steps to come.
    """

    params: Any
    optimizer: Any
    history: jax.Array


def create_optimizer(options: Any) -> optax.GradientTransformation:
    """AdamW with the configuration's schedule, clipping and rates by parameter name."""
    if options.schedule == "one_cycle":
        schedule = one_cycle(
            options.learning_rate,
            options.steps,
            options.warmup,
            options.divide,
            options.final_divide,
        )
    else:
        schedule = optax.cosine_decay_schedule(options.learning_rate, max(options.steps, 1))
    factors = dict(options.rate_factors)

    parts = [optax.clip_by_global_norm(options.clip)] if options.clip else []
    parts.append(optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8))
    if options.weight_decay:
        parts.append(optax.add_decayed_weights(options.weight_decay))
    if factors:
        parts.append(scale_by_name(factors))
    return optax.chain(*parts, optax.scale_by_learning_rate(schedule))


def patch_loss(out: SceneCoordinates, batch: Batch, progress: jax.Array, options: Any) -> tuple:
    """The configuration's loss of a batch, and (median error in pixels, share within 10 px)."""
    reprojection = losses.reproject(out.xyz, batch.camera_from_world, batch.camera, batch.uv)
    known = jnp.isfinite(batch.target).all(axis=1)
    target = jnp.where(known[:, None], batch.target, 0.0)
    if options.loss == "dynamic_tanh":
        width = losses.tanh_width(progress)
        each = losses.ace_loss(reprojection, batch.camera, batch.uv, width)
    elif options.loss == "reprojection_nll":
        each = losses.reprojection_nll(
            reprojection, out.scale, batch.camera, batch.uv, options.prior_depth
        )
    elif options.loss == "coordinate_l1":
        each = jnp.where(known, jnp.sum(jnp.abs(out.xyz - target), axis=1), 0.0)
    else:
        each = jnp.zeros(out.scale.shape)
    total = each.mean()
    if options.loss == "coordinate_nll" or options.coordinate_weight:
        weight = 1.0 if options.loss == "coordinate_nll" else options.coordinate_weight
        total = total + weight * losses.masked_mean(
            losses.coordinate_nll(out.xyz, out.scale, target), known
        )
    error = jnp.where(reprojection.valid, reprojection.error, losses.MAX_ERROR)
    return total, (jnp.median(error), jnp.mean(error < INLIER_PX))


def fit(
    apply: Apply,
    params: Any,
    frozen: Any,
    sampler: PatchSampler,
    options: Any,
    key: jax.Array,
    checkpoints: Checkpoints | None = None,
    progress: Callable[..., None] = lambda *_, **__: None,
    rehearsal: PatchSampler | None = None,
) -> tuple[Any, np.ndarray]:
    """Trains `params`.

    Args:
        apply: (params, frozen, batch, key) to scene coordinates.
        params: what is trained, a tree.
        frozen: what the head needs besides.
        sampler: batches by step.
        options: the configuration's `training`.
        key: of dropout and the like.
        checkpoints: where to keep the state; None for nowhere.
        progress: called as progress("training", step, steps, loss=..., ...).
        rehearsal: batches of what was learned before, mixed in one for one.

    Returns:
        The trained parameters and the history (steps, 3).

    Raises:
        UserError: training diverged; a checkpoint is never overwritten by what is not finite.
    """
    optimizer = create_optimizer(options)
    state = FitState(
        params=params,
        optimizer=optimizer.init(params),
        history=jnp.full((options.steps, 3), jnp.nan),
    )
    start = 0
    if checkpoints is not None and (found := checkpoints.restore(state)) is not None:
        start, state = found
        logging.warning("an interrupted run continues after step %d of %d", start, options.steps)

    @program(donate_argnums=0)
    def train_step(state: FitState, frozen: Any, batch: Batch, step: jax.Array) -> FitState:
        step_key = jax.random.fold_in(key, step)

        def loss(params: Any) -> tuple:
            out = apply(params, frozen, batch, step_key)
            return patch_loss(out, batch, step / options.steps, options)

        (value, figures), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        return FitState(
            params=optax.apply_updates(state.params, updates),
            optimizer=optimizer_state,
            history=state.history.at[step].set(jnp.stack([value, *figures])),
        )

    saved_at = shown_at = time.monotonic()
    for step in range(start, options.steps):
        batch = sampler(step)
        if rehearsal is not None:
            batch = _joined(batch, rehearsal(step))
        state = train_step(state, frozen, batch, jnp.int32(step))
        now = time.monotonic()
        if now - shown_at > 0.5:
            loss_value, error, share = (float(x) for x in state.history[step])
            if not math.isfinite(loss_value):
                _require_finite(state, step, checkpoints)
            progress(
                "training", step + 1, options.steps, loss=loss_value, error_px=error, inliers=share
            )
            shown_at = time.monotonic()
        if checkpoints is not None and now - saved_at > options.checkpoint_seconds:
            _require_finite(state, step, checkpoints)
            checkpoints.save(step + 1, state)
            saved_at = time.monotonic()
    if options.steps > start:
        _require_finite(state, options.steps - 1, checkpoints)
    if checkpoints is not None and options.steps > start:
        checkpoints.save(options.steps, state)
        checkpoints.wait()
    state = jax.block_until_ready(state)
    if options.steps:
        loss_value, error, share = (float(x) for x in state.history[-1])
        progress(
            "training",
            options.steps,
            options.steps,
            loss=loss_value,
            error_px=error,
            inliers=share,
        )
    return state.params, np.asarray(state.history)


@program
def _joined(a: Batch, b: Batch) -> Batch:
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y]) if jnp.ndim(x) else x, a, b)


def _require_finite(state: FitState, step: int, checkpoints: Checkpoints | None) -> None:
    """Stops a training that diverged, before anything of it is saved.

    Args:
        state: after step `step`, counted from 0.
        step: see `state`.
        checkpoints: of the run, if any.

    Raises:
        UserError: the loss or a parameter is not finite.
    """
    bad = ~np.isfinite(np.asarray(state.history[: step + 1, 0]))
    if not bad[-1:].any() and all(
        bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(state.params)
    ):
        return
    first = int(np.argmax(bad)) + 1 if bad.any() else step + 1
    kept = ""
    if checkpoints is not None:
        checkpoints.wait()
        if checkpoints.newest is not None:
            kept = f"; the state after step {checkpoints.newest} is kept in {checkpoints.folder}"
    raise UserError(
        f"training diverged: the loss is not finite from step {first} on; lower "
        f"--config.training.learning_rate, or set --config.training.clip{kept}"
    )
