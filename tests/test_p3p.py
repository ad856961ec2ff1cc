"""P3P: the truth among the roots, in both precisions; degenerate samples are flagged."""

import itertools

import jax
import numpy as np
import pytest
from precision import double_precision

from ace_jax.geometry.p3p import p3p

COUNT = 20_000


def problems(seed: int, count: int):
    """Bearings (N, 3, 3), world points (N, 3, 3) and camera_from_world (N, 4, 4), float64."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(count, 3, 3)))[0]
    rotation *= np.linalg.det(rotation)[:, None, None]
    translation = rng.normal(size=(count, 3))
    image = np.concatenate([rng.uniform(-1, 1, (count, 3, 2)), np.ones((count, 3, 1))], axis=-1)
    points_camera = image * rng.uniform(1, 10, (count, 3, 1))
    points = np.einsum("nji,nkj->nki", rotation, points_camera - translation[:, None])
    pose = np.tile(np.eye(4), (count, 1, 1))
    pose[:, :3, :3], pose[:, :3, 3] = rotation, translation
    return image / np.linalg.norm(image, axis=-1, keepdims=True), points, pose


@pytest.mark.parametrize(
    ("dtype", "tolerance", "share"), [(np.float64, 1e-6, 0.999), (np.float32, 1e-3, 0.99)]
)
def test_truth_is_among_the_roots(dtype, tolerance, share):
    bearings, points, truth = problems(0, COUNT)
    with double_precision(dtype == np.float64):
        poses, valid = solve(bearings, points, dtype)
    assert poses.dtype == dtype
    assert np.all(np.isfinite(poses))
    error = np.abs(poses - truth[:, None]).max(axis=(2, 3))
    assert np.mean(np.where(valid, error, np.inf).min(axis=1) < tolerance) >= share
    # Every root that is called valid sees the points where they were seen.
    seen = np.einsum("nrij,npj->nrpi", poses[..., :3, :3], points) + poses[:, :, None, :3, 3]
    seen /= np.linalg.norm(seen, axis=-1, keepdims=True)
    residual = np.abs(seen - bearings[:, None]).max(axis=(2, 3))[valid]
    assert np.mean(residual < 1e-3) > 0.99
    gram = np.swapaxes(poses[..., :3, :3], -1, -2) @ poses[..., :3, :3]
    assert np.quantile(np.abs(gram - np.eye(3)), 0.999) < 1e-4


BEARINGS, POINTS, _ = problems(1, 1)


@jax.jit
def solve_batch(bearings, points):
    return p3p(bearings, points)


def solve(bearings, points, dtype=np.float32):
    """Any number of problems, padded to `COUNT`, in two axes: one compilation for a precision."""
    padding = ((0, COUNT - len(bearings)), (0, 0), (0, 0))
    padded = (
        np.pad(np.asarray(x, dtype), padding).reshape(4, -1, 3, 3) for x in (bearings, points)
    )
    poses, valid = solve_batch(*padded)
    count = len(bearings)
    poses, valid = np.asarray(poses), np.asarray(valid)
    return poses.reshape(COUNT, 4, 4, 4)[:count], valid.reshape(COUNT, 4)[:count]


LINE = np.outer([0.0, 1.0, 3.0], [1.0, 2.0, -1.0])
DEGENERATE = {
    "collinear": (BEARINGS[0], LINE),
    "collinear, far": (BEARINGS[0], LINE + 100.0),
    "coincident": (BEARINGS[0], np.ones((3, 3))),
    "two coincide": (BEARINGS[0], POINTS[0][[0, 0, 1]]),
    "one bearing": (BEARINGS[0][[0, 0, 0]], POINTS[0]),
    "zeros": (np.zeros((3, 3)), np.zeros((3, 3))),
}


def test_degenerate_samples_are_flagged():
    cases = zip(*DEGENERATE.values(), strict=True)
    poses, valid = solve(*(np.stack(case) for case in cases))
    assert not np.any(valid)
    np.testing.assert_array_equal(poses, np.broadcast_to(np.eye(4), poses.shape))


def test_non_finite_input_is_flagged_in_every_position():
    cases = list(itertools.product([np.nan, np.inf, -np.inf], range(18)))
    bearings = np.tile(BEARINGS, (len(cases), 1, 1))
    points = np.tile(POINTS, (len(cases), 1, 1))
    for case, (value, position) in enumerate(cases):
        target = bearings if position < 9 else points
        target[case].flat[position % 9] = value
    poses, valid = solve(bearings, points)
    assert np.all(np.isfinite(poses))
    assert not np.any(valid)
