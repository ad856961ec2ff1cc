"""Landmark attention: equal to its formula, exact on its own landmarks, quiet about the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ace_jax.models import landmark_attention
from ace_jax.models.landmark_attention import EMPTY, MIN_STD, LandmarkAttention, landmark_variables

attend, nearest = map(jax.jit, (landmark_attention.attend, landmark_attention.nearest))


def _unit(seed, shape):
    x = np.random.default_rng(seed).normal(size=shape)
    return np.float32(x / np.linalg.norm(x, axis=-1, keepdims=True))


def _problem(queries=300, landmarks=200):
    q, k = _unit(0, (queries, 32)), _unit(1, (landmarks, 32))
    rng = np.random.default_rng(2)
    v = np.float32(100 + 3 * rng.normal(size=(landmarks, 3)))
    return q, k, v, np.float32(rng.normal(size=landmarks))


def test_equals_the_formula_in_float64():
    q, k, v, bias = (np.asarray(x, np.float64) for x in _problem())
    logits = 20 * q @ k.T + bias
    weights = np.exp(logits - logits.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    expected = weights @ v
    spread = np.einsum("nm,nmd->n", weights, (v[None] - expected[:, None]) ** 2)
    out = attend(*_problem()[:3], 20.0, _problem()[3])
    np.testing.assert_allclose(out.xyz, expected, atol=1e-4)
    np.testing.assert_allclose(out.scale, np.sqrt(spread + MIN_STD**2), rtol=1e-3)


def test_a_sharp_map_returns_its_own_landmarks():
    _, k, v, _ = _problem()
    out = attend(k, k, v, 500.0)
    np.testing.assert_allclose(out.xyz, v, atol=1e-3)
    assert (np.asarray(out.scale) < 0.05).all()


def test_empty_rows_never_vote_even_when_not_finite():
    q, k, v, bias = _problem()
    out = attend(q, k, v, 20.0, bias)
    padded = attend(
        q,
        np.concatenate([k, _unit(5, (56, 32))]),
        np.concatenate([v, np.full((56, 3), 1e6, np.float32)]),
        20.0,
        np.concatenate([bias, np.full(56, EMPTY, np.float32)]),
    )
    np.testing.assert_allclose(padded.xyz, out.xyz, atol=1e-4)
    np.testing.assert_allclose(padded.scale, out.scale, rtol=1e-3)


def test_hidden_landmarks_neither_vote_nor_get_gradient():
    q, k, v, bias = _problem()
    allowed = np.broadcast_to(np.arange(200) >= 100, (300, 200))
    out = attend(q, k, v, 20.0, bias, allowed)
    rest = attend(q, k[100:], v[100:], 20.0, bias[100:])
    np.testing.assert_allclose(out.xyz, rest.xyz, atol=1e-4)
    total = jax.jit(jax.grad(lambda v: attend(q, k, v, 20.0, bias, allowed).xyz.sum()))
    gradient = np.asarray(total(v))
    assert (gradient[:100] == 0).all()
    assert (gradient[100:] != 0).any()


def test_nothing_allowed_is_finite_with_gradients():
    q, k, v, _ = _problem(3, 5)

    @jax.jit
    @jax.value_and_grad
    def total(args, bias):
        out = attend(*args, 40.0, jnp.full(5, bias), np.zeros((3, 5), bool))
        return out.xyz.sum() + out.scale.sum()

    for bias in (EMPTY, 0.0):
        value, gradients = total((q, k, v), bias)
        assert np.isfinite(value)
        assert all(np.isfinite(g).all() for g in gradients)


def test_nearest_equals_argmax_and_skips_empty_rows():
    q, k, _, _ = _problem()
    index, similarity = nearest(q, k)
    np.testing.assert_array_equal(index, np.argmax(q @ k.T, axis=1))
    np.testing.assert_allclose(similarity, (q @ k.T).max(axis=1), rtol=1e-6)
    off = np.zeros(200, np.float32)
    off[np.asarray(index)] = EMPTY
    assert not np.intersect1d(nearest(q, k, off)[0], index).size


def test_head_holds_landmarks_and_room_for_more():
    q, k, v, _ = _problem()
    head = LandmarkAttention(landmarks=256, dim=32)
    variables = landmark_variables(k, v, tau=20.0, landmarks=256)
    expected = jax.eval_shape(head.init, jax.random.key(0), q)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, dict(expected))
    found = jax.jit(head.apply)(variables, q)
    np.testing.assert_allclose(found.xyz, attend(q, k, v, 20.0).xyz, atol=1e-4)
    with pytest.raises(ValueError, match="do not fit"):
        landmark_variables(k, v, 20.0, landmarks=100)
