"""Depth calibration: applied, undone, learned from evidence, and zero without it."""

import jax
import numpy as np
import pytest
from depth_scene import CAMERA, depth_image, view, views

from ace_jax.geometry.depth_calibration import (
    COEFFICIENTS,
    DepthCalibrator,
    calibration_equations,
    correct_depth,
    correct_planes,
    recorrect_depth,
)
from ace_jax.geometry.depth_planes import fit_planes

BEND = np.array([0.003, -0.008, 0.004, -0.006, 0.003, -0.006,
                 -0.004, 0.006, -0.004, 0.008, -0.003, 0.006])  # fmt: skip
V, U = np.mgrid[: CAMERA.height, : CAMERA.width]
PIXELS = np.stack([U, V], -1).reshape(-1, 2).astype(float)


def straight(depth: np.ndarray, bend: np.ndarray) -> np.ndarray:
    return correct_depth(PIXELS, depth.reshape(-1), CAMERA, bend).reshape(depth.shape)


def bent(depth: np.ndarray) -> np.ndarray:
    """As a sensor with BEND sees it."""
    flat = recorrect_depth(PIXELS, depth.reshape(-1), CAMERA, BEND, np.zeros(COEFFICIENTS))
    return flat.reshape(depth.shape)


def learned(poses, sensor=lambda depth: depth) -> np.ndarray:
    planes = [fit_planes(sensor(depth_image(pose)), CAMERA) for pose in poses]
    estimator = DepthCalibrator(np.zeros(COEFFICIENTS))
    bend = np.zeros(COEFFICIENTS)
    for i in range(6, len(poses)):
        near = range(i - 6, i)
        corrected = correct_planes(np.stack([planes[j] for j in (i, *near)]), CAMERA, bend)
        relative = np.stack([poses[j] @ np.linalg.inv(poses[i]) for j in near])
        equations = calibration_equations(
            corrected[0], corrected[1:], relative.astype(np.float32), CAMERA, bend
        )
        estimator.add(jax.tree.map(np.asarray, equations))
        bend = estimator.calibration
    return bend


def relative_change(bend: np.ndarray, depth: np.ndarray) -> np.ndarray:
    return straight(depth, bend) / depth - 1


def test_correction_undoes_the_bend():
    depth = depth_image(views(1)[0])
    depth[10:20, 30:40] = 0.0
    seen = bent(depth)
    known = depth > 0
    assert 0.005 < np.abs(seen[known] / depth[known] - 1).max() < 0.1
    np.testing.assert_allclose(straight(seen, BEND), depth, rtol=1e-5)
    assert not straight(seen, BEND)[~known].any()


def test_another_correction_replaces_the_first():
    depth = depth_image(views(1)[0]).reshape(-1)
    first = correct_depth(PIXELS, depth, CAMERA, BEND)
    second = recorrect_depth(PIXELS, first, CAMERA, BEND, -0.5 * BEND)
    np.testing.assert_allclose(second, correct_depth(PIXELS, depth, CAMERA, -0.5 * BEND), rtol=1e-5)


def test_planes_are_corrected_as_the_depth_they_come_from():
    for pose in views(3, seed=4):
        seen = bent(depth_image(pose))
        planes = fit_planes(seen, CAMERA)
        wanted = fit_planes(straight(seen, BEND), CAMERA)
        corrected = correct_planes(planes, CAMERA, BEND)
        both = corrected.any(-1) & wanted.any(-1)
        assert both.mean() > 0.6
        before = np.abs(planes - wanted)[both].max()
        assert np.abs(corrected - wanted)[both].max() < 0.15 * before
        assert not corrected[~planes.any(-1)].any()


@pytest.mark.parametrize("seed", range(2))
def test_a_bend_is_learned_from_views_that_differ(seed):
    bend = learned(views(40, seed), bent)
    depth = depth_image(view([0, 0, 0], [0, 0, 0]))
    seen = bent(depth)
    # The scale cannot be learned, so it is compared without.
    before, after = (straight(seen, b) / depth for b in (np.zeros(COEFFICIENTS), bend))
    before, after = (np.std(ratio / ratio.mean()) for ratio in (before, after))
    assert before > 0.003
    assert after < 0.4 * before


def test_an_exact_sensor_is_left_alone():
    np.testing.assert_array_equal(learned(views(40, 3)), 0.0)


def test_the_scale_stays():
    change = relative_change(learned(views(40), bent), depth_image(view([0, 0, 0], [0, 0, 0])))
    assert abs(change.mean()) < 1.5e-3


def test_without_views_nothing_is_known():
    assert not DepthCalibrator(np.zeros(COEFFICIENTS)).calibration.any()
    np.testing.assert_array_equal(DepthCalibrator(BEND).calibration, BEND)
    estimator = DepthCalibrator(np.zeros(COEFFICIENTS))
    blank = np.zeros((30, 40, 3), np.float32)
    pose = np.eye(4, dtype=np.float32)
    estimator.add(
        calibration_equations(blank, blank[None], pose[None], CAMERA, np.zeros(COEFFICIENTS))
    )
    np.testing.assert_array_equal(estimator.calibration, 0.0)
