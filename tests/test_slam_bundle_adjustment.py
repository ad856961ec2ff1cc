"""Bundle adjustment of a window: planted poses and points come back; failure changes nothing."""

import jax
import numpy as np
import pytest
from data_scene import rotation

from ace_jax.geometry.bundle_adjustment import BundleProblem, bundle_adjust
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import project
from ace_jax.geometry.relative_poses import RelativePoses
from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.geometry.rigid import transform

CAMERA = Camera(525.0, 515.0, 319.5, 239.5, 640, 480)
NOISE = NoiseModel(pixel_sigma=1.5, inverse_depth_sigma=0.0375)
FREE, KEYFRAMES, LANDMARKS, EDGES = 3, 6, 150, 4

adjust = jax.jit(bundle_adjust)


def _shaken(rng, pose: np.ndarray, angle: float, distance: float) -> np.ndarray:
    motion = np.eye(4)
    motion[:3, :3] = rotation(rng.normal(size=3) * angle)
    motion[:3, 3] = rng.normal(size=3) * distance
    return motion @ pose


def make_window(seed: int = 0, noise: float = 0.0, outliers: float = 0.0):
    """A disturbed problem, its true poses and points, and which observations are true.

    The first FREE poses and all points are disturbed; the others are exact.
    """
    rng = np.random.default_rng(seed)
    points = rng.uniform([-1.5, -1.0, 2.0], [1.5, 1.0, 4.0], (LANDMARKS, 3))
    poses = np.stack([_shaken(rng, np.eye(4), 0.06, 0.15) for _ in range(KEYFRAMES)])
    in_camera = transform(poses, points)
    z, uv = in_camera[..., 2], project(in_camera, CAMERA)
    uv += noise * rng.normal(size=uv.shape)
    depth = 1 / (1 / z + noise * 0.01 * rng.normal(size=z.shape))
    depth[rng.random(depth.shape) < 0.3] = 0
    observed = rng.random(z.shape) < 0.8
    wrong = observed & (rng.random(z.shape) < outliers)
    uv[wrong] += rng.uniform(20, 80, (wrong.sum(), 2)) * rng.choice((-1, 1), (wrong.sum(), 2))
    start = poses.copy()
    for k in range(FREE):
        start[k] = _shaken(rng, poses[k], 0.01, 0.02)
    problem = BundleProblem(
        camera_from_world=start.astype(np.float32),
        free=np.ones(FREE, bool),
        points=(points + 0.03 * rng.normal(size=points.shape)).astype(np.float32),
        uv=np.where(observed[..., None], uv, 0).astype(np.float32),
        depth=np.where(observed, depth, 0).astype(np.float32),
        observed=observed,
        relative=RelativePoses(
            first=np.zeros(EDGES, np.int32),
            second=np.zeros(EDGES, np.int32),
            second_from_first=np.tile(np.eye(4, dtype=np.float32), (EDGES, 1, 1)),
            information=np.zeros((EDGES, 6, 6), np.float32),
        ),
    )
    return problem, poses, points, observed & ~wrong


