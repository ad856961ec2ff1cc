"""Velocity between frames and rolling shutter."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import project
from ace_jax.geometry.rigid import rotated, rotation_of, rotation_vector
from ace_jax.geometry.rolling_shutter import MAX_INTERVAL, Motion, unroll

CAMERA = Camera(500.0, 510.0, 320.0, 240.0, 640, 480)
MOTION = Motion(angular=np.array([0.3, -1.5, 0.8]), linear=np.array([0.4, -0.2, 0.3]))


def rolling_image(points, readout):
    """Pixels of points (N, 3) given in the axes of the middle row's moment, row by row."""
    uv = project(points, CAMERA)
    for _ in range(30):  # the row that sees a point depends on where it is seen
        seconds = (uv[:, 1] - (CAMERA.height - 1) / 2) / CAMERA.height * readout
        moved = np.stack(
            [MOTION.after(t)[:3] @ np.append(p, 1.0) for t, p in zip(seconds, points, strict=True)]
        )
        uv = project(moved, CAMERA)
    return uv, moved[:, 2]


def test_between_and_after_are_inverse():
    before = np.eye(4)
    before[:3, :3] = Rotation.from_rotvec([0.1, 0.2, -0.3]).as_matrix()
    before[:3, 3] = [1.0, 2.0, 3.0]
    after = MOTION.after(0.1) @ before
    found = Motion.between(before, after, 0.1)
    np.testing.assert_allclose(found.angular, MOTION.angular, atol=1e-9)
    np.testing.assert_allclose(found.linear, MOTION.linear, atol=1e-9)


@pytest.mark.parametrize("interval", [0.0, -0.03, MAX_INTERVAL * 1.01])
def test_no_motion_from_a_useless_interval(interval):
    assert Motion.between(np.eye(4), np.eye(4), interval) is None


def test_unroll_gives_the_image_of_a_global_shutter():
    rng = np.random.default_rng(0)
    points = np.c_[rng.uniform(-1, 1, (200, 2)), rng.uniform(2, 4, 200)]
    rolled, depth = rolling_image(points, 0.025)
    assert np.abs(rolled - project(points, CAMERA)).max() > 5
    error = unroll(rolled, depth, CAMERA, MOTION, 0.025) - project(points, CAMERA)
    # Left over: rotation and translation are undone one after the other.
    assert np.abs(error).max() < 0.15


def test_unroll_without_depth_undoes_the_rotation():
    rng = np.random.default_rng(0)
    points = np.c_[rng.uniform(-1, 1, (200, 2)), rng.uniform(2, 4, 200)]
    rolled, _ = rolling_image(points, 0.025)
    error = unroll(rolled, np.zeros(200), CAMERA, MOTION, 0.025) - project(points, CAMERA)
    before = rolled - project(points, CAMERA)
    assert np.isfinite(error).all()
    assert np.sqrt((error**2).mean()) < 0.3 * np.sqrt((before**2).mean())


def test_no_readout_no_change():
    uv = np.random.default_rng(0).uniform(10, 400, (50, 2))
    np.testing.assert_allclose(unroll(uv, np.ones(50), CAMERA, MOTION, 0.0), uv, atol=1e-4)


@pytest.mark.parametrize("angle", [0.0, 1e-14, 1e-8, 0.01, 1.0, 2.0, 2.2, 3.1, np.pi - 1e-9])
def test_rotation_vector(angle):
    for axis in np.random.default_rng(0).normal(size=(20, 3)):
        vector = angle * axis / np.linalg.norm(axis)
        matrix = Rotation.from_rotvec(vector).as_matrix()
        np.testing.assert_allclose(rotation_vector(matrix), vector, atol=1e-7)
        np.testing.assert_allclose(rotation_of(vector), matrix, atol=1e-14)
        np.testing.assert_allclose(rotated(axis[None], vector[None])[0], matrix @ axis, atol=1e-14)
        np.testing.assert_allclose(
            rotated(np.eye(3), np.tile(vector, (3, 1))).T, matrix, atol=1e-14
        )
