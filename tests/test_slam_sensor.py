"""What is learned of a sensor: one correction for all depths, kept in sessions, merged."""

import dataclasses
import functools

import numpy as np
import pytest
from slam_scene import CAMERA, CONFIG, RoomSource, make_system, render, resumed

from ace_jax.errors import UserError
from ace_jax.geometry.depth_calibration import (
    COEFFICIENTS,
    CalibrationEquations,
    DepthCalibrator,
    correct_depth,
    recorrect_depth,
)
from ace_jax.geometry.plane_registration import Registration
from ace_jax.localization.scene_map import load_map, part, save_map
from ace_jax.slam.frame_poses import State
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.mapping.depth_edges import DepthEdges
from ace_jax.slam.mapping.sensor_changes import calibrate_depth
from ace_jax.slam.sessions.checkpoint import SlamCheckpoint
from ace_jax.slam.sessions.merging import merge
from ace_jax.slam.sessions.session import load_session, with_session
from ace_jax.slam.sessions.tracking_state import tracking_state

pytestmark = pytest.mark.optimized

BEND = np.array([0.003, -0.008, 0.004, -0.006, 0.003, -0.006,
                 -0.004, 0.006, -0.004, 0.008, -0.003, 0.006])  # fmt: skip
CLOSE = 0.01  # metres between a run that was resumed and the undisturbed one
V, U = np.mgrid[: CAMERA.height, : CAMERA.width]
PIXELS = np.stack([U, V], -1).reshape(-1, 2).astype(float)


@functools.cache
def _bent_depth(view: int) -> np.ndarray:
    depth = render(view)[1]
    bent = recorrect_depth(PIXELS, depth.reshape(-1), CAMERA, BEND, np.zeros(COEFFICIENTS))
    return bent.reshape(depth.shape)


class BentRoom(RoomSource):
    """The room as a sensor sees it whose depth is bent."""

    def __getitem__(self, index):
        return dataclasses.replace(super().__getitem__(index), depth=_bent_depth(index))


def evidence(bend: np.ndarray, weight: float = 1e9) -> DepthCalibrator:
    """What a recording tells that shows a bend clearly."""
    estimator = DepthCalibrator()
    hessian = weight * np.eye(COEFFICIENTS)
    estimator.add(CalibrationEquations(hessian, -hessian @ bend, np.zeros(COEFFICIENTS)))
    return estimator


def assert_all_depth_is_corrected(system: LandmarkSlam, source: RoomSource) -> None:
    """Depth of each keyframe is what the sensor said there, corrected by the map's bend."""
    for keyframe in system.landmark_map.keyframes.values():
        seen = system.observe(source[keyframe.frame_index]).depth
        known = (keyframe.depth > 0) & (seen > 0)
        assert known.sum() > 100
        wanted = correct_depth(keyframe.uv, seen, CAMERA, system.landmark_map.depth_calibration)
        np.testing.assert_allclose(keyframe.depth[known], wanted[known], rtol=1e-4)


def saved(system: LandmarkSlam, path):
    save_map(path, with_session(system.scene_map(), system.landmark_map), half=True)
    return path


@pytest.fixture(scope="module")
def bent():
    """A system after some frames of the bent room."""
    system = make_system()
    for frame in BentRoom(36):
        system.process(frame)
    system.finish()
    return system


@pytest.mark.parametrize("lag", [0, 3])
def test_a_keyframe_is_corrected_by_the_bend_that_counts_when_it_comes(lag, monkeypatch):
    source, system = RoomSource(10), make_system(mapping_lag=lag)
    monkeypatch.setattr(system.selection, "wanted", lambda *_: True)
    monkeypatch.setattr(system.mapping, "_task", lambda: (job for job in ()))  # nothing else waits

    def learn(bend):
        yield lambda: None
        calibrate_depth(system.landmark_map, bend, CAMERA)
        corrected.append(len(system.landmark_map.keyframes))

    corrected = []
    for frame in source:
        system.process(frame)
        if frame.index in (2, 6):
            system.mapping.queue.submit(learn(BEND * frame.index / 6))
    # The queue takes the result before the lag's last frame, which is a keyframe, too.
    assert corrected == [2 + max(lag, 1), 6 + max(lag, 1)]
    assert len(system.landmark_map.keyframes) == 10
    assert_all_depth_is_corrected(system, source)