def _centres(poses: np.ndarray) -> np.ndarray:
    poses = np.asarray(poses, np.float64)
    return -np.einsum("kji,kj->ki", poses[:, :3, :3], poses[:, :3, 3])


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Largest distance between corresponding rows."""
    return float(np.linalg.norm(np.asarray(a, np.float64) - b, axis=-1).max())


def test_exact_observations_give_the_exact_window():
    problem, poses, points, _ = make_window()
    result = adjust(problem, CAMERA, NOISE)
    assert bool(result.success)
    assert _distance(_centres(problem.camera_from_world), _centres(poses)) > 0.02
    assert _distance(_centres(result.camera_from_world), _centres(poses)) < 5e-4
    seen = problem.observed.sum(0) >= 2
    assert _distance(result.points[seen], points[seen]) < 2e-3
    np.testing.assert_array_equal(result.inliers, problem.observed)


@pytest.mark.parametrize("seed", range(3))
def test_noise_and_outliers(seed):
    problem, poses, points, good = make_window(seed, noise=0.3, outliers=0.05)
    result = adjust(problem, CAMERA, NOISE)
    assert bool(result.success)
    assert _distance(_centres(result.camera_from_world), _centres(poses)) < 0.004
    error = np.linalg.norm(np.asarray(result.points) - points, axis=1)
    assert np.median(error) < 0.015
    inliers = np.asarray(result.inliers)
    assert not (inliers & ~problem.observed).any()
    assert inliers[good].mean() > 0.95
    assert inliers[problem.observed & ~good].mean() < 0.05


@pytest.mark.parametrize("between", [(0, 4), (4, 0), (1, 0)])
def test_measured_motions_count_by_their_information(between):
    problem, poses, *_ = make_window(2, noise=1.0)
    first, second = between
    moves = min(between)
    true = poses[second] @ np.linalg.inv(poses[first])
    alone = adjust(problem, CAMERA, NOISE)
    for information, closer in ((1e9, 0.05), (1e-3, 2.0)):
        relative = jax.tree.map(np.copy, problem.relative)
        relative.first[0], relative.second[0] = first, second
        relative.second_from_first[0] = true
        relative.information[0] = information * np.eye(6)
        result = adjust(problem.replace(relative=relative), CAMERA, NOISE)
        assert bool(result.success)
        off = [
            np.abs(r.camera_from_world[second] @ np.linalg.inv(r.camera_from_world[first]) - true)
            for r in (alone, result)
        ]
        assert off[1][:3, 3].max() < closer * off[0][:3, 3].max()
        if information < 1:
            np.testing.assert_allclose(
                result.camera_from_world[moves], alone.camera_from_world[moves], atol=1e-5
            )


def test_what_may_not_move_does_not():
    problem, *_ = make_window(1, noise=1.0)
    problem = problem.replace(free=np.array([True, False, True]))
    result = adjust(problem, CAMERA, NOISE)
    assert bool(result.success)
    still = [1, *range(FREE, KEYFRAMES)]
    np.testing.assert_array_equal(
        np.asarray(result.camera_from_world)[still], problem.camera_from_world[still]
    )
    for moved in (0, 2):
        assert (
            np.abs(result.camera_from_world[moved] - problem.camera_from_world[moved]).max() > 1e-3
        )
    rotations = np.asarray(result.camera_from_world)[:, :3, :3]
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (KEYFRAMES, 1, 1)), atol=1e-5
    )


def test_unused_places_change_nothing():
    problem, *_ = make_window(2, noise=1.0)
    observed = problem.observed.copy()
    observed[2] = False  # a keyframe's place, and landmarks' places, left empty
    observed[:, 100:] = False
    problem = problem.replace(observed=observed, free=np.array([True, True, False]))
    clean = adjust(problem, CAMERA, NOISE)
    uv, depth = problem.uv.copy(), problem.depth.copy()
    uv[~observed] = np.nan
    depth[~observed] = np.nan
    result = adjust(problem.replace(uv=uv, depth=depth), CAMERA, NOISE)
    assert bool(clean.success)
    assert bool(result.success)
    np.testing.assert_allclose(result.camera_from_world, clean.camera_from_world, atol=1e-6)
    np.testing.assert_allclose(result.points, clean.points, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(clean.points)[100:], problem.points[100:])


@pytest.mark.parametrize("where", ["uv", "points", "camera_from_world"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_failure_gives_back_what_came_in(where, bad):
    problem, *_ = make_window(3)
    spoiled = np.array(getattr(problem, where))
    if where == "uv":
        k, landmark = np.argwhere(problem.observed)[0]
        spoiled[k, landmark] = bad
    else:
        spoiled[1, 0] = bad
    problem = problem.replace(**{where: spoiled})
    result = adjust(problem, CAMERA, NOISE)
    assert not bool(result.success)
    np.testing.assert_array_equal(result.camera_from_world, problem.camera_from_world)
    np.testing.assert_array_equal(result.points, problem.points)
    np.testing.assert_array_equal(result.inliers, problem.observed)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p.replace(observed=np.zeros_like(p.observed)),
        lambda p: p.replace(observed=p.observed & (np.arange(LANDMARKS) < 1)),
        lambda p: p.replace(points=np.broadcast_to(p.points[:1], p.points.shape).copy()),
        lambda p: p.replace(points=p.points - np.float32([0, 0, 50])),
        lambda p: p.replace(uv=np.full_like(p.uv, 300.0)),
        lambda p: p.replace(free=np.zeros(FREE, bool)),
    ],
)
def test_hopeless_windows_stay_finite(spoil):
    problem = spoil(make_window(4)[0])
    result = adjust(problem, CAMERA, NOISE)
    assert np.isfinite(result.camera_from_world).all()
    assert np.isfinite(result.points).all()
