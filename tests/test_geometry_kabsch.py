"""Kabsch and RANSAC-Kabsch: recovery, masks, degenerate input, gradients, determinism."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from precision import double_precision

from ace_jax.geometry import se3
from ace_jax.geometry.kabsch import align_from, kabsch
from ace_jax.geometry.ransac_kabsch import depth_threshold, estimate_rigid_transform

N = 200
KEY = jax.random.key(0)
fit = jax.jit(kabsch)
exp, log, inverse = (jax.jit(f) for f in (se3.exp, se3.log, se3.invert))


@jax.jit
@functools.partial(jax.grad, argnums=(0, 1, 4), has_aux=True)
def gradient(a, b, key, mask, weights, prior, threshold, max_hypotheses):
    """Gradients of a function of the pose by points and weights, and the result."""
    result = estimate_rigid_transform(
        a, b, key, mask, weights, prior, threshold, max_hypotheses=max_hypotheses
    )
    return jnp.sum(jnp.sin(result.camera_from_world)), result


def arguments(
    a, b, key=KEY, mask=None, weights=None, prior=None, threshold=0.05, max_hypotheses=20_000
):
    """All arguments, with values that mean "not given": one compilation."""
    return (
        np.asarray(a, np.float32),
        np.asarray(b, np.float32),
        key,
        np.ones(N, bool) if mask is None else mask,
        np.ones(N, np.float32) if weights is None else weights,
        np.full((4, 4), np.nan, np.float32) if prior is None else prior,
        np.broadcast_to(np.float32(threshold), (N,)),
        max_hypotheses,
    )


def solve(*args, **given):
    return gradient(*arguments(*args, **given))[1]


def problem(seed: int, outliers: float = 0.5, sigma: float = 0.01):
    """b_from_a (4, 4), points a and b (N, 3), inliers (N,)."""
    rng = np.random.default_rng(seed)
    b_from_a = np.asarray(exp(jnp.asarray(rng.normal(size=6), jnp.float32)))
    a = (1.5 * rng.normal(size=(N, 3))).astype(np.float32)
    b = np.array(se3.transform(b_from_a, a)) + sigma * rng.normal(size=a.shape)
    wrong = np.arange(N) < round(outliers * N)
    b[wrong] = 1.5 * rng.normal(size=(wrong.sum(), 3))
    return b_from_a, a, b.astype(np.float32), ~wrong


def assert_finite(tree):
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(tree))


def test_kabsch_recovers_motion_with_weights():
    b_from_a, a, b, good = problem(0, sigma=0.0)
    estimate, success = fit(a, b, good.astype(np.float32))
    assert success
    np.testing.assert_allclose(estimate, b_from_a, atol=2e-6)


def test_kabsch_ignores_nan_of_weight_zero():
    b_from_a, a, b, good = problem(0, sigma=0.0)
    a[~good] = np.nan
    estimate, success = fit(a, b, good.astype(np.float32))
    assert success
    np.testing.assert_allclose(estimate, b_from_a, atol=2e-6)


def test_align_from_equals_kabsch():
    b_from_a, a, b, good = problem(1, sigma=0.05)
    weights = good.astype(np.float32)
    start = np.asarray(exp(jnp.array([0.3, 0.1, -0.2, 0.1, 0.1, -0.1])) @ b_from_a)[:3]
    align = jax.jit(align_from)
    for _ in range(3):
        start, success = align(start, a.T, b.T, weights)
    assert success
    np.testing.assert_allclose(start, fit(a, b, weights)[0][:3], atol=2e-6)


LINE = np.outer(np.linspace(0, 5, N), [1.0, -2.0, 0.5])
DEGENERATE = {
    "coincident": np.full((N, 3), 2.0),
    "collinear": LINE,
    "collinear, far away": LINE + 5.0,
    "two points": np.where(np.arange(N)[:, None] % 2, 0.0, 1.0) * np.ones(3),
    "zero": np.zeros((N, 3)),
    "NaN": np.full((N, 3), np.nan),
}
fit_gradient = jax.jit(
    jax.grad(lambda a, b: jnp.sum(jnp.sin(kabsch(a, b, jnp.ones(N))[0])), argnums=(0, 1))
)


@pytest.mark.parametrize("name", DEGENERATE)
def test_kabsch_flags_degenerate_points(name):
    points = DEGENERATE[name].astype(np.float32)
    motion, success = fit(points, points, np.ones(N, np.float32))
    assert not success
    np.testing.assert_array_equal(motion, np.eye(4))
    if name != "NaN":  # a NaN of positive weight is the caller's mistake; the motion is finite
        assert_finite(fit_gradient(points, points))


def test_kabsch_gradient_agrees_with_finite_differences():
    _, a, b, _ = problem(1, outliers=0.0)
    with double_precision(True):
        a, b = jnp.asarray(a, jnp.float64), jnp.asarray(b, jnp.float64)
        loss = lambda b: jnp.sum(jnp.sin(kabsch(a, b, jnp.ones(N))[0]))  # noqa: E731
        value_and_gradient = jax.jit(jax.value_and_grad(loss))
        direction = np.random.default_rng(0).normal(size=b.shape)
        values = [value_and_gradient(b + step * direction)[0] for step in (1e-6, -1e-6)]
        analytic = np.sum(value_and_gradient(b)[1] * direction)
        np.testing.assert_allclose(analytic, (values[0] - values[1]) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("outliers", [0.1, 0.5, 0.8, 0.9])
def test_ransac_kabsch_finds_the_motion(outliers):
    for seed in range(10):
        b_from_a, a, b, good = problem(seed, outliers=outliers)
        result = solve(a, b, jax.random.key(seed))
        error = log(b_from_a @ inverse(result.camera_from_world))
        assert result.success
        assert np.max(np.abs(error)) < 0.02
        assert np.sum(result.inliers & good) > 0.8 * np.sum(good)


def test_ransac_kabsch_inliers_are_within_the_threshold():
    _, a, b, _ = problem(3)
    threshold = np.linspace(0.01, 0.05, N).astype(np.float32)
    result = solve(a, b, threshold=threshold)
    distance = np.linalg.norm(se3.transform(result.camera_from_world, a) - b, axis=-1)
    inliers = np.asarray(result.inliers)
    assert np.all(distance[inliers] < threshold[inliers] + 1e-5)
    assert int(result.num_inliers) == np.sum(inliers)


def test_ransac_kabsch_covariance_is_calibrated():
    squared = []
    for seed in range(60):
        b_from_a, a, b, _ = problem(100 + seed, outliers=0.2)
        result = solve(a, b)
        error = log(b_from_a @ inverse(result.camera_from_world))
        squared.append(error @ np.linalg.solve(result.covariance, error))
    # Chi-squared with 6 degrees of freedom; the mean of 60 has a standard deviation of 0.45.
    assert 4.5 < np.mean(squared) < 7.8


def test_ransac_kabsch_uses_a_good_prior():
    b_from_a, a, b, _ = problem(5, outliers=0.93)
    prior = np.asarray(exp(jnp.full(6, 0.005)) @ b_from_a)
    assert solve(a, b, prior=prior, max_hypotheses=128).success
    assert not solve(a, b, max_hypotheses=128).success


def test_distant_points_weigh_less():
    rng = np.random.default_rng(0)
    errors = {"constant": [], "growing": []}
    for seed in range(20):
        b_from_a, a, b, _ = problem(seed, outliers=0.0, sigma=0.0)
        depth = rng.uniform(0.5, 6.0, N)
        b = b + (0.01 * depth**2)[:, None] * rng.normal(size=b.shape)
        growing = np.asarray(depth_threshold(depth, 0.01))
        for name, threshold in (("constant", float(np.max(growing))), ("growing", growing)):
            result = solve(a, b, threshold=threshold)
            error = log(b_from_a @ inverse(result.camera_from_world))
            errors[name].append(np.sum(np.square(error)))
    assert np.mean(errors["growing"]) < 0.3 * np.mean(errors["constant"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_ransac_kabsch_survives_non_finite_points(value):
    b_from_a, a, b, _ = problem(5, outliers=0.3)
    a[100:120, 1] = value
    b[120:140] = value
    gradients, result = gradient(*arguments(a, b))
    assert result.success
    assert not np.any(result.inliers[100:140])
    assert np.max(np.abs(result.camera_from_world - b_from_a)) < 0.02
    assert_finite(gradients)
    assert np.all(gradients[0][100:140] == 0.0)


@pytest.mark.parametrize("name", [*DEGENERATE, "masked", "two left", "random"])
def test_ransac_kabsch_flags_degenerate_points(name):
    _, a, _, _ = problem(6)
    if name in DEGENERATE:
        args = arguments(DEGENERATE[name], DEGENERATE[name], max_hypotheses=512)
    elif name == "random":
        args = arguments(a, a[::-1], max_hypotheses=512)
    else:
        args = arguments(a, a, mask=np.arange(N) < (2 if name == "two left" else 0))
    gradients, result = gradient(*args)
    assert not result.success
    assert int(result.num_inliers) == 0
    np.testing.assert_array_equal(result.camera_from_world, np.eye(4))
    assert_finite((gradients, result))


def test_ransac_kabsch_gradient_agrees_with_finite_differences():
    _, a, b, good = problem(7, outliers=0.3)
    gradients, _ = gradient(*arguments(a, b))
    direction = np.random.default_rng(0).normal(size=b.shape) * good[:, None]
    values = [
        float(jnp.sum(jnp.sin(solve(a, b + step * direction).camera_from_world)))
        for step in (1e-3, -1e-3)
    ]
    analytic = float(np.sum(np.asarray(gradients[1]) * direction))
    np.testing.assert_allclose(analytic, (values[0] - values[1]) / 2e-3, rtol=0.05)
