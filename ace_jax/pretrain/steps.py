"""State and steps of query pre-training (Bruns et al., "ACE-G", ICCV 2025).

Two parameter trees, two optimizers, two steps that alternate:

    mapping step   codes             <- gradient of the loss on patches of mapping images
                   (transformer too  <- the same gradient, at its interval)
    query step     transformer       <- gradient of the loss on patches of query images

In a query step the codes stand still: the transformer learns to read a code that was made without
the images that it is asked about, which is what it has to do in a new scene.

The optimizers are apart, because zero gradients do not freeze: momentum and weight decay go on.
Each scene has its own optimizer state, as it is mapped from scratch when it enters the pool.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import optax

from ace_jax.errors import UserError
from ace_jax.pretrain import batches
from ace_jax.pretrain.forms import Form
from ace_jax.pretrain.patches import ScenePatches
from ace_jax.pretrain.scenes import Views
from ace_jax.training import losses
from ace_jax.training.schedules import one_cycle, scale_by_name, warmup_cosine

LOSSES = {"laplace": losses.coordinate_nll, "student_t": losses.student_t_nll}
_MAPPING, _QUERY, _CODE = range(3)  # streams of a step's key


@flax.struct.dataclass
class PretrainState:
    """What pre-training changes.

    Attributes:
        step: () int32 iterations done.
        transformer: parameters of the scene-agnostic transformer.
        transformer_optimizer: its optimizer's state.
        codes: (S, M, C) map codes of the scenes in the pool.
        codes_optimizer: state of each scene's optimizer, leading axis S.
        code_image: (S, M) int32 mapping image that each row was observed in; not trained.
    """

    step: jax.Array
    transformer: Any
    transformer_optimizer: Any
    codes: jax.Array
    codes_optimizer: Any
    code_image: jax.Array


@dataclasses.dataclass(frozen=True)
class Steps:
    """The steps as jitted functions; each takes the state and gives it back.

    Attributes:
        init: (key, patches) -> state.
        renew: (state, patches, entered (S,) bool, key) -> state with fresh codes where a scene
            has entered.
        map: (state, patches, key) -> (state, loss): a mapping step, codes only.
        map_both: the same for codes and transformer.
        query: (state, patches, key) -> (state, loss): a query step, and the end of an iteration.
    """

    init: Callable[..., PretrainState]
    renew: Callable[..., PretrainState]
    map: Callable[..., tuple[PretrainState, jax.Array]]
    map_both: Callable[..., tuple[PretrainState, jax.Array]]
    query: Callable[..., tuple[PretrainState, jax.Array]]


def transformer_optimizer(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """AdamW with warm-up and cosine decay over the run's query steps."""
    options = config.transformer_optimizer
    schedule = warmup_cosine(options.learning_rate, options.warmup, config.steps)
    return optax.chain(
        optax.clip_by_global_norm(options.clip),
        optax.adamw(schedule, b2=options.b2, eps=options.eps, weight_decay=options.weight_decay),
        scale_by_name(options.rate_factors.to_dict()),
    )


def codes_optimizer(
    config: ml_collections.ConfigDict, form: Form, steps: int
) -> optax.GradientTransformation:
    """AdamW of one scene's code, one-cycle over `steps` mapping steps."""
    options = config.codes_optimizer
    factors = form.rate_factors()
    return optax.chain(
        optax.clip_by_global_norm(options.clip),
        optax.scale_by_adam(eps=options.eps),
        optax.add_decayed_weights(options.weight_decay),
        optax.stateless(lambda updates, _: updates * factors),
        optax.scale_by_learning_rate(
            one_cycle(options.learning_rate, steps, options.warmup, 5.0, 1000.0)
        ),
    )