def test_what_was_learned_comes_back(bent, tmp_path):
    landmark_map, again = bent.landmark_map, resumed(saved(bent, tmp_path / "session"))
    assert np.abs(landmark_map.depth_calibration).max() > 1e-3
    assert len(landmark_map.edges) > 5
    np.testing.assert_array_equal(
        again.landmark_map.depth_calibration, landmark_map.depth_calibration
    )
    np.testing.assert_array_equal(
        again.landmark_map.calibrator.calibration, landmark_map.calibrator.calibration
    )
    assert again.landmark_map.edges.trust == landmark_map.edges.trust
    assert again.landmark_map.edges.unlearned == landmark_map.edges.unlearned != []
    numbers, rows = np.array(list(landmark_map.keyframes)), np.arange(len(landmark_map.keyframes))
    for mine, theirs in zip(
        again.landmark_map.edges.within(numbers, rows, 4, 16).__dict__.values(),
        landmark_map.edges.within(numbers, rows, 4, 16).__dict__.values(),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, theirs)
    for mine, theirs in zip(
        again.landmark_map.keyframes.values(), landmark_map.keyframes.values(), strict=True
    ):
        np.testing.assert_array_equal(mine.planes, theirs.planes)
    sigma = bent.tracker.noise.pixel_sigma
    assert sigma != make_system().tracker.noise.pixel_sigma
    assert again.tracker.noise.pixel_sigma == again.mapping.mapper.noise.pixel_sigma == sigma


def test_landmarks_still_belong_to_the_keyframe_that_made_them(bent, tmp_path):
    """Closing a loop moves a landmark with its keyframe."""
    again = resumed(saved(bent, tmp_path / "session")).landmark_map
    made = again.created_at[again.valid]
    assert len(np.unique(made)) > 3
    for slot in np.flatnonzero(again.valid):
        observers = again.observed.seen_by[slot, : again.observations[slot]]
        assert again.created_at[slot] == observers.min()


@pytest.mark.parametrize("calibrated", [True, False])
def test_sessions_of_earlier_versions_are_read(bent, tmp_path, calibrated):
    content = load_map(saved(bent, tmp_path / "session"))
    new = ("bend/", "edge/", "keyframe/planes", "settled_bend", "pixel_residual")
    new += () if calibrated else ("depth_bend",)
    old = {k: x for k, x in content.extra.items() if not k.startswith(new)}
    assert len(old) < len(content.extra) - 8
    save_map(tmp_path / "old", dataclasses.replace(content, extra=old))
    again = resumed(tmp_path / "old")
    np.testing.assert_array_equal(
        again.landmark_map.calibrator.calibration, calibrated * bent.landmark_map.depth_calibration
    )
    assert len(again.landmark_map.edges) == 0
    assert again.tracker.noise.pixel_sigma == make_system().tracker.noise.pixel_sigma
    for i in range(30, 36):
        again.process(BentRoom(36)[i])
    assert again.frames[-1].live_camera_from_world is not None


@pytest.mark.parametrize("name", ["bend/hessian", "edge/pairs", "edge/poses", "keyframe/planes"])
def test_what_does_not_fit_is_one_line(bent, tmp_path, name):
    content = load_map(saved(bent, tmp_path / "session"))
    for spoil in (lambda x: x[:-1], lambda x: x - 1e6 * np.ones_like(x)):
        if name in ("edge/poses", "keyframe/planes") and spoil(np.ones(2)).size == 2:
            continue  # any finite numbers are possible
        extra = content.extra | {name: spoil(content.extra[name])}
        save_map(tmp_path / "broken", dataclasses.replace(content, extra=extra))
        with pytest.raises(UserError, match="not a complete session"):
            load_session(tmp_path / "broken", CONFIG.max_landmarks)


