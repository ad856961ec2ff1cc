import functools

import jax
import jax.numpy as jnp
import numpy as np
import pretrain_world as world
import pytest
from ml_collections import ConfigDict

from ace_jax.errors import UserError
from ace_jax.models.landmark_attention import attend
from ace_jax.pretrain import batches, validation
from ace_jax.pretrain.forms import create_form
from ace_jax.pretrain.steps import create_steps
from ace_jax.training import losses
from ace_jax.training.mesh import SceneMesh

KEY = jax.random.key(0)
FORMS = ("observed", "random")


@functools.cache
def _set_up(form):
    config = world.config(steps=50)
    if form == "random":
        world.random_form(config)
    steps = create_steps(config, create_form(config, world.DIM))
    patches = SceneMesh(2).stack(lambda slot: world.scene(slot, config))
    return config, steps, patches


@pytest.fixture(scope="module", params=FORMS)
def trained(request):
    """Steps, patches and a state whose optimizers have momentum."""
    _, steps, patches = _set_up(request.param)
    state = steps.init(KEY, patches)
    for i in range(2):
        state, _ = steps.map(state, patches, jax.random.fold_in(KEY, i))
        state, _ = steps.query(state, patches, jax.random.fold_in(KEY, i))
    return steps, patches, jax.tree.map(np.asarray, state)


def _same(a, b):
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def _on_device(state):
    return jax.tree.map(jnp.array, state)


def test_a_query_step_leaves_codes_and_their_optimizer_alone(trained):
    steps, patches, before = trained
    after, loss = steps.query(_on_device(before), patches, KEY)
    assert np.isfinite(loss)
    assert int(after.step) == int(before.step) + 1
    assert _same(after.codes, before.codes)
    assert _same(after.codes_optimizer, before.codes_optimizer)
    assert not _same(after.transformer, before.transformer)
    assert not _same(after.transformer_optimizer, before.transformer_optimizer)


def test_a_mapping_step_off_the_interval_leaves_the_transformer_alone(trained):
    steps, patches, before = trained
    after, loss = steps.map(_on_device(before), patches, KEY)
    assert np.isfinite(loss)
    assert _same(after.transformer, before.transformer)
    assert _same(after.transformer_optimizer, before.transformer_optimizer)
    assert not _same(after.codes, before.codes)
    assert not _same(after.codes_optimizer, before.codes_optimizer)


def test_a_mapping_step_at_the_interval_trains_both():
    _, steps, patches = _set_up("observed")
    before = jax.tree.map(np.asarray, steps.init(KEY, patches))
    state = _on_device(before)
    for _ in range(2):  # the first rate of the warm-up is zero
        state, _ = steps.map_both(state, patches, KEY)
    after = state
    assert not _same(after.transformer, before.transformer)
    assert not _same(after.codes, before.codes)


def test_a_scene_that_enters_is_mapped_from_scratch():
    _, steps, patches = _set_up("observed")
    state = steps.init(KEY, patches)
    for _ in range(2):
        state, _ = steps.map(state, patches, KEY)
    before = jax.tree.map(np.asarray, state)
    entered = np.array([False, True])
    after = steps.renew(_on_device(before), patches, entered, KEY)
    for name in ("codes", "code_image", "codes_optimizer"):
        old, new = getattr(before, name), getattr(after, name)
        assert _same(jax.tree.map(lambda x: x[0], old), jax.tree.map(lambda x: x[0], new))
    assert not np.array_equal(after.codes[1], before.codes[1])
    # Its optimizer knows nothing of the scene that left.
    counts = [x for x in jax.tree.leaves(after.codes_optimizer) if x.ndim == 1]
    moments = [x for x in jax.tree.leaves(after.codes_optimizer) if x.ndim == 3]
    assert counts
    assert all(int(x[0]) == 2 and int(x[1]) == 0 for x in counts)
    assert all(not np.any(x[1]) and np.any(x[0]) for x in moments)
    assert _same(after.transformer, before.transformer)


def test_a_step_in_parts_is_the_same_step():
    config, steps, patches = _set_up("observed")
    # Scenes with different numbers of valid patches: the parts' means are not the mean of means.
    valid = np.random.default_rng(0).random(patches.mask.shape) < 0.7
    patches = patches.replace(mask=jnp.asarray(valid))
    before = jax.tree.map(np.asarray, steps.init(KEY, patches))
    settings = ConfigDict(config.to_dict() | {"parts": 4})
    in_parts = create_steps(settings, create_form(config, world.DIM))
    ends = []
    for some in (steps, in_parts):
        state, mapping = some.map_both(_on_device(before), patches, KEY)
        first = jax.tree.map(np.asarray, (mapping, state.codes, state.transformer_optimizer))
        state, query = some.query(state, patches, KEY)
        ends.append((*first, query, state.transformer_optimizer))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *ends)


