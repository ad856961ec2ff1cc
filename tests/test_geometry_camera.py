"""Projection and rigid motions: host and device agree, and undo each other."""

import jax
import jax.numpy as jnp
import numpy as np
from data_scene import rotation

from ace_jax.geometry import camera, host_camera, rigid, se3

CAMERA = camera.Camera(525.0, 515.0, 319.5, 239.5, 640, 480)


def _motions(count: int, angle: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    motions = np.tile(np.eye(4), (count, 1, 1))
    motions[:, :3, :3] = [rotation(angle * axis) for axis in rng.normal(size=(count, 3))]
    motions[:, :3, 3] = rng.normal(size=(count, 3))
    return motions


def test_projection_on_the_host_is_that_on_the_device():
    rng = np.random.default_rng(1)
    points = rng.uniform([-2, -2, -1], [2, 2, 5], (200, 3))  # some behind the camera
    on_device = jax.jit(camera.project)(jnp.float32(points), CAMERA)
    np.testing.assert_allclose(host_camera.project(points, CAMERA), on_device, rtol=1e-4, atol=1e-2)
    front = points[points[:, 2] > camera.MIN_DEPTH]
    uv = host_camera.project(front, CAMERA)
    np.testing.assert_allclose(host_camera.unproject(uv, front[:, 2], CAMERA), front, atol=1e-12)
    back = camera.unproject(jnp.float32(uv), jnp.float32(front[:, 2]), CAMERA)
    np.testing.assert_allclose(back, front, atol=1e-5)
    homogeneous = host_camera.rays(uv, CAMERA) @ host_camera.intrinsic_matrix(CAMERA).T
    np.testing.assert_allclose(homogeneous, np.c_[uv, np.ones(len(uv))], atol=1e-9)


def test_a_pose_takes_pixels_to_the_world_and_back():
    pose, uv, depth = _motions(1)[0], np.float64([[10, 20], [600, 400]]), np.array([1.0, 3.0])
    world = host_camera.unproject_to_world(uv, depth, CAMERA, pose)
    np.testing.assert_allclose(host_camera.project(rigid.transform(pose, world), CAMERA), uv)


def test_a_resized_camera_sees_the_same_corners():
    small = CAMERA.resized(320, 120)
    assert small.pixel_scale == 0.5
    corners = np.float64([[-0.5, -0.5], [639.5, 479.5]])
    expected = (corners + 0.5) * [0.5, 0.25] - 0.5
    rays = host_camera.rays(corners, CAMERA)
    np.testing.assert_allclose(host_camera.project(rays, small), expected)


def test_rigid_motions_on_the_host_are_those_on_the_device():
    motions = _motions(20)
    points = np.random.default_rng(2).normal(size=(20, 7, 3))
    for host, device in (
        (rigid.invert(motions), se3.invert(jnp.float32(motions))),
        (rigid.transform(motions, points), se3.transform(*map(jnp.float32, (motions, points)))),
        (rigid.rotation_angle(motions), se3.rotation_angle(jnp.float32(motions[:, :3, :3]))),
    ):
        np.testing.assert_allclose(host, device, atol=1e-5)
    np.testing.assert_allclose(
        rigid.invert(motions) @ motions, np.tile(np.eye(4), (20, 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(rigid.centre(motions), rigid.invert(motions)[:, :3, 3], atol=1e-12)


def test_differences_of_cameras():
    pose = _motions(1)[0]
    moved = np.tile(np.eye(4), (3, 1, 1))
    moved[0, 0, 3] = 0.3
    moved[1, :3, :3] = rotation(np.array([0.0, 0.0, 1.0]))  # a roll
    moved[2, :3, :3] = rotation(np.array([0.2, 0.0, 0.0]))
    metres, radians = rigid.difference(moved @ pose, pose)
    np.testing.assert_allclose(metres, [0.3, 0, 0], atol=1e-12)
    np.testing.assert_allclose(radians, [0, 1, 0.2], atol=1e-12)
    metres, radians = rigid.view_difference(moved @ pose, pose)
    np.testing.assert_allclose(metres, [0.3, 0, 0], atol=1e-12)
    np.testing.assert_allclose(radians, [0, 0, 0.2], atol=1e-7)
    assert rigid.nearest_view(moved @ pose, pose) == 1
