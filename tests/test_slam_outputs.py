"""What a run writes: formats that other tools read, metrics, and no half-written files."""

import json

import numpy as np
import pytest

from ace_jax.evaluation.trajectory import Trajectory
from ace_jax.files import write_json
from ace_jax.geometry.rigid import from_quaternion
from ace_jax.slam.reporting.outputs import (
    plot_trajectory,
    trajectory_metrics,
    write_points_ply,
)

REQUIRED = {
    *("sequence", "frames", "frames_tracked", "coverage", "ate_rmse_m", "ate_live_rmse_m"),
    *("ate_max_m", "rpe_trans_m", "rpe_rot_deg", "fps", "ms_p50", "ms_p95", "stage_ms"),
    *("map_bytes", "head", "features", "seed"),
}


def _poses(count: int = 20, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return from_quaternion(rng.normal(size=(count, 4)), rng.normal(size=(count, 3)))


def _metrics(estimate, ground_truth, live=None, **changed) -> dict:
    arguments = {
        "sequence": "synthetic/room0",
        "frames": len(estimate),
        "estimate": estimate,
        "live": estimate if live is None else live,
        "ground_truth": ground_truth,
        "frame_seconds": [5.0, 1.0, *[0.02] * (len(estimate) - 2)],
        "stage_ms": {"features": np.full(len(estimate), 10.0), "mapping": np.zeros(0)},
        "map_bytes": 1234,
        "head": "landmarks",
        "features": "sift",
        "seed": 3,
    }
    return trajectory_metrics(**{**arguments, **changed})


@pytest.mark.parametrize("coloured", [True, False])
def test_ply_round_trip(tmp_path, coloured):
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(7, 3)).astype(np.float32)
    rgb = rng.integers(0, 256, (7, 3), np.uint8) if coloured else None
    xyz[2] = np.nan
    write_points_ply(tmp_path / "p.ply", xyz, rgb)
    header, body = (tmp_path / "p.ply").read_bytes().split(b"end_header\n", 1)
    assert header.startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 6\n")
    fields = [("xyz", "<f4", 3)] + ([("rgb", "u1", 3)] if coloured else [])
    read = np.frombuffer(body, fields)
    keep = np.arange(7) != 2
    np.testing.assert_array_equal(read["xyz"], xyz[keep])
    if rgb is not None:
        np.testing.assert_array_equal(read["rgb"], rgb[keep])
        assert header.count(b"property uchar") == 3


def test_ply_refuses_colours_of_another_count(tmp_path):
    with pytest.raises(ValueError, match="1 colours for 2 points"):
        write_points_ply(tmp_path / "p.ply", np.zeros((2, 3)), np.zeros((1, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_metrics_have_every_field_and_are_json(tmp_path):
    truth = Trajectory(np.arange(20) / 30, _poses())
    moved = truth.moved(_poses(1, 5)[0])
    poses = moved.world_from_camera.copy()
    poses[:, :3, 3] += np.random.default_rng(1).normal(size=(20, 3)) * 0.01
    poses[7] = np.nan
    live = Trajectory(truth.timestamps, poses)
    metrics = _metrics(moved, truth, live=live)
    assert set(metrics) >= REQUIRED
    assert (metrics["frames"], metrics["frames_tracked"], metrics["coverage"]) == (20, 19, 0.95)
    assert metrics["ate_rmse_m"] < 1e-9 < 0.005 < metrics["ate_live_rmse_m"] < 0.03
    assert metrics["fps"] == pytest.approx(50)  # without the two frames that compile
    assert metrics["ms_p50"] == pytest.approx(20)
    assert metrics["start_s"] == pytest.approx(6)
    assert metrics["stage_ms"]["features"]["p50"] == pytest.approx(10)
    assert metrics["stage_ms"]["mapping"] == {"p50": None, "p95": None, "runs": 0}
    write_json(tmp_path / "metrics.json", metrics)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics


def test_metrics_without_a_usable_ground_truth():
    estimate = Trajectory(np.arange(20) / 30, _poses())
    late = Trajectory(estimate.timestamps + 50, estimate.world_from_camera)
    for ground_truth in (None, late):
        metrics = _metrics(estimate, ground_truth)
        assert metrics["ate_rmse_m"] is None
        assert metrics["rpe_rot_deg"] is None
        assert metrics["coverage"] == 1.0


def test_metrics_of_a_run_that_was_cut_at_once():
    nothing = Trajectory(np.zeros(0), np.zeros((0, 4, 4)))
    metrics = _metrics(nothing, None, frame_seconds=[], stage_ms={})
    assert metrics["coverage"] == 0.0
    assert metrics["fps"] is metrics["ms_p95"] is None


def test_plot_is_written(tmp_path):
    truth = Trajectory(np.arange(20) / 30, _poses())
    plot_trajectory(tmp_path / "plots" / "t.png", truth, truth, "room")
    assert (tmp_path / "plots" / "t.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "plots").iterdir())) == 1