def test_a_scenes_code_does_not_feel_the_others():
    config, steps, patches = _set_up("observed")
    other = SceneMesh(2).stack(lambda slot: world.scene(7 * slot, config))  # scene 0 is the same
    codes = [steps.map(steps.init(KEY, some), some, KEY)[0].codes[0] for some in (patches, other)]
    np.testing.assert_allclose(*codes, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_both_forms_learn_to_answer(form):
    config, steps, patches = _set_up(form)
    state = steps.init(KEY, patches)
    start = jax.tree.map(np.asarray, state)
    for i in range(config.steps):
        key = jax.random.fold_in(KEY, i)
        state, _ = steps.map(state, patches, key)
        state, _ = steps.query(state, patches, key)
    start = start.replace(step=np.asarray(state.step))  # the support is the whole scene by then
    trained = start.replace(transformer=jax.tree.map(np.asarray, state.transformer))

    def loss(state):
        """Mean over the same draws: between draws it differs by more than what is learned."""
        draws = [jax.random.fold_in(KEY, 1000 + i) for i in range(20)]
        return np.mean([float(steps.query(_on_device(state), patches, key)[1]) for key in draws])

    # Seeds 0 to 3: 0.56 to 0.75 of what it was (observed), 0.17 to 0.48 (random).
    assert loss(trained) < 0.93 * loss(start)  # 1 without learning


def test_targets_of_context_are_of_one_image():
    config, _, patches = _set_up("observed")
    few = batches.draw(KEY, patches, slice(4, 8), 16, together=True)
    every = batches.draw(KEY, patches, slice(4, 8), 1000, together=True)
    assert every.mask.shape == (2, config.patches_per_image)
    for targets in (few, every):
        for scene in range(2):
            places = np.asarray(targets.uv[scene]) * world.WIDTH
            apart = np.abs(np.asarray(patches.uv[scene, 4:8])[:, None] - places[:, None])
            same = apart.max(axis=-1) < 1e-3 * world.WIDTH  # (images, targets, patches)
            (image,) = np.flatnonzero(same.any(axis=2).all(axis=1))
            taken = same[image].argmax(axis=1)
            assert len(set(taken)) == len(places)  # all different
            points = np.asarray(patches.xyz[scene, 4 + image, taken])
            np.testing.assert_array_equal(targets.xyz[scene], points)


def test_context_is_trained_with_the_rest():
    config = world.config(steps=50)
    config.transformer = ConfigDict(
        {"dim": 32, "blocks": 2, "tau": 20.0, "steady": True, "context": 4, "dtype": "float32"}
    )
    config.mapping.steps = 0
    steps = create_steps(config, create_form(config, world.DIM))
    patches = SceneMesh(2).stack(lambda slot: world.scene(slot, config))
    patches = patches.replace(mask=patches.mask.at[0, 5].set(False))  # an image without features
    state = steps.init(KEY, patches)
    before = jax.tree.map(np.asarray, state.transformer)
    for i in range(3):
        state, loss = steps.query(state, patches, jax.random.fold_in(KEY, i))
        assert np.isfinite(loss)
    gain = state.transformer["agreement.0"]["support"]
    assert np.isfinite(gain).all()
    assert (gain != before["agreement.0"]["support"]).all()
    twin = steps.init(KEY, patches)
    for i in range(3):
        twin, again = steps.query(twin, patches, jax.random.fold_in(KEY, i))
    assert float(again) == float(loss)


def test_before_training_context_answers_as_untrained_attention_does(monkeypatch):
    monkeypatch.setattr(validation, "find_pose", lambda *_: None)  # not the point here
    config = world.config()
    config.transformer = ConfigDict(
        {"dim": 32, "blocks": 2, "tau": 20.0, "steady": True, "context": 4, "dtype": "float32"}
    )
    form = create_form(config, world.DIM)
    scenes = [world.scene(n, config) for n in range(2)]
    scenes[0].mask[6] = False  # an image without features
    ask = validation.Validator(config, form, scenes)
    transformer = jax.jit(form.init_transformer)(KEY)
    answers, codes = ask(transformer, steps=0), ask.map(transformer, steps=0).codes
    for scene, code in zip(scenes, codes, strict=True):
        rows = jnp.asarray(scene.features[6:8].reshape(-1, world.DIM), jnp.float32)
        keys, bias, points = code[:, : world.DIM], code[:, world.DIM], code[:, -3:]
        same = attend(rows, keys, points, 20.0, bias)
        mine = answers.xyz[0 if scene is scenes[0] else 1].reshape(-1, 3)
        np.testing.assert_allclose(mine, same.xyz, atol=1e-4)


def test_observed_codes_are_patches_of_the_mapping_images():
    config, steps, patches = _set_up("observed")
    state = steps.init(KEY, patches)
    for scene in range(2):
        images = np.asarray(state.code_image[scene])
        for row, image in zip(np.asarray(state.codes[scene]), images, strict=True):
            xyz = np.asarray(patches.xyz[scene, image])
            (patch,) = np.flatnonzero((xyz == row[-3:]).all(axis=1))
            np.testing.assert_array_equal(patches.features[scene, image, patch], row[: world.DIM])
        assert set(images) == set(range(config.views.mapping))
    random_codes = _set_up("random")[1].init(KEY, patches)
    assert abs(float(random_codes.codes.std()) - 0.01) < 1e-3
    assert (np.asarray(random_codes.code_image) < 0).all()


def test_support_grows_from_local_to_global_and_hides_the_own_image():
    config, _, patches = _set_up("observed")
    targets = batches.draw(KEY, patches, slice(0, 4), 30)
    images = jnp.tile(jnp.arange(4), (2, 1))
    shares = [
        float(batches.seen_landmarks(targets, images, reach, hide_own=False).mean())
        for reach in (1, 2, 4)
    ]
    assert shares == [0.25, 0.5, 1.0]
    hidden = batches.seen_landmarks(targets, images, 4, hide_own=True)
    assert (np.asarray(hidden).sum(-1) == 3).all()
    free = batches.seen_landmarks(targets, images - 10, 1, hide_own=True)
    assert free.all()  # rows of a random code are from no image
    assert [int(batches.reach_at(s, 16, 4, 100)) for s in (0, 50, 100, 999)] == [4, 10, 16, 16]
    assert config.views.mapping == 4


def test_padding_carries_no_gradient_and_dropout_keeps_the_mean():
    _, steps, patches = _set_up("observed")
    mask = jnp.asarray(np.random.default_rng(0).random(patches.mask.shape) < 0.5)
    start = jax.tree.map(np.asarray, steps.init(KEY, patches))
    ends = []
    for padding in (0.0, jnp.nan, jnp.inf):
        xyz = jnp.where(mask[..., None], patches.xyz, padding)
        state = _on_device(start)
        for _ in range(2):  # the first rate of the warm-up is zero
            state, loss = steps.query(state, patches.replace(mask=mask, xyz=xyz), KEY)
        ends.append(jax.tree.map(np.asarray, (state, loss)))
    assert not _same(ends[0][0].transformer, start.transformer)
    assert _same(ends[0], ends[1])
    assert _same(ends[0], ends[2])
    targets = batches.draw(KEY, patches, slice(0, 4), 500)
    dropped = batches.drop_features(KEY, targets, 0.25).features
    assert abs(float((dropped == 0).mean()) - 0.25) < 0.02
    sums = [float(jnp.abs(x).sum()) for x in (dropped, targets.features)]
    np.testing.assert_allclose(*sums, rtol=0.05)


def test_student_t_pulls_less_on_a_far_outlier_than_laplace():
    def pull(nll, distance):
        return float(jax.grad(lambda x: nll(jnp.array([[x, 0, 0]]), scale, zero)[0])(distance))

    scale, zero = jnp.array([0.1]), jnp.zeros((1, 3))
    assert pull(losses.student_t_nll, 10.0) < 0.05 * pull(losses.coordinate_nll, 10.0)
    assert pull(losses.student_t_nll, 0.0) == 0.0
    assert np.isfinite(losses.student_t_nll(zero, jnp.zeros(1), zero)).all()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("loss", "l2", "config.loss"),
        ("parts", 3, "config.parts"),
        ("query.targets", "mine", "'mine'"),
        ("code.form", "learned", "config.code.form"),
        ("code.size", 10_000, "config.code.size"),
        ("transformer.dtype", "float8", "float8"),
        ("transformer.depth", 3, "depth"),
        ("transformer.dim", 8, "need as many"),
        ("transformer.context", 4, r"config\.parts to 1"),
    ],
)
def test_mistakes_in_the_configuration_are_told(path, value, words):
    config = world.config()
    *outer, last = path.split(".")
    place = config
    for name in outer:
        place = place[name]
    with place.unlocked():
        place[last] = value
    if last == "context":
        config.parts = 2
    with pytest.raises(UserError, match=words):
        create_steps(config, create_form(config, world.DIM))


def test_scenes_must_be_spread_evenly():
    with pytest.raises(UserError, match="multiple of 2"):
        SceneMesh(3, jax.devices() * 2)
