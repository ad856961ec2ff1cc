"""Refinement: Jacobians against autodiff, convergence, losses, gating, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data_scene import rotation
from precision import double_precision

from ace_jax.geometry import robust_loss, se3
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import unproject_to_world
from ace_jax.geometry.pose_refinement import (
    covariance_from_information,
    normal_equations,
    refine_pose,
    refine_pose_with_gating,
)
from ace_jax.geometry.reprojection import (
    NoiseModel,
    Observations,
    chi_square_inliers,
    inverse_of,
    residuals_of,
)
from ace_jax.geometry.rigid import difference

CAMERA = Camera(500.0, 480.0, 320.0, 240.0, 640, 480)
N = 100
exp, log = (jax.jit(f) for f in (se3.exp, se3.log))
LOSSES = (
    robust_loss.squared,
    robust_loss.huber,
    robust_loss.cauchy,
    robust_loss.tukey,
    robust_loss.truncated,
)


def problem(seed: int, sigma: float = 1.0, outliers: int = 0):
    """camera_from_world (4, 4) and `Observations` with depth on every second point."""
    rng = np.random.default_rng(seed)
    pose = np.asarray(exp(rng.normal(size=6).astype(np.float32)))
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


_normal = jax.jit(lambda seed: jax.random.normal(jax.random.key(seed), (6,)))


def _beside(pose: np.ndarray, twist: np.ndarray) -> np.ndarray:
    return np.asarray(exp(np.float32(twist))) @ pose


@jax.jit
def refine(pose, observations, loss_scale=3.0, num_steps=15):
    return refine_pose(
        pose, observations, CAMERA, NoiseModel(1.0, 0.01), loss_scale, robust_loss.tukey, num_steps
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
            noise = NoiseModel(2.0, 0.01)
            normal, cost = normal_equations(
                pose, observations, CAMERA, noise, 1.0, robust_loss.squared
            )
            return normal, cost, jax.jacfwd(residuals)(tangent), residuals(tangent)

        normal, cost, jacobian, residual = both(pose, jnp.zeros(6))
        stacked = np.concatenate([jacobian, residual[:, None]], axis=1)
        np.testing.assert_allclose(normal, stacked.T @ stacked, rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(cost, np.sum(residual**2), rtol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_weight_is_the_derivative(loss):
    s = np.float32([0.0, 0.3, 0.9, 1.2, 7.0])
    derivative, weight = jax.jit(
        lambda s: (jax.vmap(jax.grad(lambda x: loss(x)[0]))(s), loss(s)[1])
    )(s)
    np.testing.assert_allclose(derivative, weight, rtol=1e-5, atol=1e-6)


def test_converges_from_a_rough_pose_despite_outliers():
    for seed in range(10):
        pose, observations = problem(seed, outliers=20)
        start = _beside(pose, 0.01 * _normal(seed))
        result = refine(start, observations, 10.0)
        assert result.success
        error = log(np.float32(pose @ np.linalg.inv(result.camera_from_world)))
        assert np.max(np.abs(error)) < 0.01
        rotation = np.asarray(result.camera_from_world)[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)


def test_exact_data_give_the_exact_pose():
    pose, observations = problem(3, sigma=0.0)
    start = _beside(pose, np.full(6, 0.02))
    result = refine(start, observations, 100.0)
    np.testing.assert_allclose(result.camera_from_world, pose, atol=3e-6)


def test_cost_never_rises():
    pose, observations = problem(4, outliers=20)
    start = _beside(pose, np.full(6, 0.02))
    costs = [float(refine(start, observations, 10.0, steps).cost) for steps in range(12)]
    assert np.all(np.diff(costs) <= 1e-5 * costs[0])
    assert costs[-1] < 0.8 * costs[0]


def test_nothing_to_refine_leaves_the_pose():
    pose, observations = problem(5)
    nothing = observations.replace(weights=np.zeros(N, np.float32))
    result = refine(pose, nothing)
    np.testing.assert_allclose(result.camera_from_world, pose, atol=1e-6)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result))
    behind = pose.copy()
    behind[2, 3] -= 1e3
    result = refine(behind, observations)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(result))


def test_not_finite_initial_pose_is_flagged():
    _, observations = problem(5)
    assert not refine(np.full((4, 4), np.nan, np.float32), observations).success


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_does_not_vote(value):
    pose, observations = problem(7, sigma=0.5)
    start = _beside(pose, np.full(6, 0.02))
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
    covariance, success = jax.jit(covariance_from_information)(information)
    assert success
    np.testing.assert_allclose(covariance @ information, np.eye(6), atol=5e-3)
    information[2] = information[:, 2] = 0.0
    covariance, success = jax.jit(covariance_from_information)(information)
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


NOISE = NoiseModel(pixel_sigma=1.5, inverse_depth_sigma=0.0375)
COUNT = 200
gate = jax.jit(refine_pose_with_gating)


def _motion(rng: np.random.Generator, angle: float, distance: float) -> np.ndarray:
    turn, shift = (x / np.linalg.norm(x) for x in rng.normal(size=(2, 3)))
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = rotation(turn * angle), shift * distance
    return motion


def _problem(seed: int, with_depth: bool, outliers: float = 0.0, noise: float = 1.0):
    """True pose, points, uv, depth and which observations are true."""
    rng = np.random.default_rng(seed)
    pose = _motion(rng, 0.5, 1.0)
    uv = rng.uniform([0, 0], [640, 480], (COUNT, 2))
    z = rng.uniform(0.8, 4.0, COUNT)
    points = unproject_to_world(uv, z, CAMERA, pose)
    uv = uv + noise * rng.normal(size=uv.shape)
    inverse_depth = 1 / z + noise * 0.01 * rng.normal(size=COUNT)
    depth = np.where(rng.random(COUNT) < 0.8, 1 / inverse_depth, 0.0) * with_depth
    good = np.arange(COUNT) >= outliers * COUNT
    wrong = rng.uniform(15, 60, (COUNT, 2)) * rng.choice((-1, 1), (COUNT, 2))
    uv[~good] += wrong[~good]
    return pose, *(np.float32(a) for a in (points, uv, depth)), good


def _errors(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Metres between the centres, degrees between the axes."""
    metres, radians = difference(found, true)
    return metres, np.degrees(radians)


