"""The map-code transformer against the released head's outputs and gradients."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from repository import GOLDEN

from ace_jax.errors import UserError
from ace_jax.models import map_code_transformer
from ace_jax.models.map_code_transformer import attention
from ace_jax.weights.ace import build_transformer
from ace_jax.weights.torch_reader import read_torch


@functools.cache
def _golden():
    """State, configuration, and inputs and outputs of a small head with a code of its own width."""
    parts = {"state": {}, "io": {}}
    with np.load(GOLDEN / "ace_g_head.npz") as file:
        config = json.loads(str(file["config"]))
        for name in set(file.files) - {"config"}:
            part, _, key = name.partition("/")
            parts[part][key] = file[name]
    return parts["state"], config, parts["io"]


def _tokens(x):
    return x.transpose(0, 2, 3, 1).reshape(-1, x.shape[1])


def _runs_as_upstream(head, variables, values):
    """Compares the outputs; returns the head as a function of the code, and the code."""
    variables["scene"]["mean"] = jnp.asarray(values["mean"])
    run = jax.jit(lambda code: head.apply(variables, _tokens(values["patch_embeddings"]), code))
    code = jnp.asarray(values["map_embeddings"])
    out = run(code)
    np.testing.assert_allclose(out.xyz, _tokens(values["scene_coordinates"]), atol=2e-5)
    np.testing.assert_allclose(out.scale, _tokens(values["uncertainties"])[:, 0], rtol=2e-5)
    return run, code


def test_equals_upstream():
    state, config, values = _golden()
    run, code = _runs_as_upstream(*build_transformer(state, config), values)

    def weighted(code):
        out = run(code)
        return jnp.sum(out.xyz * _tokens(values["cotangent_sc"])) + jnp.sum(
            out.scale * _tokens(values["cotangent_unc"])[:, 0]
        )

    gradient = jax.jit(jax.grad(weighted))(code)
    expected = values["grad_map_embeddings"]
    np.testing.assert_allclose(gradient, expected, atol=1e-4 * np.abs(expected).max())


def test_equals_upstream_with_a_code_as_wide_as_the_features(shared_dir):
    state = dict(read_torch(shared_dir / "golden/ace_g/tiny_head_same_dim.pt"))
    config = state.pop("_extra_state")["_head_config_dict"]
    values = np.load(shared_dir / "golden/ace_g/head_same_dim_io.npz")
    _runs_as_upstream(*build_transformer(state, config), values)


def test_decode_equals_upstream_at_extremes():
    state, config, values = _golden()
    raw = values["decode_in"][0, :, 0].T
    rounded = build_transformer(state, config)[0].decode
    exact = map_code_transformer.HomogeneousDecode()
    for decode, key in ((rounded, "decode_sc"), (exact, "decode32_sc")):
        expected = values[key][0, :, 0].T
        np.testing.assert_allclose(decode(raw, values["mean"]), expected, rtol=1e-5, atol=1e-5)


def test_code_is_a_set_and_features_are_independent():
    head, variables = build_transformer(*_golden()[:2])
    features = np.random.default_rng(1).normal(size=(6, 96)).astype(np.float32)
    code = head.init_code(jax.random.key(2), 20) * 50
    apply = jax.jit(head.apply)
    out = apply(variables, features, code)
    turned = apply(variables, features[::-1], jnp.roll(code, 7, axis=0))
    np.testing.assert_allclose(turned.xyz[::-1], out.xyz, atol=1e-5)


def test_blocked_attention_equals_one_block(monkeypatch):
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(n, 16)).astype(np.float32) for n in (70, 30, 30))

    def found():
        def total(k):
            out = attention(q, k, v, 4)
            return jnp.sum(out**2), out

        return jax.jit(jax.grad(total, has_aux=True))(k)

    gradient, whole = found()
    monkeypatch.setattr(map_code_transformer, "_QUERY_BLOCK", 32)
    blocked_gradient, blocked = found()
    np.testing.assert_allclose(blocked, whole, atol=1e-6)
    np.testing.assert_allclose(blocked_gradient, gradient, atol=1e-5)


def test_another_kind_of_head_is_refused():
    state, config, _ = _golden()
    with pytest.raises(UserError, match="use_uncertainty"):
        build_transformer(state, config | {"use_uncertainty": False})
    with pytest.raises(UserError, match=r"transformer_blocks\.2"):
        build_transformer(state, config | {"num_blocks": 3})
    with pytest.raises(UserError, match=r"unexpected transformer_blocks\.1"):
        build_transformer(state, config | {"num_blocks": 1})
