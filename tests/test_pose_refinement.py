"""Refinement: Jacobians against autodiff, convergence, losses, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from precision import double_precision

from ace_jax.geometry import pose_refinement, robust_loss, se3
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.pose_refinement import Observations, refine_pose

CAMERA = Camera(500.0, 480.0, 320.0, 240.0, 640, 480)
N = 100
exp = jax.jit(se3.exp)
LOSSES = (
    robust_loss.squared,
    robust_loss.huber,
    robust_loss.cauchy,
    robust_loss.geman_mcclure,
    robust_loss.tukey,
    robust_loss.truncated,
)


def problem(seed: int, sigma: float = 1.0, outliers: int = 0):
    """camera_from_world (4, 4) and `Observations` with depth on every second point."""
    rng = np.random.default_rng(seed)
    pose = np.asarray(exp(jnp.asarray(rng.normal(size=6), jnp.float32)))
    uv = rng.uniform([0, 0], [640, 480], size=(N, 2))
    depth = rng.uniform(1, 5, N)
    ray = np.concatenate([(uv - [320, 240]) / [500, 480], np.ones((N, 1))], axis=1)
    points = (ray * depth[:, None] - pose[:3, 3]) @ pose[:3, :3]
    uv = uv + sigma * rng.normal(size=uv.shape)
    uv[:outliers] = rng.uniform([0, 0], [640, 480], size=(outliers, 2))
    inverse_depth = np.where(np.arange(N) % 2, 1 / depth, 0.0) + 0.0
    weights = rng.uniform(0.5, 1.5, N)
    arrays = (np.asarray(x, np.float32) for x in (points.T, uv.T, weights, inverse_depth))
    return pose, Observations(*arrays)


@jax.jit
def refine(pose, observations, loss_scale=3.0, num_steps=15):
    return refine_pose(
        pose, observations, CAMERA, 1.0, 0.01, loss_scale, robust_loss.tukey, num_steps
    )


def test_normal_equations_agree_with_autodiff():
    """J^T W J from the analytic Jacobian against `jacfwd` of the residuals, least squares."""
    pose, observations = problem(0)
    with double_precision(True):
        pose = jnp.asarray(pose, jnp.float64)
        observations = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), observations)

        def residuals(tangent):
            moved = se3.transform(se3.exp(tangent) @ pose, observations.points_3d.T)
            uv = moved[:, :2] / moved[:, 2:] * jnp.array([500.0, 480.0]) + jnp.array([320.0, 240.0])
            pixel = (uv - observations.points_2d.T) / 2.0
            known = observations.inverse_depth > 0
            depth = jnp.where(known, (1 / moved[:, 2] - observations.inverse_depth) / 0.01, 0.0)
            root = jnp.sqrt(observations.weights)
            return jnp.concatenate([(root[:, None] * pixel).ravel(), root * depth])

        @jax.jit
        def both(pose, tangent):
            normal, cost = pose_refinement._normal_equations(
                pose[:3], observations, CAMERA, 2.0, 0.01, 1.0, robust_loss.squared
            )
            return normal, cost, jax.jacfwd(residuals)(tangent), residuals(tangent)

        normal, cost, jacobian, residual = both(pose, jnp.zeros(6))
        stacked = np.concatenate([jacobian, residual[:, None]], axis=1)
        np.testing.assert_allclose(normal, stacked.T @ stacked, rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(cost, np.sum(residual**2), rtol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_weight_is_the_derivative(loss):
    s = jnp.array([0.0, 0.3, 0.9, 1.2, 7.0])
    derivative = jax.vmap(jax.grad(lambda x: loss(x)[0]))(s)
    np.testing.assert_allclose(derivative, loss(s)[1], rtol=1e-5, atol=1e-6)


def test_converges_from_a_rough_pose_despite_outliers():
    for seed in range(10):
        pose, observations = problem(seed, outliers=20)
        start = exp(0.01 * jax.random.normal(jax.random.key(seed), (6,))) @ pose
        result = refine(start, observations, 10.0)
        assert result.success
        error = se3.log(pose @ se3.inverse(result.camera_from_world))
        assert np.max(np.abs(error)) < 0.01
        rotation = np.asarray(result.camera_from_world)[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)


def test_exact_data_give_the_exact_pose():
    pose, observations = problem(3, sigma=0.0)
    start = exp(jnp.full(6, 0.02)) @ pose
    result = refine(start, observations, 100.0)
    np.testing.assert_allclose(result.camera_from_world, pose, atol=3e-6)


def test_cost_never_rises():
    pose, observations = problem(4, outliers=20)
    start = exp(jnp.full(6, 0.02)) @ pose
    costs = [float(refine(start, observations, 10.0, steps).cost) for steps in range(12)]
    assert np.all(np.diff(costs) <= 1e-5 * costs[0])
    assert costs[-1] < 0.8 * costs[0]


def test_nothing_to_refine_leaves_the_pose():
    pose, observations = problem(5)
    nothing = observations.replace(weights=np.zeros(N, np.float32))
    result = refine(pose, nothing)
    np.testing.assert_allclose(result.camera_from_world, pose, atol=1e-6)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result))
    behind = se3.from_rotation_translation(jnp.eye(3), jnp.array([0.0, 0.0, -1e3])) @ pose
    result = refine(behind, observations)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result))


def test_not_finite_initial_pose_is_flagged():
    _, observations = problem(5)
    assert not refine(np.full((4, 4), np.nan, np.float32), observations).success


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_does_not_vote(value):
    pose, observations = problem(7, sigma=0.5)
    start = exp(jnp.full(6, 0.02)) @ pose
    bad = {"points_3d": (1, 3), "points_2d": (0, 8), "weights": (14,), "inverse_depth": (21,)}
    arrays = {name: np.array(getattr(observations, name)) for name in bad}
    kept = {name: np.array(array) for name, array in arrays.items()}
    for name, position in bad.items():
        arrays[name][position] = value
    kept["weights"][[3, 8, 14]] = 0.0
    kept["inverse_depth"][21] = 0.0
    result = refine(start, Observations(**arrays), 50.0)
    assert result.success
    expected = refine(start, Observations(**kept), 50.0)
    np.testing.assert_allclose(result.camera_from_world, expected.camera_from_world, atol=1e-6)
    error, before = (np.max(np.abs(x - pose)) for x in (result.camera_from_world, start))
    assert error < 0.5 * before


def test_covariance_inverts_the_information_and_flags_singular_ones():
    rng = np.random.default_rng(0)
    scale = np.diag([1e3, 1e3, 1e2, 1.0, 1.0, 10.0])
    factor = rng.normal(size=(6, 20))
    information = (scale @ factor @ factor.T @ scale).astype(np.float32)
    covariance, success = jax.jit(pose_refinement.covariance_from_information)(information)
    assert success
    np.testing.assert_allclose(covariance @ information, np.eye(6), atol=5e-3)
    information[2] = information[:, 2] = 0.0
    covariance, success = jax.jit(pose_refinement.covariance_from_information)(information)
    assert not success
    np.testing.assert_array_equal(covariance, np.zeros((6, 6)))


def test_gradient_is_that_of_the_optimum():
    pose, observations = problem(6)
    direction = np.random.default_rng(0).normal(size=(2, N)).astype(np.float32)

    @jax.jit
    def along(step):
        moved = observations.replace(points_2d=observations.points_2d + step * direction)
        return jnp.sum(jnp.sin(refine(pose, moved).camera_from_world))

    _, analytic = jax.jvp(along, (0.0,), (1.0,))
    np.testing.assert_allclose(analytic, (along(0.1) - along(-0.1)) / 0.2, rtol=0.05)