@pytest.mark.parametrize("lag", [0, 2])
def test_a_resumed_run_follows_the_undisturbed_one(lag, tmp_path):
    source, whole = BentRoom(40), make_system(mapping_lag=lag)
    kept, at = SlamCheckpoint(tmp_path, "settings", seconds=0.0), None
    for frame in source:
        whole.process(frame)
        busy = tracking_state(whole)["unmapped"].size > 0  # what is under way is not lost
        if at is None and frame.index >= 15 and (busy or lag == 0):
            at = frame.index
            kept.frame_done(whole, at + 1)
            kept.close()
            noise, bend = whole.tracker.noise.pixel_sigma, whole.landmark_map.calibrator.calibration
    whole.finish()
    again = resumed(kept.path, mapping_lag=lag)
    assert again.tracker.noise.pixel_sigma == noise
    np.testing.assert_array_equal(again.landmark_map.calibrator.calibration, bend)
    assert kept.restore(again) == at + 1
    assert again.state is State.TRACKING
    stands = part(load_map(kept.path).extra, "tracking/")
    assert stands.keys() == tracking_state(again).keys()
    for name, values in tracking_state(again).items():
        np.testing.assert_array_equal(values, stands[name], err_msg=name)
    for i in range(at + 1, len(source)):
        again.process(source[i])
    again.finish()
    assert len(again.landmark_map.keyframes) == len(whole.landmark_map.keyframes)
    assert (
        np.abs(again.landmark_map.depth_calibration - whole.landmark_map.depth_calibration).max()
        < 1e-3
    )
    for mine, theirs in (
        (again.live_trajectory(), whole.live_trajectory()),
        (again.final_trajectory(), whole.final_trajectory()),
    ):
        np.testing.assert_array_equal(mine[0], theirs[0])
        assert np.linalg.norm((mine[1] - theirs[1])[:, :3, 3], axis=1).max() < CLOSE


def test_merged_maps_have_one_bend(tmp_path):
    source = BentRoom(40)
    first, second = make_system(), make_system()
    for i in range(24):
        first.process(source[i])
    for i in range(16, 40):
        second.process(source[i])
    for system, bend in ((first, 0.5 * BEND), (second, 1.5 * BEND)):
        system.finish()
        system.landmark_map.calibrator = evidence(bend)
        calibrate_depth(system.landmark_map, bend, CAMERA)
    edges = len(first.landmark_map.edges) + len(second.landmark_map.edges)
    merge(first, second.landmark_map)
    np.testing.assert_allclose(first.landmark_map.depth_calibration, BEND, atol=3e-4)
    assert_all_depth_is_corrected(first, source)
    assert len(first.landmark_map.edges) >= edges


def test_edges_of_keyframes_that_are_gone_are_not_kept():
    edges = DepthEdges()
    found = Registration(
        other_from_camera=np.tile(np.eye(4, dtype=np.float32), (2, 1, 1)),
        information=np.tile(np.eye(6, dtype=np.float32), (2, 1, 1)),
        move=np.zeros((2, 6), np.float32),
        success=np.ones(2, bool),
    )
    edges.add(7, [5, 3], found)
    content = edges.content({5: 0, 7: 1})
    np.testing.assert_array_equal(content["pairs"], [[1, 0]])
    assert len(content["unlearned"]) == 0
    later = DepthEdges()
    later.adopt(edges.content({3: 0, 5: 1, 7: 2}), first=10, count=3)
    assert later.unlearned == [(12, [11, 10])]
    assert len(later) == 2
    with pytest.raises(ValueError, match="not there"):
        later.adopt(edges.content({3: 0, 5: 1, 7: 2}), first=0, count=2)
