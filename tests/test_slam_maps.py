"""Several maps in one run: begun where the camera is lost, joined where a place is recognised."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from slam_scene import (
    CAMERA,
    CONFIG,
    FEATURES,
    Killed,
    RoomSource,
    make_system,
    render,
    resumed,
    world_from_camera,
)

from ace_jax.data.frame import Frame
from ace_jax.data.poses_file import read_poses
from ace_jax.evaluation.trajectory import Trajectory, compare
from ace_jax.features.sift import Sift
from ace_jax.geometry.rigid import difference
from ace_jax.slam.frame_poses import State
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.run import run
from ace_jax.slam.sessions.checkpoint import SlamCheckpoint
from ace_jax.slam.sessions.session import load_session
from ace_jax.slam.tracking import loss
from ace_jax.slam.tracking.frame_features import blank_features

pytestmark = pytest.mark.optimized

AWAY = range(12, 30)
# Twelve frames in a room, eighteen in another one, then back.
THERE_AND_BACK = RoomSource(38, order=(*range(12), *range(18), *range(10, 18)), foreign=tuple(AWAY))


def _errors(system: LandmarkSlam, source: RoomSource, live: bool = False) -> np.ndarray:
    estimate = Trajectory(*system.poses.trajectory(live))
    return compare(estimate, Trajectory(source.timestamps(), source.poses())).ate_trans_m


def _begin_anew(system: LandmarkSlam, monkeypatch) -> None:
    """The camera is lost, and does not recognise the room at first."""
    system.maps.go_to(system.atlas.begin())
    system.state = State.LOST
    monkeypatch.setattr(system.maps, "find", lambda *_: None)


def test_another_room_is_a_map_of_its_own_and_is_told(tmp_path, capsys):
    (tmp_path / "trajectory_map7.tum").touch()  # of an earlier run
    result = run(THERE_AND_BACK, make_system(), tmp_path)
    first, second = result.metrics["maps"]
    began = AWAY.start + CONFIG.new_map_after - 1
    assert (first["map"], first["first"], first["last"]) == (0, 0, 37)
    assert first["frames_tracked"] == result.metrics["frames_tracked"] == 20
    assert (second["map"], second["first"], second["last"]) == (1, began, AWAY.stop - 1)
    (lost,) = result.metrics["lost"]
    assert (lost["first"], lost["last"], lost["cause"]) == (12, began - 1, loss.UNKNOWN_PLACE)
    assert result.metrics == json.loads((tmp_path / "metrics.json").read_text())
    assert _errors(result.system, THERE_AND_BACK).max() < 0.01
    # Files of the other map, and none of earlier runs.
    assert len(read_poses(tmp_path / "trajectory.tum").timestamps) == 20
    assert len(read_poses(tmp_path / "trajectory_map1.tum").timestamps) == AWAY.stop - began
    assert not (tmp_path / "trajectory_map7.tum").exists()
    _, landmark_map = load_session(tmp_path / "session_map1.safetensors", CONFIG.max_landmarks)
    assert len(landmark_map) == second["landmarks"]
    page = (tmp_path / "report.html").read_text()
    assert "Tracked and lost" in page
    assert "session_map1" in page


@pytest.mark.parametrize("lag", [0, 2])
def test_maps_are_joined_when_the_place_is_recognised(monkeypatch, lag):
    source = RoomSource(46, order=(*range(14), *range(20, 52)))
    system = make_system(mapping_lag=lag)
    for frame in source:
        if frame.index == 14:
            _begin_anew(system, monkeypatch)
        system.process(frame)
    assert list(system.atlas.maps) == [0]  # the older one's axes are kept
    assert all(f.map == 0 and f.live_camera_from_world is not None for f in system.frames)
    np.testing.assert_allclose(system.frames[0].live_camera_from_world, np.eye(4), atol=1e-9)
    assert _errors(system, source, live=True).max() < 0.02
    keyframes = len(system.landmark_map.keyframes)
    system.finish()
    assert _errors(system, source).max() < 0.01
    assert len(system.landmark_map.keyframes) == keyframes
    # Landmarks that both maps had are one now.
    early, late = (
        system.landmark_map.slots_seen_by(
            [n for n, k in system.landmark_map.keyframes.items() if (k.frame_index < 14) is before]
        )
        for before in (True, False)
    )
    assert len(np.intersect1d(early, late)) > 50


def test_the_older_map_adopts_the_newer_one_when_the_camera_is_back_in_it(monkeypatch):
    source = RoomSource(40, order=(*range(14), *range(20, 30), *range(4, 20)))
    system = make_system()
    search = system.mapping.joiner.search
    monkeypatch.setattr(system.mapping.joiner, "search", lambda *_: iter(()))
    for frame in source:
        if frame.index == 14:
            _begin_anew(system, monkeypatch)
        if frame.index == 24:  # found in the old map
            assert system.atlas.current == 1
            monkeypatch.setattr(system.mapping.joiner, "search", search)
            system.maps.go_to(0)
            system.state = State.LOST
        system.process(frame)
    system.finish()
    assert list(system.atlas.maps) == [0]
    assert len(system.final_trajectory()[0]) == len(source)
    assert _errors(system, source).max() < 0.01


def test_the_end_of_a_run_joins_what_overlaps(monkeypatch):
    source = RoomSource(28, order=(*range(14), *range(20, 34)))
    system = make_system()
    monkeypatch.setattr(system.mapping.joiner, "search", lambda *_: iter(()))
    for frame in source:
        if frame.index == 14:
            _begin_anew(system, monkeypatch)
        system.process(frame)
    assert list(system.atlas.maps) == [0, 1]
    system.finish()
    assert list(system.atlas.maps) == [0]
    assert _errors(system, source).max() < 0.01


def test_a_map_that_fails_at_once_begins_anew_at_once():
    source = RoomSource(20, order=(0, *range(19)), foreign=tuple(range(1, 20)))
    system = make_system()
    for frame in source:
        system.process(frame)
    assert list(system.atlas.maps) == [1]
    assert [f.live_camera_from_world is None for f in system.frames] == [True] + [False] * 19
    assert system.frames[0].lost_because == loss.GIVEN_UP


def test_only_so_many_maps_are_kept():
    config = dataclasses.replace(CONFIG, max_maps=2, new_map_after=1)
    system = make_system(config=config)
    for count in (3, 5, 4, 6):
        system.maps.go_to(system.atlas.begin())
        system.atlas.tracked[system.atlas.current] = count
    assert list(system.atlas.tracked.values()) == [5, 6]


@pytest.mark.usefixtures("without_pictures")
def test_a_session_is_never_given_up(tmp_path):
    recorded = run(RoomSource(16), make_system(), tmp_path).system
    later = resumed(tmp_path / "session.safetensors", close_loops=True)
    source = RoomSource(20, foreign=tuple(range(20)))
    for frame in source:
        later.process(frame)
    later.finish()
    assert later.atlas.current == later.atlas.session == 0
    assert len(later.landmark_map.keyframes) == len(recorded.landmark_map.keyframes)
    assert len(later.final_trajectory()[0]) == 0
    assert len(later.poses.trajectory(live=False, number=1)[0]) > 10


@pytest.mark.usefixtures("without_pictures")
def test_a_killed_run_goes_on_with_all_its_maps(tmp_path):
    checkpoint = SlamCheckpoint(tmp_path, "settings", seconds=0.0)
    killed = dataclasses.replace(THERE_AND_BACK, killed_at=26)
    with pytest.raises(Killed):
        run(killed, make_system(), tmp_path, checkpoint=checkpoint)
    checkpoint.close()
    checkpoint = SlamCheckpoint(tmp_path, "settings", seconds=0.0)
    assert checkpoint.unfinished()
    system = resumed(checkpoint.path)
    metrics = run(THERE_AND_BACK, system, tmp_path, checkpoint=checkpoint).metrics
    first, second = metrics["maps"]
    assert (first["map"], first["frames_tracked"]) == (0, 20)
    assert (second["map"], second["last"]) == (1, AWAY.stop - 1)
    assert metrics["lost"][0]["cause"] == loss.UNKNOWN_PLACE
    assert _errors(system, THERE_AND_BACK).max() < 0.01


@pytest.mark.parametrize("matched", [True, False])
def test_a_wide_step_is_bridged_by_the_last_frames_features(monkeypatch, matched):
    """Steps of up to 20 cm; nothing else can find them here."""
    system = make_system(new_maps=False)
    monkeypatch.setattr(system.tracker, "_relocalize", lambda *_: None)
    monkeypatch.setattr(system.last_frame, "by_pixels", lambda *_: None)
    if not matched:
        monkeypatch.setattr(system.last_frame, "by_features", lambda *_: None)
    views = (*range(6), 11, 16, 21, 26)
    for frame in RoomSource(len(views), order=views):
        system.process(frame)
    if not matched:
        assert system.state is State.LOST
        return
    for view, frame in zip(views, system.frames, strict=True):
        truth = np.linalg.inv(world_from_camera(view)) @ world_from_camera(0)
        metres, radians = difference(frame.live_camera_from_world, truth)
        assert metres < 0.02
        assert radians < 0.01


def test_the_likely_cause_of_a_loss():
    extractor = Sift(image_size=None, max_features=FEATURES)
    rgb, depth = render(0)
    last = Frame(0, "0", 0.0, rgb, depth, CAMERA)
    seen = blank_features(extractor)
    seen = seen.replace(mask=np.ones_like(seen.mask), depth=np.ones_like(seen.depth))

    def cause(features=seen, turn=0.0, **changes) -> str:
        frame = dataclasses.replace(last, timestamp=0.1, **changes)
        return loss.likely_cause(frame, features, last, turn)

    assert cause(rgb=rgb // 20) == loss.DARK
    assert cause(depth=None) == cause(depth=0 * depth) == loss.NO_DEPTH
    assert cause(seen.replace(depth=0 * seen.depth)) == loss.NO_DEPTH
    assert cause(seen.replace(mask=np.arange(FEATURES) < 20)) == loss.LITTLE_TEXTURE
    assert cause(rgb=cv2.GaussianBlur(rgb, None, 4.0)) == loss.BLUR
    assert cause(turn=0.2) == loss.FAST_TURN
    assert cause() == loss.UNKNOWN_PLACE
