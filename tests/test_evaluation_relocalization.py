"""Figures of relocalization: errors, shares, calibration."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ace_jax.evaluation import relocalization as evaluation
from ace_jax.evaluation.lengths import SCENE_UNITS
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import from_quaternion


def _pose(degrees=0.0, x=0.0):
    half = np.radians(degrees) / 2
    return from_quaternion(np.array([[np.cos(half), 0, np.sin(half), 0]]), np.array([[x, 0, 0]]))[0]


def test_errors_are_exact_from_tiny_to_opposite():
    angles = np.array([0.0, 1e-4, 1.0, 90.0, 179.0, 180.0])
    found = evaluation.pose_errors(
        [_pose(a, 0.01 * i) for i, a in enumerate(angles)], np.tile(np.eye(4), (6, 1, 1))
    )
    np.testing.assert_allclose(found.rotation, angles, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found.translation, 0.01 * np.arange(6), atol=1e-12)


def test_failures_count_and_unknown_references_do_not():
    unknown = np.full((4, 4), np.nan)
    reference = np.stack([np.eye(4)] * 4 + [unknown])
    found = evaluation.pose_errors(
        [_pose(1.0, 0.04), _pose(6.0, 0.01), None, np.full((4, 4), np.inf), _pose()], reference
    )
    figures = evaluation.summary(found, registered=3)
    assert figures["queries"] == 5
    assert figures["within_5cm_5deg"] == 25.0
    assert figures["within_10cm_10deg"] == 50.0
    assert figures["within_2cm_2deg"] == 0.0
    assert figures["median_translation_m"] == np.inf
    assert "5 cm/5 deg  25.0 %" in evaluation.table_row(figures)
    assert "0.05 scene units/5 deg  25.0 %" in evaluation.table_row(figures, SCENE_UNITS)


def test_without_any_reference_figures_are_nan():
    figures = evaluation.summary(
        evaluation.pose_errors([_pose()], np.full((1, 4, 4), np.nan)), registered=1
    )
    assert np.isnan(figures["median_translation_m"])
    assert np.isnan(figures["within_5cm_5deg"])


def test_calibration_of_a_good_and_of_a_meaningless_scale():
    rng = np.random.default_rng(0)
    scale = np.exp(rng.normal(size=20_000)) * 0.02
    error = np.abs(rng.standard_cauchy(20_000)) * scale
    bins = evaluation.calibration(scale, error, bins=8)
    assert len(bins) == 8
    assert sum(b.count for b in bins) == 20_000
    for b in bins:
        assert b.error == pytest.approx(b.scale, rel=0.15)
        assert b.low < b.error < b.high
    assert evaluation.rank_correlation(scale, error) > 0.4
    assert abs(evaluation.rank_correlation(rng.permutation(scale), error)) < 0.05


def test_calibration_ignores_what_is_not_known():
    scale, error = np.array([1.0, 2.0, np.nan, 4.0]), np.array([1.0, np.inf, 1.0, 2.0])
    assert sum(b.count for b in evaluation.calibration(scale, error, bins=2)) == 2
    assert evaluation.calibration(np.empty(0), np.empty(0)) == []
    assert np.isnan(evaluation.rank_correlation(scale, error))


def _poses(count, rng):
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.random(count, rng).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(count, 3))
    return poses


def test_references_of_another_world_are_aligned_despite_wrong_poses():
    rng = np.random.default_rng(0)
    motion, reference = _poses(1, rng)[0], _poses(40, rng)
    estimated = list(motion @ reference)
    for i in range(12):
        estimated[i] = _poses(1, rng)[0]  # wrong
    estimated[12] = None
    reference[13] = np.nan
    found = evaluation.estimate_from_reference(estimated, reference)
    np.testing.assert_allclose(found, motion, atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(found[:3, :3]), 1.0)


def test_nothing_is_aligned_to_a_few_queries_or_to_disagreement():
    rng = np.random.default_rng(1)
    reference = _poses(30, rng)
    assert evaluation.estimate_from_reference(list(reference[:9]), reference[:9]) is None
    assert evaluation.estimate_from_reference(list(10 * _poses(30, rng)), reference) is None


def test_distance_beside_the_ray():
    camera = Camera(500.0, 500.0, 320.0, 240.0, 640, 480)
    pose = np.eye(4)
    pose[:3, 3] = [1.0, 2.0, 3.0]
    xyz = np.array([[1.0, 2.0, 5.0], [1.3, 2.4, 5.0], [1.0, 2.0, 2.0]])
    errors = evaluation.beside_ray(xyz, np.tile([320.0, 240.0], (3, 1)), camera, pose)
    np.testing.assert_allclose(errors, [0.0, 0.5, np.inf], atol=1e-12)
