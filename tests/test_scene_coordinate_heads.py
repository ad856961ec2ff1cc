"""The heads against upstream's values, and what every head promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from repository import GOLDEN

from ace_jax.errors import UserError
from ace_jax.models.scene_coordinate_heads import HEADS, create_head
from ace_jax.models.scene_coordinates import HomogeneousDecode, SceneCoordinates
from ace_jax.weights.ace import build_head

KEY = jax.random.key(0)


def _ace():
    """Upstream's state dict, features (N, 64) and coordinates (N, 3)."""
    with np.load(GOLDEN / "ace_head.npz") as file:
        state = {name[6:]: file[name] for name in file.files if name.startswith("state/")}
        return state, file["features"], file["scene_coordinates"]


def test_homogeneous_mlp_equals_upstream():
    state, features, expected = _ace()
    head, variables = build_head(state, {})
    out = jax.jit(head.apply)(variables, features)
    np.testing.assert_allclose(out.xyz, expected, atol=1e-5)
    assert (out.scale == 1).all()


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "other"])
def test_ace_head_is_loaded_strictly(change):
    state, *_ = _ace()
    if change == "missing":
        del state["0c1.bias"]
    elif change == "unexpected":
        state["1x.weight"] = state["fc2.weight"]
    elif change == "shape":
        state["fc3.weight"] = state["fc3.weight"][:3]
    else:
        state = {"conv1.weight": state["fc2.weight"]}
    with pytest.raises(UserError, match="not those of an ACE head"):
        build_head(state, {})


def test_decode_is_one_at_zero_and_bounded():
    decode = HomogeneousDecode()
    raw = np.float32([[1.0, 2, 3, 0], [1, 2, 3, -1e4], [1, 2, 3, 1e4]])
    mean = np.float32([10.0, 0, 0])

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient(raw):
        xyz = decode(raw, mean)
        return xyz.sum(), xyz

    slope, xyz = gradient(raw)
    xyz = xyz - mean
    np.testing.assert_allclose(xyz[:, 2], [3, 12, 0.03], rtol=1e-4)
    assert np.isfinite(slope).all()


OPTIONS = {
    "homogeneous_mlp": {"width": 32},
    "tri_mlp": {"width": 32, "layers": 2, "cells": 8},
    "landmark_attention": {"landmarks": 50, "dim": 16},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_head_fits_points_and_keeps_finite_gradients(name):
    head = create_head(name, **OPTIONS[name])
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 16))
    features = np.float32(features / np.linalg.norm(features, axis=1, keepdims=True))
    points = np.float32(rng.uniform(-2, 2, (50, 3)))
    variables = jax.jit(head.init)(KEY, features)
    if name == "landmark_attention":
        params = variables["params"]
        params["descriptors"], params["bias"] = features, np.zeros(50, np.float32)
    scene = {k: v for k, v in variables.items() if k != "params"}
    optimizer = optax.adam(1e-2)

    def loss(params):
        out = head.apply({"params": params, **scene}, features)
        return jnp.abs(out.xyz - points).mean(), out

    @jax.jit
    def step(params, state):
        (value, out), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value, gradient, out

    params, state = variables["params"], jax.jit(optimizer.init)(variables["params"])
    params, state, first, gradient, _ = step(params, state)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    for _ in range(150):
        params, state, last, _, out = step(params, state)
    assert isinstance(out, SceneCoordinates)
    assert out.xyz.shape == (50, 3)
    assert out.scale.shape == (50,)
    assert (np.asarray(out.scale) > 0).all()
    assert last < 0.35 * first


def test_tri_mlp_stays_in_the_scene_and_reports_its_spread():
    head = create_head("tri_mlp", width=16, layers=1, cells=4)
    features = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    variables, apply = jax.jit(head.init)(KEY, features), jax.jit(head.apply)
    lower, upper = np.float32([0, 10, -5]), np.float32([2, 11, 5])
    variables["scene"] = {"lower": lower, "upper": upper}
    out = apply(variables, features * 1e3)
    assert (np.asarray(out.xyz) >= lower).all()
    assert (np.asarray(out.xyz) <= upper).all()
    # Zero logits: uniform over cells, so the spread is that of four cell centres per axis.
    zero = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variables["params"])
    out = apply({"params": zero, "scene": variables["scene"]}, features)
    np.testing.assert_allclose(out.xyz, np.broadcast_to((lower + upper) / 2, (200, 3)), rtol=1e-5)
    expected = np.sqrt(np.sum((np.array([2, 1, 10]) / 4) ** 2) * 1.25)
    np.testing.assert_allclose(out.scale, expected, rtol=1e-3)


def test_create_head_names_what_exists():
    with pytest.raises(UserError, match="landmark_attention"):
        create_head("nerf")
    with pytest.raises(UserError, match="widht"):
        create_head("tri_mlp", widht=3)
    assert set(OPTIONS) < set(HEADS)
