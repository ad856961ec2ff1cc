"""Absolute pose: recovery, masks, bad input, priors, depth, a batch, gradients."""

import functools
import os
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import run_python

from ace_jax.geometry import se3
from ace_jax.geometry.absolute_pose import estimate_absolute_pose
from ace_jax.geometry.camera import Camera

N = 200
CAMERA = Camera(525.0, 525.0, 320.0, 240.0, 640, 480)
THRESHOLD = 4.0
KEY = jax.random.key(0)
exp, log, inverse = (jax.jit(f) for f in (se3.exp, se3.log, se3.invert))

traces = {"plain": 0, "full": 0}


@jax.jit
def solve(points_2d, points_3d, camera, key):
    traces["plain"] += 1
    return estimate_absolute_pose(points_2d, points_3d, camera, key)


@jax.jit
@functools.partial(jax.grad, argnums=(0, 1, 2, 5, 7), has_aux=True)
def gradient(points_2d, points_3d, camera, key, mask, weights, prior, depth, limits):
    """Gradients of a function of the pose by all float arguments, and the result."""
    traces["full"] += 1
    max_hypotheses, inverse_depth_sigma = limits
    result = estimate_absolute_pose(
        points_2d,
        points_3d,
        camera,
        key,
        mask,
        weights,
        prior,
        depth,
        inverse_depth_sigma=inverse_depth_sigma,
        max_hypotheses=max_hypotheses,
    )
    return jnp.sum(jnp.sin(result.camera_from_world)), result


def arguments(
    points_2d,
    points_3d,
    camera=CAMERA,
    key=KEY,
    mask=None,
    weights=None,
    prior=None,
    depth=None,
    max_hypotheses=20_000,
    inverse_depth_sigma=0.002,
):
    """All arguments of `gradient`, with values that mean "not given": one compilation."""
    count = len(points_2d)
    return (
        np.asarray(points_2d, np.float32),
        np.asarray(points_3d, np.float32),
        camera,
        key,
        np.ones(count, bool) if mask is None else mask,
        np.ones(count, np.float32) if weights is None else weights,
        np.full((4, 4), np.nan, np.float32) if prior is None else prior,
        np.zeros(count, np.float32) if depth is None else depth,
        (max_hypotheses, inverse_depth_sigma),
    )


def solve_with(*args, **given):
    return gradient(*arguments(*args, **given))[1]


def problem(seed: int, outliers: float, sigma: float = 1.0, focal: float = 525.0):
    """Pixels (N, 2), points (N, 3), depth (N,), camera_from_world (4, 4), inliers (N,)."""
    rng = np.random.default_rng(seed)
    pose = np.asarray(exp(jnp.asarray(rng.normal(size=6), jnp.float32)))
    uv = rng.uniform([0, 0], [640, 480], size=(N, 2))
    depth = rng.uniform(1, 5, N)
    ray = np.concatenate([(uv - [320, 240]) / focal, np.ones((N, 1))], axis=1)
    points = (ray * depth[:, None] - pose[:3, 3]) @ pose[:3, :3]
    uv = uv + sigma * rng.normal(size=uv.shape)
    good = np.ones(N, bool)
    good[rng.permutation(N)[: round(outliers * N)]] = False
    uv[~good] = rng.uniform([0, 0], [640, 480], size=(np.sum(~good), 2))
    return uv.astype(np.float32), points.astype(np.float32), depth.astype(np.float32), pose, good


def pose_error(estimate, truth):
    """Degrees and metres (distance of camera centres)."""
    estimate, truth = np.asarray(estimate, np.float64), np.asarray(truth, np.float64)
    angle = np.degrees(se3.rotation_angle(jnp.asarray(estimate[:3, :3] @ truth[:3, :3].T)))
    centres = [-pose[:3, :3].T @ pose[:3, 3] for pose in (estimate, truth)]
    return float(angle), float(np.linalg.norm(centres[0] - centres[1]))


def assert_finite(tree):
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(tree))


def assert_failure(result):
    assert not result.success
    assert_finite(result)
    assert int(result.num_inliers) == 0
    assert not np.any(result.inliers)
    np.testing.assert_array_equal(result.camera_from_world, np.eye(4))


