"""Whole runs: accuracy, repeatability, what is written, and what survives a broken stream."""

import dataclasses
import json
import threading
from pathlib import Path

import jax
import numpy as np
import pytest
from network_guard import no_network
from slam_scene import RoomSource, make_system

from ace_jax.data.poses_file import PosedSource, read_poses
from ace_jax.data.subset import SubsetSource
from ace_jax.errors import UserError
from ace_jax.localization.scene_map import load_map
from ace_jax.slam import run as slam_run
from ace_jax.slam.run import CompilationCounter, RunResult, SystemOptions, run

pytestmark = pytest.mark.optimized

FRAMES = 36
FILES = {
    *("report.html", "trajectory.tum", "trajectory_live.tum", "map.safetensors", "points.ply"),
    *("trajectory.png", "trajectory.pdf", "metrics.json", "session.safetensors"),
}


@dataclasses.dataclass
class Done:
    """A run and the folder that it wrote."""

    result: RunResult
    out: Path

    @property
    def metrics(self) -> dict:
        return json.loads((self.out / "metrics.json").read_text())

    def text(self, name: str = "trajectory.tum") -> str:
        return (self.out / name).read_text()


def _run(out: Path, source, seed: int = 0, **options) -> Done:
    return Done(run(source, make_system(seed, **options), out, seed), out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Done:
    """An undisturbed run, in a process that has compiled nothing yet."""
    jax.clear_caches()
    return _run(tmp_path_factory.mktemp("runs") / "deep" / "whole", RoomSource(FRAMES))


def test_every_frame_is_tracked_and_right(whole):
    metrics = whole.metrics
    assert (metrics["frames"], metrics["frames_tracked"], metrics["coverage"]) == (36, 36, 1.0)
    assert metrics["ate_rmse_m"] < 0.006
    assert metrics["ate_live_rmse_m"] < 0.008
    assert metrics["ate_max_m"] < 0.02
    assert metrics["rpe_rot_deg"] < 0.3


def test_nothing_compiles_after_the_second_frame(whole):
    assert whole.metrics["recompilations"] == 0
    assert len(whole.result.system.landmark_map.keyframes) > 3  # mapping was exercised


def test_compilations_are_counted():
    with CompilationCounter() as counter:
        jax.jit(lambda x: x * 3 + 1)(np.arange(7.0))
        assert counter.count > 0
        counter.reset()
        assert counter.count == 0
    jax.jit(lambda x: x * 5 + 1)(np.arange(7.0))
    assert counter.count == 0


def test_files_are_there_and_well_formed(whole):
    assert {path.name for path in whole.out.iterdir()} == FILES
    for name in ("trajectory.tum", "trajectory_live.tum"):
        head, *lines = whole.text(name).splitlines()
        assert head.startswith("# timestamp tx ty tz qx qy qz qw: camera to world")
        assert len(lines) == FRAMES
        assert all(len(line.split(" ")) == 8 and line == line.strip() for line in lines)
        read = read_poses(whole.out / name)
        np.testing.assert_array_equal(read.timestamps, RoomSource(FRAMES).timestamps())
    assert (whole.out / "trajectory.png").read_bytes().startswith(b"\x89PNG")
    assert (whole.out / "points.ply").read_bytes().startswith(b"ply\nformat binary_little_endian")
    metrics = whole.metrics
    assert metrics["map_bytes"] == (whole.out / "map.safetensors").stat().st_size
    assert (metrics["sequence"], metrics["features"], metrics["seed"]) == ("room", "sift", 0)
    assert metrics["fps"] > 0
    assert metrics["peak_memory_mb"] > 0
    assert metrics["interrupted"] is False
    stages = metrics["stage_ms"]
    assert {"read", "features", "depth", "tracking", "mapping"} <= stages.keys()
    assert all(0 <= stage["p50"] <= stage["p95"] for stage in stages.values())


def test_final_poses_hang_on_the_map_and_live_ones_do_not_change(whole):
    final, live = (read_poses(whole.out / f"trajectory{kind}.tum") for kind in ("", "_live"))
    difference = np.abs(final.world_from_camera - live.world_from_camera).max()
    assert 1e-6 < difference < 0.05


def test_the_map_can_be_loaded(whole):
    scene = load_map(whole.out / "map.safetensors")
    assert (scene.head, scene.features, scene.feature_dim) == ("landmark_attention", "sift", 128)
    points = whole.result.system.points()[0]
    stored = [
        leaf for leaf in jax.tree.leaves(scene.variables) if np.shape(leaf) == np.shape(points)
    ]
    assert len(stored) == 1
    np.testing.assert_allclose(stored[0], points, atol=0.01)


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("truth", ["none", "false"])
def test_the_same_seed_gives_the_same_bits_whatever_the_ground_truth(whole, tmp_path, truth):
    done = _run(tmp_path, RoomSource(FRAMES, truth=truth))
    for name in ("trajectory.tum", "trajectory_live.tum"):
        assert done.text(name) == whole.text(name)
    for a, b in zip(done.result.system.points(), whole.result.system.points(), strict=True):
        np.testing.assert_array_equal(a, b)
    if truth == "none":
        assert done.metrics["ate_rmse_m"] is None
    else:
        assert done.metrics["ate_rmse_m"] > 0.05  # it was looked at, for the evaluation


def test_interrupting_keeps_what_was_computed(whole, tmp_path):
    done = _run(tmp_path, RoomSource(FRAMES, interrupt_at=20))
    assert done.result.interrupted
    metrics = done.metrics
    assert metrics["interrupted"] is True
    assert (metrics["frames"], metrics["frames_tracked"]) == (20, 20)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    live = whole.text("trajectory_live.tum").splitlines()
    assert done.text("trajectory_live.tum").splitlines() == live[: 1 + 20]  # after the header


@pytest.mark.usefixtures("without_pictures")
def test_bad_frames_are_counted_told_and_skipped(tmp_path, capfd):
    class Odd(RoomSource):
        def __getitem__(self, index):
            frame = super().__getitem__(index)
            if index == 9:  # another size in the middle of the stream
                return dataclasses.replace(frame, rgb=frame.rgb[:100], depth=frame.depth[:100])
            if index == 10:  # tracked all the same
                return dataclasses.replace(frame, depth=None)
            return frame

    bad = (3, 4, 12, 13, 14, 15)
    done = _run(tmp_path, Odd(20, bad=bad))
    metrics = done.metrics
    assert (metrics["frames"], metrics["frames_skipped"], metrics["frames_tracked"]) == (20, 7, 13)
    assert metrics["coverage"] == 0.65
    assert metrics["ate_rmse_m"] < 0.01
    kept = np.delete(RoomSource(20).timestamps(), [*bad, 9])
    read = read_poses(tmp_path / "trajectory.tum")
    np.testing.assert_array_equal(read.timestamps, kept)
    told = capfd.readouterr().err
    assert "skipped: frame 3 is truncated" in told
    assert "000009: image of 320x100 in a stream of 320x240" in told
    assert "skipped 2 more frames" in told


@pytest.mark.parametrize("options", [{"interrupt_at": 0}, {"black": (0, 1, 2)}, {"bad": (0, 1, 2)}])
def test_a_run_without_any_pose_still_leaves_whole_files(tmp_path, options):
    done = _run(tmp_path, RoomSource(3, **options))
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"session.safetensors"}
    assert done.metrics["coverage"] == 0.0
    assert done.metrics["ate_rmse_m"] is None
    assert [line[0] for line in done.text().splitlines()] == ["#"]


