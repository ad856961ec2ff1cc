"""Association, alignment and errors of trajectories, against evo's stored and live numbers."""

import dataclasses
import json

import numpy as np
import pytest

from ace_jax.data.association import associate
from ace_jax.evaluation.trajectory import (
    NoOverlap,
    RunningAte,
    Statistics,
    Trajectory,
    align_se3,
    compare,
    relative_errors,
)
from ace_jax.geometry.rigid import from_quaternion

TOLERANCE = 1e-6  # the agreement with evo that is promised


def _random_poses(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return from_quaternion(rng.normal(size=(count, 4)), rng.normal(size=(count, 3)))


def _smooth_pair(count: int = 60, seed: int = 0) -> tuple[Trajectory, Trajectory]:
    """A reference, and an estimate of it with noise in another world frame."""
    rng = np.random.default_rng(seed)
    times = np.arange(count) / 30
    angle = rng.normal(size=(count, 3)).cumsum(0) * 0.03
    wxyz = np.concatenate([np.ones((count, 1)), angle / 2], 1)
    truth = from_quaternion(wxyz, rng.normal(size=(count, 3)).cumsum(0) * 0.02)
    noise = from_quaternion(
        np.concatenate([np.ones((count, 1)), rng.normal(size=(count, 3)) * 0.01], 1),
        rng.normal(size=(count, 3)) * 0.01,
    )
    elsewhere = _random_poses(1, seed + 1)
    return Trajectory(times, elsewhere @ truth @ noise), Trajectory(times, truth)


@pytest.fixture(scope="module")
def golden(shared_dir):
    folder = shared_dir / "golden" / "trajectories"
    return json.loads((folder / "evo_results.json").read_text()), np.load(folder / "matched.npz")


def _golden_pair(arrays, sequence: str) -> tuple[Trajectory, Trajectory]:
    estimate, reference = (
        Trajectory(
            arrays[f"{sequence}/{which}_t"],
            from_quaternion(arrays[f"{sequence}/{which}_qwxyz"], arrays[f"{sequence}/{which}_xyz"]),
        )
        for which in ("est", "gt")
    )
    return estimate, reference


@pytest.mark.parametrize("sequence", ["freiburg1_xyz", "fr2_desk"])
def test_agrees_with_stored_evo_results(golden, sequence):
    expected, arrays = golden
    expected = expected[sequence]
    estimate, reference = _golden_pair(arrays, sequence)
    result = compare(estimate, reference, max_difference=0.01)
    over_ten = compare(estimate, reference, max_difference=0.01, delta=10)
    assert len(result.estimate_index) == expected["n_matched"]
    for errors, name in (
        (result.ate_trans_m, "APE_trans_SE3"),
        (result.ate_rot_deg, "APE_rot_deg_SE3"),
        (result.rpe_trans_m, "RPE_trans_1frame"),
        (result.rpe_rot_deg, "RPE_rot_deg_1frame"),
        (over_ten.rpe_trans_m, "RPE_trans_10frames_allpairs"),
    ):
        for statistic, value in dataclasses.asdict(Statistics.of(errors)).items():
            assert value == pytest.approx(expected[name][statistic], abs=TOLERANCE), name
    motion = expected["SE3_alignment_est_to_gt"]
    np.testing.assert_allclose(result.reference_from_estimate[:3, :3], motion["R"], atol=TOLERANCE)
    np.testing.assert_allclose(result.reference_from_estimate[:3, 3], motion["t"], atol=TOLERANCE)


@pytest.mark.parametrize("sequence", ["freiburg1_xyz", "fr2_desk"])
def test_associates_as_evo_did(golden, sequence):
    expected, arrays = golden
    raw_estimate, raw_reference = (arrays[f"{sequence}/raw_{which}_t"] for which in ("est", "gt"))
    i, j = associate(raw_estimate, raw_reference, 0.01)
    assert len(i) == expected[sequence]["n_matched"]
    np.testing.assert_array_equal(raw_estimate[i], arrays[f"{sequence}/est_t"])
    np.testing.assert_array_equal(raw_reference[j], arrays[f"{sequence}/gt_t"])


def test_agrees_with_installed_evo():
    pytest.importorskip("evo")
    from evo.core import metrics, sync
    from evo.core.trajectory import PoseTrajectory3D

    estimate, reference = _smooth_pair()
    keep = np.r_[0:20, 27:60]  # tracking was lost in between
    estimate = estimate[keep]
    ours = compare(estimate, reference)
    theirs_reference, theirs_estimate = sync.associate_trajectories(
        *(
            PoseTrajectory3D(poses_se3=list(t.world_from_camera), timestamps=t.timestamps)
            for t in (reference, estimate)
        )
    )
    for delta in (1, 5):
        for relation, errors in (
            (metrics.PoseRelation.translation_part, "rpe_trans_m"),
            (metrics.PoseRelation.rotation_angle_deg, "rpe_rot_deg"),
        ):
            rpe = metrics.RPE(relation, delta, metrics.Unit.frames, all_pairs=True)
            rpe.process_data((theirs_reference, theirs_estimate))
            np.testing.assert_allclose(
                getattr(compare(estimate, reference, delta=delta), errors),
                rpe.error,
                atol=TOLERANCE,
            )
    for metres in (0.2, 0.7):
        relative = relative_errors(estimate, reference, ours, metres)
        assert len(relative.first) > 10
        for relation, errors in (
            (metrics.PoseRelation.translation_part, relative.trans_m),
            (metrics.PoseRelation.rotation_angle_deg, relative.rot_deg),
        ):
            rpe = metrics.RPE(
                relation, metres, metrics.Unit.meters, all_pairs=True, pairs_from_reference=True
            )
            rpe.process_data((theirs_reference, theirs_estimate))
            assert len(rpe.error) == len(errors)
            np.testing.assert_allclose(errors, rpe.error, atol=TOLERANCE)
    theirs_estimate.align(theirs_reference)
    for relation, errors in (
        (metrics.PoseRelation.translation_part, ours.ate_trans_m),
        (metrics.PoseRelation.rotation_angle_deg, ours.ate_rot_deg),
    ):
        ape = metrics.APE(relation)
        ape.process_data((theirs_reference, theirs_estimate))
        np.testing.assert_allclose(errors, ape.error, atol=TOLERANCE)


def test_alignment_recovers_a_known_motion_and_keeps_the_scale():
    points = np.random.default_rng(0).normal(size=(20, 3))
    motion = _random_poses(1, 3)[0]
    moved = points @ motion[:3, :3].T + motion[:3, 3]
    np.testing.assert_allclose(align_se3(points, moved), motion, atol=1e-12)
    rotation = align_se3(points, 2 * moved)[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("spread", [(1, 1, 0), (1, 0, 0), (0, 0, 0)])
def test_alignment_of_degenerate_points_is_a_rotation(spread):
    points = np.random.default_rng(0).normal(size=(20, 3)) * spread
    mirrored = points * [1, 1, -1]
    motion = align_se3(points, mirrored)
    assert np.linalg.det(motion[:3, :3]) == pytest.approx(1)
    np.testing.assert_allclose(points @ motion[:3, :3].T + motion[:3, 3], mirrored, atol=1e-9)


def test_a_mirrored_trajectory_is_not_aligned_by_a_reflection():
    _, reference = _smooth_pair()
    mirrored = reference.world_from_camera.copy()
    mirrored[:, 2, 3] *= -1
    assert compare(Trajectory(reference.timestamps, mirrored), reference).ate_trans_m.max() > 0.01


def test_scale_error_is_seen():
    _, reference = _smooth_pair()
    grown = reference.world_from_camera.copy()
    grown[:, :3, 3] *= 1.1
    assert compare(Trajectory(reference.timestamps, grown), reference).ate_trans_m.max() > 0.005


def test_association_is_one_to_one_and_prefers_the_closest():
    i, j = associate(np.array([0.0, 0.4, 0.5]), np.array([0.48, 0.05]), 0.2)
    assert i.tolist() == [0, 2]
    assert j.tolist() == [1, 0]


def test_association_gives_the_runner_up_another_partner():
    i, j = associate(np.array([0.0, 0.01]), np.array([0.011, 0.03]), 0.05)
    assert (i.tolist(), j.tolist()) == ([0, 1], [1, 0])


def test_association_respects_the_limit():
    times = np.arange(5.0)
    assert len(associate(times, times + 0.03, 0.02)[0]) == 0
    assert len(associate(times, times + 0.03, 0.04)[0]) == 5
    assert len(associate(np.zeros(0), times, 0.02)[0]) == 0
    rng = np.random.default_rng(0)
    i, j = associate(rng.uniform(0, 5, 300), rng.uniform(0, 5, 200), 0.02)
    assert len(set(i)) == len(set(j)) == len(i) > 100


def test_too_little_overlap_is_an_error():
    estimate, reference = _smooth_pair()
    with pytest.raises(NoOverlap, match="0 poses match"):
        compare(Trajectory(estimate.timestamps + 100, estimate.world_from_camera), reference)
    with pytest.raises(NoOverlap, match="2 poses match"):
        compare(estimate[:2], reference)


def test_frames_without_a_pose_are_left_out():
    estimate, reference = _smooth_pair()
    poses, truth = estimate.world_from_camera.copy(), reference.world_from_camera.copy()
    poses[10:15] = np.nan
    truth[30] = -np.inf
    result = compare(
        Trajectory(estimate.timestamps, poses), Trajectory(reference.timestamps, truth)
    )
    assert not set(range(10, 15)) & set(result.estimate_index.tolist())
    assert 30 not in result.reference_index
    assert np.isfinite(result.ate_trans_m).all()
    assert len(result.ate_trans_m) == 60 - 5 - 1


def test_delta_longer_than_the_trajectory_has_no_rpe():
    estimate, reference = _smooth_pair(5)
    result = compare(estimate, reference, delta=10)
    assert len(result.rpe_trans_m) == len(result.rpe_rot_deg) == 0
    assert np.isnan(Statistics.of(result.rpe_trans_m).rmse)
    with pytest.raises(ValueError, match="delta"):
        compare(estimate, reference, delta=0)


def test_running_ate_equals_the_batch_result():
    estimate, reference = _smooth_pair(200)
    running = RunningAte()
    assert np.isnan(running.rmse())
    for n in range(200):
        running.add(estimate.positions[n], reference.positions[n])
        running.add(np.full(3, np.nan), reference.positions[n])
        if n in (2, 20, 199):
            batch = compare(estimate[: n + 1], reference).ate_trans_m
            assert running.rmse() == pytest.approx(np.sqrt(np.mean(batch**2)), abs=1e-9)


def test_running_ate_is_exact_far_from_the_origin():
    _, reference = _smooth_pair(100)
    running = RunningAte()
    for position in reference.positions:
        running.add(position + 1e4, position)
    assert running.rmse() < 1e-6


def test_poses_and_times_must_be_as_many():
    with pytest.raises(ValueError, match="2 timestamps for 1 poses"):
        Trajectory(np.zeros(2), np.eye(4)[None])
