"""The readout time of a rolling shutter, learned from pairs of views and used by the map."""

import numpy as np
import pytest
from slam_scene import RoomSource, make_system
from test_slam_landmark_map import make_map

from ace_jax.geometry import rigid
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import project, rays
from ace_jax.geometry.readout_calibration import (
    ReadoutEstimator,
    SeenPoints,
    pixel_rate,
    readout_of_pair,
)
from ace_jax.geometry.rolling_shutter import Motion, unroll
from ace_jax.slam.mapping.sensor_changes import set_readout
from ace_jax.slam.sessions.session import restored_map, session_entries

pytestmark = pytest.mark.optimized

CAMERA = Camera(525.0, 525.0, 319.5, 239.5, 640, 480)
TURN, OTHER = (
    Motion(np.array([0.2, 1.2, 0.3]), np.array([0.1, 0.0, 0.1])),
    Motion(np.array([-0.8, -0.3, 0.6]), np.array([0.0, 0.1, 0.0])),
)


def _distorted(points: np.ndarray, motion: Motion, readout: float) -> np.ndarray:
    """Pixels (N, 2) of points in the axes of the middle row, as a rolling shutter sees them."""
    truth = uv = project(points, CAMERA)
    for _ in range(20):  # the pixel whose correction is the global shutter's
        uv = uv + truth - unroll(uv, points[:, 2], CAMERA, motion, readout)
    return uv


def _pair(readout: float, rng, motions=(TURN, OTHER), noise: float = 0.3):
    uv = rng.uniform((20, 20), (620, 460), (200, 2))
    first = rays(uv, CAMERA) * rng.uniform(1, 4, (200, 1))
    relative = np.eye(4)
    relative[:3, :3] = rigid.rotation_of(np.array([0.02, -0.03, 0.05]))
    relative[:3, 3] = 0.05, 0.02, -0.03
    views = []
    for points, motion in zip((first, rigid.transform(relative, first)), motions, strict=True):
        seen = _distorted(points, motion, readout) + rng.normal(0, noise, (200, 2))
        rate = pixel_rate(seen, points[:, 2], CAMERA, motion)
        views.append(SeenPoints(seen, points[:, 2], rate))
    return views, relative


@pytest.mark.parametrize("readout", [0.025, 0.0, -0.02])
def test_two_views_at_different_velocities_tell_the_readout(readout):
    views, relative = _pair(readout, np.random.default_rng(0))
    wrong = relative.copy()
    wrong[:3, 3] += 0.01
    # A tenth of the matches are wrong.
    views[1].uv[::10] += 30
    found, information = readout_of_pair(*views, wrong, 0.0, CAMERA, 1.0, 0.0075)
    assert found == pytest.approx(readout, abs=1e-3)
    assert information > 1e6


def test_views_at_one_velocity_tell_little():
    rng = np.random.default_rng(1)
    _, clear = readout_of_pair(*_pair(0.02, rng)[0], _pair(0.02, rng)[1], 0, CAMERA, 1.0, 0.0075)
    views, relative = _pair(0.02, rng, (TURN, TURN))
    _, information = readout_of_pair(*views, relative, 0.0, CAMERA, 1.0, 0.0075)
    assert information < 0.1 * clear


def test_pairs_replace_what_is_stated_as_they_become_many():
    estimator = ReadoutEstimator()
    assert estimator.readout(0.03) == pytest.approx(0.03)
    for _ in range(100):
        estimator.add(0.02, 1e7, stated=0.0)
    assert estimator.readout(0.0) == pytest.approx(0.02, abs=1e-3)
    assert 0.02 < estimator.readout(0.03) < 0.0215
    before = estimator.readout(0.0)
    estimator.add(-0.5, 1e7, stated=0.0)  # one that contradicts all others
    assert estimator.readout(0.0) == pytest.approx(before, abs=1e-3)


def test_unclear_pairs_hardly_count():
    estimator = ReadoutEstimator()
    for _ in range(20):
        estimator.add(0.0, (0.01) ** -2, stated=0.03)
    assert estimator.readout(0.03) > 0.0295


def test_another_readout_moves_keyframes_and_their_landmarks():
    landmark_map = make_map()
    keyframe = landmark_map.keyframes[0]
    camera = Camera(100.0, 100.0, 50.0, 50.0, 101, 101)
    keyframe.uv_rate = np.tile(np.float32([100.0, 0.0]), (len(keyframe.uv), 1))
    uv, points = keyframe.uv.copy(), landmark_map.points.copy()
    set_readout(landmark_map, 0.01, 0.0, camera)
    np.testing.assert_allclose(keyframe.uv - uv, [[1.0, 0.0]] * len(uv), atol=1e-4)
    slots = landmark_map.landmarks_of(0)[:6]
    # One pixel, 2 m ahead, at a focal length of 100 pixels.
    np.testing.assert_allclose(
        landmark_map.points[slots] - points[slots], [[0.02, 0.0, 0.0]] * 6, atol=1e-5
    )
    assert landmark_map.readout == landmark_map.settled_readout == 0.01


def test_sessions_keep_what_was_learned():
    system = make_system()
    for frame in RoomSource(6):
        system.process(frame)
    system.finish()
    landmark_map = system.landmark_map
    landmark_map.shutter.add(0.02, 1e7, 0.0)
    entries = session_entries(landmark_map, system.camera)
    again = restored_map(entries, system.camera, landmark_map.capacity)
    assert again.shutter == landmark_map.shutter
    assert again.readout == landmark_map.readout is not None
    rates = [k.uv_rate for k in again.keyframes.values()]
    for mine, theirs in zip(rates, landmark_map.keyframes.values(), strict=True):
        assert (mine is None) == (theirs.uv_rate is None or not theirs.uv_rate.any())
    # Sessions of earlier versions have none of it.
    old = {n: x for n, x in entries.items() if n not in ("shutter", "keyframe/uv_rate")}
    again = restored_map(old, system.camera, landmark_map.capacity)
    assert again.readout is None
    assert again.shutter == ReadoutEstimator()


def test_a_global_shutter_is_found_to_be_one():
    system = make_system()
    for frame in RoomSource(20):
        system.process(frame)
    assert abs(system.landmark_map.shutter.readout(0.0)) < 3e-3
