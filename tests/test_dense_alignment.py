"""Dense alignment of RGB-D images, and tracking by it where features tell nothing."""

import cv2
import numpy as np
import pytest
from slam_scene import CAMERA, RoomSource, make_system, render, world_from_camera

from ace_jax.geometry.dense_alignment import align, dense_image
from ace_jax.geometry.host_camera import project, unproject_to_world
from ace_jax.geometry.pose_refinement import refine_pose_with_gating
from ace_jax.geometry.reprojection import NoiseModel, Observations
from ace_jax.geometry.rigid import difference, invert, transform
from ace_jax.slam.frame_poses import State

NOISE = NoiseModel(1.0, 0.0075)


def _between(i: int, j: int) -> np.ndarray:
    return invert(world_from_camera(j)) @ world_from_camera(i)


def _aligned(template, image, start=None, observations=None):
    start = np.eye(4) if start is None else start
    images = (dense_image(*x, CAMERA) for x in (template, image))
    start = np.asarray(start, np.float32)
    return align(*images, CAMERA, start, observations, NOISE)


def _keypoints(depth: np.ndarray, motion: np.ndarray, uv: np.ndarray) -> Observations:
    """Keypoints (N, 2) of a template with its depth, where a motion shows them."""
    z = depth[uv[:, 1], uv[:, 0]]
    points = unproject_to_world(uv.astype(float), z, CAMERA, np.eye(4))
    there = transform(motion, points)
    return Observations(
        points.T.astype(np.float32),
        project(there, CAMERA).T.astype(np.float32),
        (z > 0).astype(np.float32),
        (1.0 / there[:, 2]).astype(np.float32),
    )


@pytest.mark.parametrize(("i", "j"), [(0, 1), (3, 7), (20, 14)])
def test_finds_the_motion_between_two_views(i, j):
    found = _aligned(render(i), render(j))
    metres, radians = difference(np.asarray(found.pose), _between(i, j))
    far, turned = difference(np.eye(4), _between(i, j))
    assert metres < max(0.1 * far, 0.004)
    assert radians < max(0.1 * turned, 0.002)
    assert found.agreement > 0.95
    assert found.overlap > 0.6
    assert found.deviation[0] < 0.01


def test_other_exposure_and_blur_make_little_difference():
    rgb, depth = render(7)
    changed = cv2.GaussianBlur((0.6 * rgb + 30).astype(np.uint8), (0, 0), 2.0)
    found = _aligned(render(3), (changed, depth))
    metres, radians = difference(np.asarray(found.pose), _between(3, 7))
    assert metres < 0.01
    assert radians < 0.005
    assert found.agreement > 0.9


@pytest.mark.parametrize("j", [5, 8, 14, 20, 30])
def test_a_motion_that_is_wrong_shows(j):
    """However far apart two views are: right, or most pixels disagree, or few are seen by both."""
    found = _aligned(render(3), render(j))
    metres, _ = difference(np.asarray(found.pose), _between(3, j))
    assert metres < 0.02 or found.agreement < 0.8 or found.overlap < 0.4


def test_images_of_different_rooms_do_not_agree():
    assert _aligned(render(3), render(3, room=1)).agreement < 0.8


@pytest.mark.parametrize(("i", "j", "corner"), [(20, 22, True), (0, 3, False)])
def test_in_the_dark_depth_tells_the_motion_where_surfaces_do(i, j, corner):
    """Three walls hold all directions; two walls do not, and the deviation says so."""
    (_, first), (_, second) = render(i), render(j)
    black = np.zeros((*first.shape, 3), np.uint8)
    found = _aligned((black, first), (black, second))
    metres, _ = difference(np.asarray(found.pose), _between(i, j))
    if corner:
        assert metres < 0.005
        assert found.deviation[0] < 0.03
    else:
        assert found.deviation[0] > 0.3


@pytest.mark.parametrize("dark", [0, 1], ids=["light comes on", "light goes off"])
def test_depth_alone_tells_the_motion_when_the_light_changes(dark):
    views = [list(render(20)), list(render(22))]
    views[dark][0] = np.full_like(views[dark][0], 2)
    found = _aligned(*views)
    metres, _ = difference(np.asarray(found.pose), _between(20, 22))
    assert metres < 0.005
    assert found.agreement > 0.95


def test_a_bare_wall_does_not_tell_where_along_it():
    wall, grey = np.full((240, 320), 1.5, np.float32), np.full((240, 320, 3), 128, np.uint8)
    found = _aligned((grey, wall), (grey, wall))
    assert found.deviation[0] > 0.3


def test_keypoints_tell_where_along_a_bare_wall():
    wall, grey = np.full((240, 320), 1.5, np.float32), np.full((240, 320, 3), 128, np.uint8)
    motion = np.eye(4)
    motion[0, 3] = 0.05
    uv = np.random.default_rng(0).integers(20, 200, (30, 2))
    seen = _keypoints(wall, motion, uv)
    found = _aligned((grey, wall), (grey, wall), observations=seen)
    np.testing.assert_allclose(found.pose, motion, atol=0.002)
    assert found.deviation[0] < 0.02
    unseen = seen.replace(weights=np.zeros(30, np.float32))
    alone = _aligned((grey, wall), (grey, wall), observations=unseen)
    np.testing.assert_array_equal(alone.pose, _aligned((grey, wall), (grey, wall)).pose)


def test_all_pixels_mend_what_keypoints_in_a_corner_leave_uncertain():
    (rgb, depth), image, true = render(3), render(9), _between(3, 9)
    rng = np.random.default_rng(1)
    corner = rng.integers(10, 60, (40, 2))
    seen = _keypoints(depth, true, corner)
    seen = seen.replace(points_2d=seen.points_2d + rng.normal(0, 1.0, (2, 40)).astype(np.float32))
    alone, _ = refine_pose_with_gating(
        true.astype(np.float32),
        seen.points_3d.T,
        seen.points_2d.T,
        1.0 / seen.inverse_depth,
        seen.weights > 0,
        CAMERA,
        NOISE,
    )
    both = _aligned((rgb, depth), image, alone, seen).pose
    off = [difference(np.asarray(pose), true)[0] for pose in (alone, both)]
    assert off[0] > 0.01  # so there is something to mend
    assert off[1] < 0.3 * off[0]


def test_without_depth_there_is_no_overlap():
    rgb, depth = render(0)
    assert _aligned((rgb, np.zeros_like(depth)), (rgb, depth)).overlap == 0
    assert _aligned((rgb, depth), (rgb, np.full_like(depth, np.nan))).overlap == 0


@pytest.mark.parametrize("densely", [True, False])
def test_frames_without_features_are_tracked_by_all_pixels(densely, monkeypatch):
    """Blur and bare walls have no features; here they are taken away."""
    system = make_system()
    if not densely:
        monkeypatch.setattr(system.last_frame, "by_pixels", lambda *_: None)
    poses = []
    for frame in RoomSource(20):
        features = system.observe(frame)
        if frame.index >= 12:
            features = features.replace(mask=np.zeros_like(features.mask))
        poses.append(system.process(frame, features).live_camera_from_world)
    if not densely:
        assert system.state is State.LOST  # so it was dense alignment
        return
    for i, pose in enumerate(poses):
        assert pose is not None
        metres, radians = difference(pose, _between(0, i))
        assert metres < 0.01
        assert radians < 0.01