@pytest.mark.usefixtures("without_pictures")
def test_duplicate_and_backward_timestamps_do_no_harm(tmp_path):
    class Wild(RoomSource):
        def timestamps(self):
            times = super().timestamps()
            times[5] = times[4]
            times[8] = times[2]
            return times

    assert _run(tmp_path, Wild(12)).metrics["frames_tracked"] == 12


@pytest.mark.usefixtures("without_pictures")
def test_three_of_ten_frames_dropped(tmp_path):
    kept = np.flatnonzero(np.random.default_rng(0).random(40) > 0.3)
    done = _run(tmp_path, RoomSource(len(kept), order=tuple(kept.tolist())))
    assert done.metrics["coverage"] == 1.0
    assert done.metrics["ate_rmse_m"] < 0.01


@pytest.mark.usefixtures("without_pictures")
def test_recordings_are_rendered_before_the_clock_runs_and_nothing_is_fetched(tmp_path):
    prepared = []

    class Rendered(RoomSource):
        def prepare(self, indices=None):
            prepared.extend(range(self.count) if indices is None else indices)

        def __getitem__(self, index):
            assert index in prepared
            return super().__getitem__(index)

    SubsetSource(Rendered(9), start=1, stride=3).prepare()
    assert prepared == [1, 4, 7]
    prepared.clear()
    poses = Rendered(9).poses()
    PosedSource(Rendered(9), poses).prepare()
    assert prepared == list(range(9))
    prepared.clear()
    with no_network():
        assert _run(tmp_path, Rendered(4)).metrics["frames_tracked"] == 4