@pytest.mark.parametrize("outliers", [0.1, 0.3, 0.5, 0.7, 0.8, 0.9])
def test_finds_the_pose_over_inlier_ratios(outliers):
    for seed in range(10 if outliers < 0.9 else 5):
        uv, points, _, pose, good = problem(seed, outliers)
        result = solve(uv, points, CAMERA, jax.random.key(seed))
        angle, distance = pose_error(result.camera_from_world, pose)
        assert result.success
        assert angle < 1.0
        assert distance < 0.05
        inliers = np.asarray(result.inliers)
        moved = points @ np.asarray(result.camera_from_world)[:3, :3].T
        moved = moved + np.asarray(result.camera_from_world)[:3, 3]
        error = 525.0 * moved[:, :2] / moved[:, 2:] + [320, 240] - uv
        assert np.max(np.linalg.norm(error, axis=1)[inliers]) < THRESHOLD + 1e-3
        assert np.sum(inliers & good) > 0.8 * np.sum(good)
        assert int(result.num_inliers) == np.sum(inliers)


def test_hypotheses_grow_with_the_outliers():
    drawn = [
        int(solve(*problem(0, outliers)[:2], CAMERA, KEY).num_hypotheses)
        for outliers in (0.1, 0.6, 0.8)
    ]
    assert drawn[0] < drawn[1] < drawn[2] < 5000


def test_result_is_a_rotation():
    result = solve(*problem(1, 0.3)[:2], CAMERA, KEY)
    rotation = np.asarray(result.camera_from_world)[:3, :3]
    assert result.camera_from_world.dtype == np.float32
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) > 0


