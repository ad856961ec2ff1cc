"""Motion-only optimisation: planted poses are found, outliers and NaN have no say."""

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
import pytest
from data_scene import rotation

from ace_jax.geometry.camera import Camera
from ace_jax.geometry.pose_optimization import (
    NoiseModel,
    chi_square_inliers,
    optimize_pose,
    pose_rows,
    residuals_of,
)

CAMERA = Camera(525.0, 515.0, 319.5, 239.5, 640, 480)
NOISE = NoiseModel(pixel_sigma=1.5, inverse_depth_sigma=0.0375)
COUNT = 200

optimize = jax.jit(optimize_pose)


def _pose(rng: np.random.Generator, angle: float, distance: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = rotation(_unit(rng.normal(size=3)) * angle)
    pose[:3, 3] = _unit(rng.normal(size=3)) * distance
    return pose


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def _problem(seed: int, with_depth: bool, outliers: float = 0.0, noise: float = 1.0):
    """True pose, points, uv, depth and which observations are true."""
    rng = np.random.default_rng(seed)
    pose = _pose(rng, 0.5, 1.0)
    uv = rng.uniform([0, 0], [640, 480], (COUNT, 2))
    z = rng.uniform(0.8, 4.0, COUNT)
    x = (uv[:, 0] - CAMERA.cx) / CAMERA.fx * z
    y = (uv[:, 1] - CAMERA.cy) / CAMERA.fy * z
    points = (np.stack([x, y, z], 1) - pose[:3, 3]) @ pose[:3, :3]
    uv = uv + noise * rng.normal(size=uv.shape)
    inverse_depth = 1 / z + noise * 0.01 * rng.normal(size=COUNT)
    depth = np.where(rng.random(COUNT) < 0.8, 1 / inverse_depth, 0.0) * with_depth
    good = np.arange(COUNT) >= outliers * COUNT
    wrong = rng.uniform(15, 60, (COUNT, 2)) * rng.choice((-1, 1), (COUNT, 2))
    uv[~good] += wrong[~good]
    return pose, *(np.float32(a) for a in (points, uv, depth)), good


def _errors(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Metres between the centres, degrees between the axes."""
    found = np.asarray(found, np.float64)
    motion = found @ np.linalg.inv(true)
    centres = [-p[:3, :3].T @ p[:3, 3] for p in (found, true)]
    angle = np.arccos(np.clip((np.trace(motion[:3, :3]) - 1) / 2, -1, 1))
    return float(np.linalg.norm(centres[0] - centres[1])), float(np.rad2deg(angle))


@pytest.mark.parametrize("with_depth", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_finds_the_pose_among_40_percent_outliers(seed, with_depth):
    true, points, uv, depth, good = _problem(seed, with_depth, outliers=0.4)
    start = _pose(np.random.default_rng(seed + 100), 0.03, 0.04) @ true
    mask = np.ones(COUNT, bool)
    pose, inliers = optimize(np.float32(start), points, uv, depth, mask, CAMERA, NOISE)
    metres, degrees = _errors(pose, true)
    assert metres < 0.006
    assert degrees < 0.15
    inliers = np.asarray(inliers)
    assert not inliers[~good].any()
    assert inliers[good].mean() > 0.9


def test_exact_without_noise():
    true, points, uv, depth, _ = _problem(7, True, noise=0.0)
    start = _pose(np.random.default_rng(1), 0.05, 0.08) @ true
    mask = np.ones(COUNT, bool)
    pose, inliers = optimize(np.float32(start), points, uv, depth, mask, CAMERA, NOISE)
    metres, degrees = _errors(pose, true)
    assert metres < 2e-5
    assert degrees < 2e-2  # float32 at an arc cosine near 1
    assert np.asarray(inliers).all()


def test_depth_counts():
    """A camera moved along its axis: depth alone tells so, if the pixels are few and central."""
    true, points, uv, depth, _ = _problem(3, True, noise=0.0)
    wrong = np.float32(1 / (1 / np.maximum(depth, 0.1) + 0.1)) * (depth > 0)
    mask = np.ones(COUNT, bool)
    pose, inliers = optimize(np.float32(true), points, uv, wrong, mask, CAMERA, NOISE)
    # Off by 2.7 sigma: within the gate of 2.8, so it pulls, but only weakly against the pixels.
    assert 1e-4 < _errors(pose, true)[0] < 0.05
    far_off = np.float32(np.where(depth > 0, 8.0, 0.0))
    _, inliers = optimize(np.float32(true), points, uv, far_off, mask, CAMERA, NOISE)
    assert np.asarray(inliers)[depth == 0].mean() > 0.9
    assert np.asarray(inliers)[(depth > 0) & (depth < 3.0)].mean() < 0.1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_masked_entries_have_no_say_whatever_they_hold(bad):
    true, points, uv, depth, good = _problem(2, True, outliers=0.3)
    start = np.float32(_pose(np.random.default_rng(5), 0.03, 0.04) @ true)
    clean, clean_inliers = optimize(start, points, uv, depth, good, CAMERA, NOISE)
    for array in (uv, depth, points):
        array[~good] = bad
    pose, inliers = optimize(start, points, uv, depth, good, CAMERA, NOISE)
    np.testing.assert_allclose(pose, clean, atol=1e-6)
    np.testing.assert_array_equal(inliers, clean_inliers)


def test_depth_that_is_not_a_number_is_no_depth():
    true, points, uv, depth, _ = _problem(2, True)
    start = np.float32(_pose(np.random.default_rng(5), 0.03, 0.04) @ true)
    mask = np.ones(COUNT, bool)
    none, _ = optimize(start, points, uv, depth * 0, mask, CAMERA, NOISE)
    pose, _ = optimize(start, points, uv, depth * np.nan, mask, CAMERA, NOISE)
    np.testing.assert_allclose(pose, none, atol=1e-6)


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
    pose, inliers = optimize(np.eye(4, dtype=np.float32), points, uv, depth, mask, CAMERA, NOISE)
    assert np.isfinite(pose).all()
    assert np.asarray(inliers).sum() <= mask.sum()
    np.testing.assert_allclose(np.linalg.det(np.asarray(pose)[:3, :3]), 1.0, atol=1e-3)


def test_rows_are_errors_and_their_derivative():
    true, points, uv, depth, _ = _problem(4, True)
    pose = jnp.float32(true)

    def errors(twist):
        moved = jaxlie.SE3.exp(twist).as_matrix() @ pose
        found = residuals_of(moved, points, uv, depth, CAMERA, NOISE)
        return jnp.concatenate([found.u, found.v, found.w])

    weight = np.linspace(0.0, 2.0, COUNT, dtype=np.float32)
    residuals = residuals_of(pose, points, uv, depth, CAMERA, NOISE)
    rows = pose_rows(residuals, CAMERA, NOISE, weight)
    expected = jax.jit(jax.jacfwd(errors))(jnp.zeros(6)).T * np.tile(weight, 3)
    np.testing.assert_allclose(rows[:6], expected, rtol=1e-3, atol=0.05)
    np.testing.assert_allclose(rows[6], errors(jnp.zeros(6)) * np.tile(weight, 3), rtol=1e-4)
    assert (np.abs(rows) > 1).any(1).all()  # no row is trivially zero


def test_gates_are_chi_square():
    points = np.float32([[0, 0, 2.0]] * 5 + [[0, 0, -2.0]])
    sigmas = np.float32([0, 2.4, 2.5, 0, 0, 0])
    uv = np.float32([CAMERA.cx, CAMERA.cy]) + np.stack([sigmas * 1.5, 0 * sigmas], 1)
    inverse = 0.5 + np.float32([0, 0, 0, 2.7, 2.9, 0]) * 0.0375
    depth = np.where([True, False, False, True, True, True], 1 / inverse, 0).astype(np.float32)
    residuals = residuals_of(np.eye(4, dtype=np.float32), points, uv, depth, CAMERA, NOISE)
    found = chi_square_inliers(residuals, depth, np.ones(6, bool))
    np.testing.assert_array_equal(found, [True, True, False, True, False, False])