@pytest.mark.parametrize("with_depth", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_finds_the_pose_among_40_percent_outliers(seed, with_depth):
    true, points, uv, depth, good = _problem(seed, with_depth, outliers=0.4)
    start = _motion(np.random.default_rng(seed + 100), 0.03, 0.04) @ true
    mask = np.ones(COUNT, bool)
    pose, inliers = gate(np.float32(start), points, uv, depth, mask, CAMERA, NOISE)
    metres, degrees = _errors(pose, true)
    assert metres < 0.006
    assert degrees < 0.15
    inliers = np.asarray(inliers)
    assert not inliers[~good].any()
    assert inliers[good].mean() > 0.9


def test_depth_counts():
    """A camera moved along its axis: depth alone tells so, if the pixels are few and central."""
    true, points, uv, depth, _ = _problem(3, True, noise=0.0)
    wrong = np.float32(1 / (1 / np.maximum(depth, 0.1) + 0.1)) * (depth > 0)
    mask = np.ones(COUNT, bool)
    pose, inliers = gate(np.float32(true), points, uv, wrong, mask, CAMERA, NOISE)
    # Off by 2.7 sigma: within the gate of 2.8, so it pulls, but only weakly against the pixels.
    assert 1e-4 < _errors(pose, true)[0] < 0.05
    far_off = np.float32(np.where(depth > 0, 8.0, 0.0))
    _, inliers = gate(np.float32(true), points, uv, far_off, mask, CAMERA, NOISE)
    assert np.asarray(inliers)[depth == 0].mean() > 0.9
    assert np.asarray(inliers)[(depth > 0) & (depth < 3.0)].mean() < 0.1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_masked_entries_have_no_say_whatever_they_hold(bad):
    true, points, uv, depth, good = _problem(2, True, outliers=0.3)
    start = np.float32(_motion(np.random.default_rng(5), 0.03, 0.04) @ true)
    clean, clean_inliers = gate(start, points, uv, depth, good, CAMERA, NOISE)
    for array in (uv, depth, points):
        array[~good] = bad
    pose, inliers = gate(start, points, uv, depth, good, CAMERA, NOISE)
    np.testing.assert_allclose(pose, clean, atol=1e-6)
    np.testing.assert_array_equal(inliers, clean_inliers)
    without, _ = gate(start, points, uv, np.zeros_like(depth), good, CAMERA, NOISE)
    pose, _ = gate(start, points, uv, np.full_like(depth, bad), good, CAMERA, NOISE)  # is no depth
    np.testing.assert_allclose(pose, without, atol=1e-6)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p, uv, d, m: (p, uv, d, m & False),
        lambda p, uv, d, m: (p * np.nan, uv, d, m),
        lambda p, uv, d, m: (p, uv * np.nan, d, m),
        lambda p, uv, d, m: (np.full_like(p, p[0]), uv, d, m),  # one point for all
        lambda p, uv, d, m: (p, np.full_like(uv, 300.0), d, m),
        lambda p, uv, d, m: (p - 100 * np.float32([0, 0, 1]), uv, d, m),  # all behind
        lambda p, uv, d, m: (p, uv, d, np.arange(COUNT) < 1),
        lambda p, uv, d, m: (p, uv, np.full_like(d, 65.535), m),
    ],
)
def test_hopeless_input_gives_a_finite_pose(spoil):
    _, points, uv, depth, _ = _problem(0, True)
    points, uv, depth, mask = spoil(points, uv, depth, np.ones(COUNT, bool))
    pose, inliers = gate(np.eye(4, dtype=np.float32), points, uv, depth, mask, CAMERA, NOISE)
    assert np.isfinite(pose).all()
    assert np.asarray(inliers).sum() <= mask.sum()
    np.testing.assert_allclose(np.linalg.det(np.asarray(pose)[:3, :3]), 1.0, atol=1e-3)


def test_gates_are_chi_square():
    points = np.float32([[0, 0, 2.0]] * 5 + [[0, 0, -2.0]])
    sigmas = np.float32([0, 2.4, 2.5, 0, 0, 0])
    uv = np.float32([CAMERA.cx, CAMERA.cy]) + np.stack([sigmas * 1.5, 0 * sigmas], 1)
    inverse = 0.5 + np.float32([0, 0, 0, 2.7, 2.9, 0]) * 0.0375
    depth = np.where([True, False, False, True, True, True], 1 / inverse, 0).astype(np.float32)
    residuals = residuals_of(
        np.eye(4, dtype=np.float32), points.T, uv.T, inverse_of(depth), CAMERA, NOISE
    )
    found = chi_square_inliers(residuals, np.ones(6, bool))
    np.testing.assert_array_equal(found, [True, True, False, True, False, False])
