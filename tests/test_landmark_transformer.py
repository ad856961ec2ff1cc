import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ace_jax.models import landmark_attention, landmark_transformer
from ace_jax.models.landmark_transformer import EXTRA, LandmarkTransformer

DIM, LANDMARKS = 16, 40
attend = jax.jit(landmark_attention.attend)
code_of = jax.jit(landmark_transformer.code_of)


def _unit(rng, count):
    x = rng.normal(size=(count, DIM))
    return np.float32(x / np.linalg.norm(x, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    points = np.float32(rng.uniform([28, -2, -2], [32, 2, 2], (LANDMARKS, 3)))
    mask = np.arange(LANDMARKS) < 35
    head = LandmarkTransformer(dim=32, blocks=2, tau=15.0)
    code = np.asarray(code_of(_unit(rng, LANDMARKS), points, mask))
    queries = _unit(rng, 10)
    return head, _initial(head, queries, code), code, queries


def _initial(head, *inputs):
    return jax.tree.map(np.asarray, jax.jit(head.init)(jax.random.key(0), *inputs))


def _with(array, rows, columns, value):
    changed = array.copy()
    changed[rows, columns] = value
    return changed


def test_before_training_it_is_landmark_attention(world):
    head, variables, code, queries = world
    allowed = np.random.default_rng(1).random((10, LANDMARKS)) < 0.6
    for seen in (None, allowed):
        out = _apply(head, variables, queries, code, seen)
        same = attend(queries, code[:, :DIM], code[:, -3:], 15.0, code[:, DIM], seen)
        np.testing.assert_allclose(out.xyz, same.xyz, atol=1e-4)
        np.testing.assert_allclose(out.scale, same.scale, rtol=1e-3, atol=1e-4)


_apply = jax.jit(lambda head, *inputs: head.apply(*inputs), static_argnums=0)


def _trained(variables):
    """Parameters as after some training: nothing is zero any more."""
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda x: x + np.float32(0.1) * rng.normal(size=x.shape), variables)


def test_the_code_is_a_set_and_its_empty_rows_do_nothing(world):
    head, variables, code, queries = world
    variables = _trained(variables)
    out = _apply(head, variables, queries, code)
    order = np.random.default_rng(2).permutation(LANDMARKS)
    np.testing.assert_allclose(
        _apply(head, variables, queries, code[order]).xyz, out.xyz, atol=1e-2
    )
    empty = slice(35, None)
    rubbish = _with(_with(code, empty, slice(-3, None), 1e3), empty, slice(DIM), 5.0)
    np.testing.assert_allclose(_apply(head, variables, queries, rubbish).xyz, out.xyz, atol=1e-2)


def test_a_steady_head_compares_descriptors_as_they_came(world):
    head, variables, code, queries = world
    trained, params = _trained(variables)["params"], dict(variables["params"])
    for name in ("news.0", "mlp.0"):  # what changes a feature's state before the second block
        params[name] = trained[name]
    second = dict(params["attention.1"], per_query=trained["attention.1"]["per_query"])
    params["attention.1"] = second
    plain = _apply(head, variables, queries, code).xyz
    steady = _apply(head.clone(steady=True), {"params": params}, queries, code).xyz
    np.testing.assert_allclose(steady, plain, atol=1e-5)
    assert np.abs(_apply(head, {"params": params}, queries, code).xyz - plain).max() > 0.01


def test_moving_the_scene_moves_the_answers_alone(world):
    head, variables, code, queries = world
    variables = _trained(variables)
    out = _apply(head, variables, queries, code)
    shift = np.r_[np.zeros(DIM + 1), 5.0, 5.0, 5.0].astype(np.float32)
    moved = _apply(head, variables, queries, code + shift)
    np.testing.assert_allclose(moved.xyz, out.xyz + 5.0, atol=2e-3)
    np.testing.assert_allclose(moved.scale, out.scale, rtol=1e-2)


def test_a_query_that_sees_nothing_has_finite_answers_and_gradients(world):
    head, variables, code, queries = world

    def loss(variables, code):
        out = _apply(head, variables, queries, code, np.zeros((10, LANDMARKS), bool))
        return jnp.sum(out.xyz) + jnp.sum(jnp.log(out.scale))

    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(variables, code)
    assert np.isfinite(value)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_bfloat16_operands_give_nearly_the_same(world):
    head, variables, code, queries = world
    exact = _apply(head, variables, queries, code)
    half = _apply(head.clone(dtype=jnp.bfloat16), variables, queries, code)
    assert half.xyz.dtype == jnp.float32
    assert np.median(np.abs(half.xyz - exact.xyz)) < 0.1
    assert code.shape[1] == DIM + EXTRA


# With context.


@pytest.fixture(scope="module")
def context():
    """Features of one image of a wall, each of them as like a wrong landmark as like its own.

    The head, its variables, features, code, their pixels and points.
    """
    rng = np.random.default_rng(0)
    uv = rng.uniform(0.0, 1.0, (30, 2)).astype(np.float32)
    points = np.concatenate([3.0 * uv, np.full((30, 1), 2.0)], axis=1)
    queries = _unit(rng, 30)
    wrong = points[rng.permutation(30)] + rng.normal(size=(30, 3))
    code = code_of(
        np.tile(queries, (2, 1)),
        np.concatenate([points, wrong]).astype(np.float32),
        np.ones(60, bool),
    )
    head = LandmarkTransformer(dim=16, blocks=3, tau=60.0, steady=True, context=6, candidates=4)
    code = np.asarray(code)
    return head, _initial(head, queries[:1], code), queries, code, uv, points


def test_context_changes_nothing_before_training(context):
    head, variables, queries, code, uv, _ = context
    mask = np.arange(30) < 25
    out = _apply(head, variables, queries, code, None, uv, mask)
    same = attend(queries, code[:, :DIM], code[:, -3:], 60.0, code[:, DIM])
    np.testing.assert_allclose(out.xyz, same.xyz, atol=1e-4)
    np.testing.assert_allclose(out.scale, same.scale, rtol=1e-3, atol=1e-4)
    # Features fewer than neighbours are asked for.
    alone = _apply(head, variables, queries[:2], code, None, uv[:2], mask[:2])
    np.testing.assert_allclose(alone.xyz, same.xyz[:2], atol=1e-4)


def test_neighbours_decide_between_landmarks_that_look_alike(context):
    head, variables, queries, code, uv, points = context

    def error(support, mask=None):
        params = jax.tree_util.tree_map_with_path(
            lambda path, x: x + support if path[-1].key == "support" else x, variables
        )
        mask = np.ones(30, bool) if mask is None else mask
        out = _apply(head, params, queries, code, None, uv, mask)
        return np.linalg.norm(out.xyz - points, axis=1)

    assert np.median(error(0.0)) > 0.5
    assert np.median(error(0.3)) < 0.1
    np.testing.assert_allclose(error(0.3, np.zeros(30, bool)), error(0.0), atol=1e-4)


def test_context_hears_no_padding_and_does_not_depend_on_axes(context):
    head, variables, queries, code, uv, _ = context
    variables = _trained(variables)
    mask = np.arange(30) < 24
    out = _apply(head, variables, queries, code, None, uv, mask)
    every, padding = slice(None), slice(24, None)
    rubbish = _with(queries, padding, every, 0.0), _with(uv, padding, every, 0.5)
    other = _apply(head, variables, rubbish[0], code, None, rubbish[1], mask)
    np.testing.assert_allclose(other.xyz[:24], out.xyz[:24], atol=1e-4)
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]

    def motion(xyz):
        return np.float32(xyz @ turn.T + [1.0, -2.0, 0.5])

    moved = _with(code, every, slice(-3, None), motion(code[:, -3:]))
    there = _apply(head, variables, queries, moved, None, -uv, mask)  # the camera upside down
    np.testing.assert_allclose(there.xyz[:24], motion(np.asarray(out.xyz))[:24], atol=2e-3)

    def total(variables):
        return _apply(head, variables, queries, code, None, uv, mask).xyz[:24].sum()

    gradients = jax.jit(jax.grad(total))(variables)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))