def test_recordings_that_cannot_be_processed_are_refused_in_one_line(tmp_path):
    system = make_system()
    with pytest.raises(UserError, match="room: no frames"):
        run(RoomSource(0), system, tmp_path / "out")
    with pytest.raises(UserError, match="room: no depth"):
        run(RoomSource(3, has_depth=False), system, tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*file"):
        run(RoomSource(3), system, tmp_path / "file")


@pytest.mark.usefixtures("without_pictures")
def test_mapping_beside_tracking_is_reproducible_and_no_worse(whole, tmp_path):
    runs = [_run(tmp_path / str(i), RoomSource(FRAMES), mapping_lag=3) for i in range(2)]
    assert runs[0].text("trajectory_live.tum") == runs[1].text("trajectory_live.tum")
    assert runs[0].text("trajectory.tum") == runs[1].text("trajectory.tum")
    assert runs[0].metrics["ate_rmse_m"] < 1.5 * whole.metrics["ate_rmse_m"] + 1e-3


@pytest.mark.usefixtures("without_pictures")
def test_at_its_own_pace_every_frame_is_taken_or_counted_as_late(tmp_path):
    source = RoomSource(FRAMES)
    system = make_system(mapping_lag=None)
    result = run(source, system, tmp_path, realtime=True)
    metrics = result.metrics
    assert metrics["realtime"] is True
    processed = metrics["frames"] - metrics["frames_late"]
    assert metrics["frames"] == FRAMES
    assert metrics["processed_share"] == processed / FRAMES
    assert len(system.frames) == processed
    assert metrics["coverage"] == metrics["frames_tracked"] / FRAMES
    assert 0 < metrics["latency_ms_p50"] <= metrics["latency_ms_p95"] <= metrics["latency_ms_max"]
    assert metrics["ate_rmse_m"] < 0.02


def test_the_system_is_made_while_the_recording_is_rendered(monkeypatch):
    rendering, made = threading.Event(), threading.Event()

    class Rendered(RoomSource):
        def prepare(self):
            rendering.set()
            assert made.wait(10)

    def plan(source, options):
        if options.features == "none":
            raise UserError("no such features")

        def create():
            assert rendering.wait(10)
            made.set()
            return "system"

        return create

    monkeypatch.setattr(slam_run, "plan_system", plan)
    assert slam_run.create_while_rendering(Rendered(4), SystemOptions()) == "system"
    rendering.clear()
    with pytest.raises(UserError, match="no such features"):
        slam_run.create_while_rendering(Rendered(4), SystemOptions(features="none"))
    assert not rendering.is_set()  # mistakes are told first
