"""Kabsch and RANSAC-Kabsch: recovery, masks, degenerate input, gradients, determinism."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ace_jax.geometry import se3
from ace_jax.geometry.kabsch import kabsch
from ace_jax.geometry.ransac_kabsch import estimate_rigid_transform

solve = jax.jit(estimate_rigid_transform)


def problem(seed: int, count: int = 200, outliers: float = 0.5, sigma: float = 0.01):
    rng = np.random.default_rng(seed)
    b_from_a = np.asarray(se3.exp(jnp.asarray(rng.normal(size=6), jnp.float32)))
    a = (1.5 * rng.normal(size=(count, 3))).astype(np.float32)
    b = np.array(se3.transform(b_from_a, a)) + sigma * rng.normal(size=a.shape)
    wrong = np.arange(count) < outliers * count
    b[wrong] = 1.5 * rng.normal(size=(wrong.sum(), 3))
    return b_from_a, a, b.astype(np.float32), ~wrong


def test_kabsch_recovers_motion_with_weights():
    b_from_a, a, b, good = problem(0, sigma=0.0)
    estimate, success = kabsch(a, b, jnp.asarray(good, jnp.float32))
    assert success
    np.testing.assert_allclose(estimate, b_from_a, atol=2e-6)


def test_kabsch_ignores_nan_of_weight_zero():
    b_from_a, a, b, good = problem(0, sigma=0.0)
    a[~good] = np.nan
    estimate, success = kabsch(a, b, jnp.asarray(good, jnp.float32))
    assert success
    np.testing.assert_allclose(estimate, b_from_a, atol=2e-6)


LINE = np.outer(np.arange(6.0), [1.0, -2.0, 0.5])
DEGENERATE = {
    "coincident": np.full((6, 3), 2.0),
    "collinear": LINE,
    "collinear, far away": LINE + 5.0,
    "two points": np.where(np.arange(6)[:, None] < 3, 0.0, 1.0) * np.ones(3),
    "zero": np.zeros((6, 3)),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_kabsch_flags_degenerate_points(name):
    points = jnp.asarray(DEGENERATE[name], jnp.float32)
    motion, success = kabsch(points, points)
    assert not success
    np.testing.assert_array_equal(motion, np.eye(4))
    gradient = jax.grad(lambda p: jnp.sum(kabsch(p, points)[0] ** 2))(points)
    assert np.all(np.isfinite(gradient))


def test_kabsch_gradient_agrees_with_finite_differences():
    _, a, b, _ = problem(1, count=8, outliers=0.0)
    with jax.enable_x64(True):
        a, b = jnp.asarray(a, jnp.float64), jnp.asarray(b, jnp.float64)
        loss = lambda p: jnp.sum(jnp.sin(kabsch(a, p)[0]))  # noqa: E731
        gradient = jax.grad(loss)(b)
        step = 1e-6
        direction = jnp.asarray(np.random.default_rng(0).normal(size=b.shape))
        numeric = (loss(b + step * direction) - loss(b - step * direction)) / (2 * step)
        np.testing.assert_allclose(jnp.sum(gradient * direction), numeric, rtol=1e-6)


@pytest.mark.parametrize("outliers", [0.1, 0.5, 0.8])
def test_ransac_kabsch_finds_the_motion(outliers):
    for seed in range(10):
        b_from_a, a, b, good = problem(seed, outliers=outliers)
        result = solve(a, b, jax.random.key(seed))
        error = se3.log(b_from_a @ se3.inverse(result.camera_from_world))
        assert result.success
        assert np.max(np.abs(error)) < 0.01
        assert np.sum(result.inliers & good) > 0.8 * np.sum(good)


def test_ransac_kabsch_inliers_are_within_the_threshold():
    _, a, b, _ = problem(3)
    result = solve(a, b, jax.random.key(0), threshold=0.03)
    distance = np.linalg.norm(se3.transform(result.camera_from_world, a) - b, axis=-1)
    assert np.max(distance[result.inliers]) < 0.03
    assert int(result.num_inliers) == np.sum(result.inliers)


def test_ransac_kabsch_same_key_same_bits():
    _, a, b, _ = problem(4)
    first, second = (solve(a, b, jax.random.key(7)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_ransac_kabsch_survives_non_finite_points(value):
    b_from_a, a, b, _ = problem(5, outliers=0.3)
    a[100:120, 1] = value
    b[120:140] = value
    result = solve(a, b, jax.random.key(0))
    assert result.success
    assert not np.any(result.inliers[100:140])
    assert np.max(np.abs(result.camera_from_world - b_from_a)) < 0.02


@pytest.mark.parametrize("name", DEGENERATE)
def test_ransac_kabsch_flags_degenerate_points(name):
    points = jnp.asarray(np.tile(DEGENERATE[name], (5, 1)), jnp.float32)
    result = solve(points, points, jax.random.key(0))
    assert not result.success
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(result))


def test_ransac_kabsch_all_masked():
    _, a, b, _ = problem(6)
    result = solve(a, b, jax.random.key(0), mask=jnp.zeros(len(a), bool))
    assert not result.success
    assert int(result.num_inliers) == 0
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(result))