def create_steps(config: ml_collections.ConfigDict, form: Form) -> Steps:
    """The steps that a configuration describes.

    Raises:
        UserError: an unknown loss or kind of target, or patches that cannot be cut into parts.
    """
    if config.loss not in LOSSES:
        raise UserError(f"config.loss is {config.loss!r}; choose one of {', '.join(LOSSES)}")
    for name in ("mapping", "query"):
        if config.parts < 1 or config[name].patches % config.parts:
            raise UserError(
                f"config.{name}.patches is {config[name].patches}: not a multiple of config.parts, "
                f"{config.parts}"
            )
    nll = LOSSES[config.loss]
    views = Views(**config.views)
    mapping_rows, query_rows = views.rows("mapping"), views.rows(config.query.targets)
    transformer_tx = transformer_optimizer(config)
    codes_tx = codes_optimizer(
        config, form, config.pool.longest_life * max(config.mapping.steps, 1)
    )

    def gradients(
        argnums: int | tuple[int, ...],
        transformer: Any,
        codes: jax.Array,
        targets: batches.Targets,
        allow: Callable[[batches.Targets], jax.Array],
    ) -> tuple[Any, jax.Array]:
        """The gradient of the sum of the scenes' losses, and each scene's mean loss (S,)."""
        count = jnp.maximum(targets.mask.sum(axis=1), 1)

        def one(
            transformer: Any, code: jax.Array, targets: batches.Targets, allowed: jax.Array
        ) -> jax.Array:
            place = (targets.uv, targets.mask) if form.context else ()
            out = form.apply(transformer, targets.features, code, allowed, *place)
            # Padding may hold anything, and NaN would come back through the gradient of the sum.
            true = jnp.where(targets.mask[:, None], targets.xyz, 0.0)
            return jnp.where(targets.mask, nll(out.xyz, out.scale, true), 0.0).sum()

        def loss(
            transformer: Any, codes: jax.Array, part: batches.Targets
        ) -> tuple[jax.Array, jax.Array]:
            sums = jax.vmap(one, (None, 0, 0, 0))(transformer, codes, part, allow(part))
            return (sums / count).sum(), sums / count

        gradient = jax.grad(loss, argnums, has_aux=True)
        return batches.sum_over_parts(
            lambda part: gradient(transformer, codes, part), targets, config.parts
        )

    def drawn(
        key: jax.Array, patches: ScenePatches, rows: slice, options: ml_collections.ConfigDict
    ) -> batches.Targets:
        targets = batches.draw(
            jax.random.fold_in(key, 0), patches, rows, options.patches, form.context
        )
        return batches.drop_features(jax.random.fold_in(key, 1), targets, options.dropout)

    def mean_over_scenes(gradient: Any, state: PretrainState) -> Any:
        return jax.tree.map(lambda g: g / state.codes.shape[0], gradient)

    def update_transformer(state: PretrainState, gradient: Any) -> PretrainState:
        updates, optimizer = transformer_tx.update(
            gradient, state.transformer_optimizer, state.transformer
        )
        return state.replace(
            transformer=optax.apply_updates(state.transformer, updates),
            transformer_optimizer=optimizer,
        )

    def mapping_step(
        state: PretrainState, patches: ScenePatches, key: jax.Array, both: bool
    ) -> tuple[PretrainState, jax.Array]:
        key = jax.random.fold_in(key, _MAPPING)
        targets = drawn(key, patches, mapping_rows, config.mapping)

        def allow(targets: batches.Targets) -> jax.Array:
            # A landmark must be found from other images than its own, or it learns nothing.
            return batches.seen_landmarks(targets, state.code_image, views.mapping, hide_own=True)

        # The sum: a scene's code does not feel how many others there are.
        found, each = gradients(
            (0, 1) if both else 1, state.transformer, state.codes, targets, allow
        )
        of_codes = found[1] if both else found
        updates, optimizer = jax.vmap(codes_tx.update)(of_codes, state.codes_optimizer, state.codes)
        state = state.replace(codes=state.codes + updates, codes_optimizer=optimizer)
        if both:
            state = update_transformer(state, mean_over_scenes(found[0], state))
        return state, each.mean()

    def query_step(
        state: PretrainState, patches: ScenePatches, key: jax.Array
    ) -> tuple[PretrainState, jax.Array]:
        key = jax.random.fold_in(key, _QUERY)
        targets = drawn(key, patches, query_rows, config.query)
        reach = batches.reach_at(
            state.step, views.mapping, config.support.first, config.support.steps
        )

        def allow(targets: batches.Targets) -> jax.Array:
            return batches.seen_landmarks(targets, state.code_image, reach, hide_own=False)

        found, each = gradients(0, state.transformer, state.codes, targets, allow)
        state = update_transformer(state, mean_over_scenes(found, state))
        return state.replace(step=state.step + 1), each.mean()

    def fresh(patches: ScenePatches, key: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
        scenes = patches.mask.shape[0]
        keys = jax.random.split(jax.random.fold_in(key, _CODE), scenes)
        codes, images = jax.vmap(form.init_code)(keys, patches)
        return codes, images, jax.vmap(codes_tx.init)(codes)

    def init(key: jax.Array, patches: ScenePatches) -> PretrainState:
        transformer = form.init_transformer(jax.random.fold_in(key, 0))
        codes, images, optimizer = fresh(patches, jax.random.fold_in(key, 1))
        return PretrainState(
            step=jnp.int32(0),
            transformer=transformer,
            transformer_optimizer=transformer_tx.init(transformer),
            codes=codes,
            codes_optimizer=optimizer,
            code_image=images,
        )

    def renew(
        state: PretrainState, patches: ScenePatches, entered: jax.Array, key: jax.Array
    ) -> PretrainState:
        new = fresh(patches, key)
        old = (state.codes, state.code_image, state.codes_optimizer)

        def choose(a: jax.Array, b: jax.Array) -> jax.Array:
            return jnp.where(entered.reshape(-1, *[1] * (a.ndim - 1)), a, b)

        codes, images, optimizer = jax.tree.map(choose, new, old)
        return state.replace(codes=codes, code_image=images, codes_optimizer=optimizer)

    donate = functools.partial(jax.jit, donate_argnums=0)
    return Steps(
        init=jax.jit(init),
        renew=donate(renew),
        map=donate(functools.partial(mapping_step, both=False)),
        map_both=donate(functools.partial(mapping_step, both=True)),
        query=donate(query_step),
    )
