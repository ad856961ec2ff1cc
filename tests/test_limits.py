"""A full disk, a read-only place, no memory: one line, and what was saved before is whole."""

import dataclasses
import json
import os

import numpy as np
import pytest
from limits import file_size_limit
from slam_scene import CONFIG, RoomSource, make_system

from ace_jax import errors
from ace_jax.data.poses_file import read_poses
from ace_jax.errors import UserError
from ace_jax.localization.scene_map import load_map, save_map
from ace_jax.slam.mapping import local_mapping
from ace_jax.slam.run import run
from ace_jax.slam.sessions.session import load_session

pytestmark = pytest.mark.optimized


@pytest.fixture(scope="module")
def tracked():
    """A system that has seen a few frames."""
    system = make_system()
    for frame in RoomSource(6):
        system.process(frame)
    system.finish()
    return system


def test_a_map_that_does_not_fit_leaves_the_old_one(tracked, tmp_path):
    path = tmp_path / "map.safetensors"
    size = save_map(path, tracked.scene_map(), half=True)
    before = path.read_bytes()
    with (
        file_size_limit(size // 2),
        pytest.raises(UserError, match=r"cannot write .*map\.safetensors"),
    ):
        save_map(path, tracked.scene_map())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    load_map(path)


def test_results_that_fit_are_there_when_the_disk_is_full(tmp_path):
    with file_size_limit(20_000), pytest.raises(UserError, match="cannot write"):
        run(RoomSource(6), make_system(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"trajectory.tum", "trajectory_live.tum"}
    assert len(read_poses(tmp_path / "trajectory.tum").timestamps) == 6
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("without_pictures")
def test_what_was_computed_is_written_when_memory_runs_out(tmp_path, monkeypatch):
    system = make_system()
    locate = system._step

    def exhausted(frame, *rest):
        if frame.index == 4:
            raise MemoryError
        return locate(frame, *rest)

    monkeypatch.setattr(system, "_step", exhausted)
    with pytest.raises(UserError, match=r"broke off: out of memory.*the first 4 frames are in"):
        run(RoomSource(8), system, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["frames_tracked"] == 4
    load_map(tmp_path / "map.safetensors")


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize(
    ("first", "again"), [(4, True), (17, False)], ids=["from the middle on", "once near the end"]
)
def test_all_that_was_tracked_is_written_when_mapping_runs_out_of_memory(
    tmp_path, monkeypatch, first, again
):
    """A job of the mapping thread fails; its result is due some frames later, or after the last."""
    config = dataclasses.replace(CONFIG, keyframe_translation=0.0)  # every second frame
    system, source, failures = make_system(config=config, mapping_lag=3), RoomSource(20), []
    adjust = local_mapping._bundle_adjust

    def exhausted(*arguments):
        if len(system.frames) >= first and (again or not failures):
            failures.append(len(system.frames))
            raise MemoryError
        return adjust(*arguments)

    monkeypatch.setattr(local_mapping, "_bundle_adjust", exhausted)
    with pytest.raises(UserError, match=r"broke off: out of memory.*the first \d+ frames are in"):
        run(source, system, tmp_path)
    assert failures
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    tracked = len(system.frames)
    assert metrics["frames"] == metrics["frames_tracked"] == tracked
    assert tracked == 20 if first > 15 else first <= tracked < first + 10
    assert metrics["ate_rmse_m"] < 0.02
    for name in ("trajectory.tum", "trajectory_live.tum"):
        assert len(read_poses(tmp_path / name).timestamps) == tracked
    load_map(tmp_path / "map.safetensors")
    load_session(tmp_path / "session.safetensors", CONFIG.max_landmarks)


def test_a_defect_is_not_taken_for_a_broken_stream(tmp_path, monkeypatch):
    system = make_system()
    monkeypatch.setattr(system, "_step", lambda *_: np.zeros(3)[5])
    with pytest.raises(IndexError):
        run(RoomSource(3), system, tmp_path)


def test_a_full_device_is_one_line():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError, match="No space") as caught, open("/dev/full", "wb", 0) as file:
        file.write(b"x")
    assert "free some space" in errors.limit_reached(caught.value)