def test_same_key_same_bits_and_one_compilation():
    uv, points, _, _, _ = problem(2, 0.6)
    first, second = (solve(uv, points, CAMERA, jax.random.key(3)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    other = Camera(500.0, 510.0, 300.0, 250.0, 640, 480)
    solve(uv + 1.0, points, other, jax.random.key(4))
    assert traces["plain"] == 1
    solve_with(uv, points)
    solve_with(uv, points, other, depth=np.ones(N, np.float32), max_hypotheses=100)
    assert traces["full"] == 1


def test_covariance_is_calibrated():
    squared = []
    for seed in range(60):
        uv, points, _, pose, _ = problem(100 + seed, 0.2)
        result = solve(uv, points, CAMERA, jax.random.key(seed))
        error = log(jnp.asarray(pose) @ inverse(result.camera_from_world))
        squared.append(error @ np.linalg.solve(result.covariance, error))
    # Chi-squared with 6 degrees of freedom; the mean of 60 has a standard deviation of 0.45.
    assert 4.5 < np.mean(squared) < 7.8


def test_full_intrinsics_are_used():
    uv, points, _, pose, _ = problem(3, 0.3)
    camera = Camera(700.0, 350.0, 10.0, -20.0, 640, 480)
    uv = (uv - [320, 240]) / 525.0 * [700, 350] + [10, -20]
    angle, distance = pose_error(
        solve(uv.astype(np.float32), points, camera, KEY).camera_from_world, pose
    )
    assert angle < 0.3
    assert distance < 0.02


def test_masked_points_do_not_vote():
    uv, points, _, pose, good = problem(4, 0.6)
    uv[~good], points[~good] = 7.0, 1e30
    result = solve_with(uv, points, mask=good)
    assert result.success
    assert not np.any(result.inliers & ~good)
    assert int(result.num_hypotheses) == 128
    assert pose_error(result.camera_from_world, pose)[0] < 0.3


def test_guided_sampling_needs_fewer_hypotheses():
    uv, points, _, pose, good = problem(5, 0.9)
    weights = np.random.default_rng(0).uniform(0.5, 1.0, N).astype(np.float32) + 0.3 * good
    guided = solve_with(uv, points, weights=weights.astype(np.float32), max_hypotheses=256)
    assert guided.success
    assert pose_error(guided.camera_from_world, pose)[0] < 1.0
    misleading = solve_with(uv, points, weights=(1.5 - weights).astype(np.float32))
    assert pose_error(misleading.camera_from_world, pose)[0] < 1.0


def test_confident_points_end_the_search_sooner():
    uv, points, _, pose, good = problem(7, 0.85)
    # A third of the points are confident, and half of these are right.
    confident = good | (np.random.default_rng(0).random(N) < 0.18)
    weights = np.where(confident, 1.0, 0.9).astype(np.float32)
    plain, guided = solve_with(uv, points), solve_with(uv, points, weights=weights)
    assert 3 * int(guided.num_hypotheses) < int(plain.num_hypotheses)
    assert pose_error(guided.camera_from_world, pose)[0] < 0.5


def test_the_whole_consensus_is_found_whatever_is_drawn(monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "N", 600)
    for seed in range(5):
        uv, points, *_ = problem(seed, 0.7, sigma=3.0)
        found = [
            int(solve(uv, points, CAMERA, jax.random.key(key)).num_inliers) for key in range(4)
        ]
        assert min(found) > 0.9 * max(found)


def test_prior_is_used_when_it_is_good_and_harmless_when_it_is_bad():
    uv, points, _, pose, _ = problem(6, 0.94)
    near = np.asarray(exp(jnp.full(6, 0.003)) @ pose)
    with_prior = solve_with(uv, points, prior=near, max_hypotheses=128)
    without = solve_with(uv, points, max_hypotheses=128)
    assert with_prior.success
    assert pose_error(with_prior.camera_from_world, pose)[1] < 0.05
    assert not without.success
    uv, points, _, pose, _ = problem(6, 0.5)
    result = solve_with(uv, points, prior=np.asarray(exp(jnp.ones(6))))
    assert pose_error(result.camera_from_world, pose)[0] < 0.3


def test_depth_improves_the_pose_and_bad_depth_is_ignored():
    errors = {"pixels": [], "depth": [], "broken": []}
    for seed in range(25):
        uv, points, depth, pose, good = problem(200 + seed, 0.5, sigma=1.5, focal=2000.0)
        camera = Camera(2000.0, 2000.0, 320.0, 240.0, 640, 480)
        rng = np.random.default_rng(seed)
        measured = (1 / (1 / depth + 0.002 * rng.normal(size=N))).astype(np.float32)
        measured[~good] = rng.uniform(1, 5, np.sum(~good))
        broken = np.where(np.arange(N) % 2 == 0, np.nan, 0.0).astype(np.float32)
        broken[::7] = np.inf
        for name, values in (("pixels", None), ("depth", measured), ("broken", broken)):
            result = solve_with(uv, points, camera, depth=values)
            assert result.success
            errors[name].append(pose_error(result.camera_from_world, pose)[1])
    assert np.mean(np.square(errors["depth"])) < 0.5 * np.mean(np.square(errors["pixels"]))
    np.testing.assert_allclose(errors["broken"], errors["pixels"], rtol=1e-3, atol=1e-5)


def degenerate_cases():
    uv, points, _, pose, _ = problem(7, 0.0, sigma=0.0)
    line = np.outer(np.linspace(0, 3, N), [1.0, 0.5, 0.2])
    line[:, 2] += 2.0
    on_line = line @ pose[:3, :3].T + pose[:3, 3]
    on_line += [0, 0, 1.0 - np.min(on_line[:, 2])]
    on_line = 525.0 * on_line[:, :2] / on_line[:, 2:] + [320, 240]
    # Mirrored in the camera's centre. A few points: with many, those close to some plane look
    # like their mirror image from elsewhere.
    centre = -pose[:3, :3].T @ pose[:3, 3]
    unknown = Camera(np.nan, 525.0, 320.0, 240.0, 640, 480)
    flat = Camera(0.0, 525.0, 320.0, 240.0, 640, 480)
    return {
        "collinear": {"points_2d": on_line, "points_3d": line},
        "coincident": {"points_2d": uv, "points_3d": np.ones_like(points)},
        "one pixel": {"points_2d": np.full_like(uv, 100.0), "points_3d": points},
        "three points": {"points_2d": uv, "points_3d": points, "mask": np.arange(N) < 3},
        "one point": {"points_2d": uv, "points_3d": points, "mask": np.arange(N) < 1},
        "all masked": {"points_2d": uv, "points_3d": points, "mask": np.zeros(N, bool)},
        "all behind the camera": {
            "points_2d": uv,
            "points_3d": 2 * centre - points,
            "mask": np.arange(N) < 10,
        },
        "random": {"points_2d": uv, "points_3d": points[::-1]},
        "all NaN": {"points_2d": uv, "points_3d": np.full_like(points, np.nan)},
        "no weight": {"points_2d": uv, "points_3d": points, "weights": np.zeros(N, np.float32)},
        "NaN camera": {"points_2d": uv, "points_3d": points, "camera": unknown},
        "zero focal length": {"points_2d": uv, "points_3d": points, "camera": flat},
    }


@pytest.mark.parametrize("name", degenerate_cases())
def test_degenerate_input_fails_with_finite_gradients(name):
    given = degenerate_cases()[name] | {"max_hypotheses": 512}
    gradients, result = gradient(*arguments(**given))
    assert_failure(result)
    assert_finite(gradients)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "argument", ["points_2d", "points_3d", "weights", "depth", "prior", "everywhere"]
)
def test_non_finite_input_in_every_position(argument, value):
    uv, points, depth, pose, good = problem(8, 0.4)
    given = {
        "points_2d": uv,
        "points_3d": points,
        "weights": np.ones(N, np.float32),
        "depth": depth,
        "prior": pose.copy(),
    }
    bad = np.arange(N) % 5 == 0
    for name in given if argument == "everywhere" else (argument,):
        if name == "prior":
            given["prior"][1, 2] = value
        elif given[name].ndim == 2:
            columns = np.arange(np.sum(bad)) % given[name].shape[1]
            given[name][np.flatnonzero(bad), columns] = value
        else:
            given[name][bad] = value
    gradients, result = gradient(*arguments(**given))
    assert result.success
    assert_finite((gradients, result))
    assert pose_error(result.camera_from_world, pose)[0] < 0.5
    if argument in ("points_2d", "points_3d", "weights", "everywhere"):
        assert not np.any(result.inliers & bad)
    # What does not vote carries no gradient.
    outside = ~(np.asarray(result.inliers) | good)
    assert np.all(np.asarray(gradients[0])[outside & bad] == 0.0)


def test_gradient_agrees_with_finite_differences():
    uv, points, _, _, good = problem(9, 0.3)
    gradients, _ = gradient(*arguments(uv, points))
    rng = np.random.default_rng(0)
    for index, (array, step) in enumerate(((uv, 3e-2), (points, 3e-4))):
        numeric, analytic = [], []
        for _ in range(8):
            direction = rng.normal(size=array.shape) * good[:, None]
            values = []
            for sign in (1, -1):
                moved = [uv, points]
                moved[index] = array + sign * step * direction
                pose = solve_with(*moved).camera_from_world
                values.append(float(jnp.sum(jnp.sin(pose))))
            numeric.append((values[0] - values[1]) / (2 * step))
            analytic.append(float(np.sum(np.asarray(gradients[index]) * direction)))
        # Together: along one direction there may be next to none, and rounding is all that is left.
        error = np.linalg.norm(np.subtract(analytic, numeric))
        assert error < 0.05 * np.linalg.norm(numeric)


def test_sharded_over_two_devices_equals_single(tmp_path):
    problems = [problem(seed, 0.4) for seed in range(4)]
    uv, points = (np.stack([p[i] for p in problems]) for i in (0, 1))
    np.savez(tmp_path / "problems.npz", uv=uv, points=points)
    program = """
        import sys, jax, numpy as np
        from ace_jax.errors import UserError
        from ace_jax.geometry.absolute_pose import estimate_absolute_pose
        from ace_jax.geometry.batch import over_images
        from ace_jax.geometry.camera import Camera
        uv, points = np.load(sys.argv[1] + "/problems.npz").values()
        cameras = Camera(*np.full((4, 4), [[525], [525], [320], [240]], np.float32), 640, 480)
        keys = jax.random.split(jax.random.key(0), 4)
        solve = jax.jit(over_images(estimate_absolute_pose, jax.make_mesh((2,), ("images",))))
        poses = solve(uv, points, cameras, keys).camera_from_world
        assert len(poses.sharding.device_set) == 2
        np.save(sys.argv[1] + "/poses.npy", poses)
        try:
            solve(uv[:3], points[:3], jax.tree.map(lambda x: x[:3], cameras), keys[:3])
        except UserError as error:
            assert "multiple of 2" in str(error), error
        else:
            raise AssertionError("an uneven batch was accepted")
    """
    done = run_python(
        *("-c", textwrap.dedent(program), tmp_path),
        XLA_FLAGS=f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2",
        JAX_PLATFORMS="cpu",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    poses = np.load(tmp_path / "poses.npy")
    keys = jax.random.split(KEY, 4)
    for i in range(4):
        one = solve(uv[i], points[i], CAMERA, keys[i])
        np.testing.assert_allclose(poses[i], one.camera_from_world, atol=1e-5, rtol=1e-5)
