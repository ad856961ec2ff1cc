"""A frame's own camera, a session's camera, and the machine's: what SLAM assumes of each."""

import dataclasses
import sys

import numpy as np
import pytest
from slam_scene import CAMERA, FEATURES, RoomSource, make_system, world_from_camera

from ace_jax import runtime
from ace_jax.data.frame import BadFrame, as_seen_by, own_cameras
from ace_jax.data.subset import SubsetSource
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera, largest_shift, project, unproject
from ace_jax.localization.scene_map import save_map
from ace_jax.slam.run import SystemOptions, create_system, run
from ace_jax.slam.sessions.session import with_session

pytestmark = pytest.mark.optimized


def zoomed(i: int) -> Camera:
    """A phone's camera, which focuses and stabilises its picture: another one for each frame."""
    factor = 1 + 0.06 * np.sin(0.7 * i)
    return dataclasses.replace(
        CAMERA, fx=CAMERA.fx * factor, fy=CAMERA.fy * factor, cx=CAMERA.cx + 5 * np.cos(1.3 * i)
    )


class Focusing(RoomSource):
    """The room, seen by a camera whose intrinsics change from frame to frame."""

    own_cameras = True

    def __getitem__(self, index):
        frame = super().__getitem__(index)
        return dataclasses.replace(as_seen_by(frame, zoomed(index)), index=index)


def test_cameras_differ_by_where_they_show_a_point():
    assert largest_shift(CAMERA, CAMERA) == 0.0
    other = dataclasses.replace(CAMERA, fx=270.0, fy=255.0, cx=150.0)
    u, v = np.meshgrid(np.arange(CAMERA.width), np.arange(CAMERA.height))
    uv = np.stack([u, v], -1).reshape(-1, 2).astype(np.float64)
    seen = project(unproject(uv, np.ones(len(uv)), CAMERA), other)
    shift = np.abs(np.asarray(seen) - uv).max(0)
    np.testing.assert_allclose(largest_shift(CAMERA, other), np.hypot(*shift), rtol=1e-4)
    assert largest_shift(CAMERA, dataclasses.replace(CAMERA, width=640)) == np.inf


def test_a_frame_is_resampled_to_another_camera():
    frame = RoomSource(1)[0]
    other = dataclasses.replace(CAMERA, fx=275.0, fy=270.0, cx=165.0, cy=117.0)
    there = as_seen_by(frame, other)
    assert there.camera == other
    # What either shows of a wall is the same point: depth along the ray does not change.
    rng = np.random.default_rng(0)
    uv = rng.uniform([60, 50], [260, 190], (500, 2)).round()
    back = np.asarray(project(unproject(uv, np.ones(500), other), CAMERA))
    u, v = uv.astype(int).T
    column, row = back.round().astype(int).T
    np.testing.assert_allclose(there.depth[v, u], frame.depth[row, column], rtol=0.03)
    grey, before = there.rgb.mean(-1)[v, u], frame.rgb.mean(-1)[row, column]
    assert np.corrcoef(grey, before)[0, 1] > 0.9
    wider = as_seen_by(frame, dataclasses.replace(CAMERA, fx=200.0, fy=200.0))
    assert not wider.depth[:, :10].any()  # where the frame shows nothing, nothing is known
    almost = dataclasses.replace(CAMERA, fx=CAMERA.fx + 0.05)
    assert as_seen_by(frame, almost) is frame


def test_a_camera_that_focuses_is_tracked_like_one_that_does_not():
    source, system = Focusing(24), make_system()
    assert max(largest_shift(CAMERA, source[i].camera) for i in range(24)) > 10
    start = np.linalg.inv(world_from_camera(0))
    for i in range(24):
        tracked = system.process(source[i])
        assert tracked.live_camera_from_world is not None
        found = np.linalg.inv(tracked.live_camera_from_world)[:3, 3]
        assert np.linalg.norm((start @ world_from_camera(i))[:3, 3] - found) < 0.02


def test_intrinsics_of_another_size_than_the_image_are_a_bad_frame():
    frame, system = RoomSource(1)[0], make_system()
    for wrong, match in (
        (
            dataclasses.replace(frame, camera=Camera(525.0, 525.0, 320.0, 240.0, 640, 480)),
            "640x480",
        ),
        (dataclasses.replace(frame, rgb=frame.rgb[:100]), "320x100"),
    ):
        for look in (system.observe, system.process):
            with pytest.raises(BadFrame, match=match):
                look(wrong)
    assert not system.frames


def test_a_part_of_a_source_says_whose_cameras_it_has():
    assert own_cameras(SubsetSource(Focusing(9), stride=2))
    assert not own_cameras(SubsetSource(RoomSource(9), stride=2))


FEATURE_OPTIONS = {"image_size": None, "max_features": FEATURES}


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """The session of a run in the room, with features that are not the default ones."""
    system = make_system(feature_options=FEATURE_OPTIONS)
    for frame in RoomSource(4):
        system.process(frame)
    path = tmp_path_factory.mktemp("session") / "session.safetensors"
    save_map(path, with_session(system.scene_map(), system.landmark_map), half=True)
    return path


def test_a_session_goes_on_with_its_camera_alone(session):
    options = SystemOptions(session=session, frozen=True)  # that compiles least
    close = dataclasses.replace(CAMERA, fx=CAMERA.fx + 0.03)
    assert create_system(RoomSource(4, camera=close), options).camera == CAMERA
    other = dataclasses.replace(CAMERA, fx=280.0, cx=150.25)
    with pytest.raises(UserError, match=r"fx is 280, there 262, cx is 150\.25, there 159\.5"):
        create_system(RoomSource(4, camera=other), options)
    # Frames of a camera that focuses are resampled to the session's.
    phone = Focusing(4, camera=zoomed(3))
    assert create_system(phone, options).camera == CAMERA
    large = Focusing(4, camera=Camera(525.0, 525.0, 320.0, 240.0, 640, 480))
    with pytest.raises(UserError, match="width is 640, there 320"):
        create_system(large, options)


def test_a_session_goes_on_with_its_features(session):
    system = create_system(RoomSource(4), SystemOptions(session=session, frozen=True))
    assert system.extractor.max_features == FEATURES
    assert system.scene_map().feature_options == FEATURE_OPTIONS


def test_a_system_without_the_posix_module_runs_and_knows_no_peak(monkeypatch, tmp_path):
    assert runtime.peak_memory_mb() > 0
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows: importing it fails
    assert runtime.peak_memory_mb() is None
    metrics = run(RoomSource(3), make_system(), tmp_path).metrics
    assert metrics["peak_memory_mb"] is None
    assert "unknown" in (tmp_path / "report.html").read_text()
