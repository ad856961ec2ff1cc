"""Few landmarks and the features of the last frame determine a pose together."""

import dataclasses
import types

import numpy as np
import pytest
from slam_scene import CAMERA, RoomSource, make_system, render, world_from_camera

from ace_jax.features.base import Features
from ace_jax.geometry.host_camera import project
from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.geometry.rigid import invert, transform
from ace_jax.slam.frame_poses import State
from ace_jax.slam.mapping.keyframes import NO_LANDMARK
from ace_jax.slam.tracking.joint_pose import FrameMotion, joint_pose
from ace_jax.slam.tracking.tracker import Tracked

pytestmark = pytest.mark.optimized

NOISE = NoiseModel(pixel_sigma=1.0, inverse_depth_sigma=0.0075)
N, KNOWN = 200, 30
TRUTH = np.eye(4, dtype=np.float32)
TRUTH[:3, 3] = [0.05, -0.02, 0.01]
OFF = np.eye(4, dtype=np.float32)
OFF[:3, 3] = [0.09, -0.02, 0.01]  # 4 cm from the truth


def _scene(bad_landmarks: int):
    """A map, a frame tracked at `OFF`, and what it shares with the last one.

    Landmarks 0 to KNOWN - 1 are seen; the first `bad_landmarks` lie 4 cm beside where they are, as
    `OFF` has it. The other features were in the last frame.
    """
    rng = np.random.default_rng(0)
    camera_points = np.stack(
        [rng.uniform(-1.2, 1.2, N), rng.uniform(-0.9, 0.9, N), rng.uniform(2.0, 3.0, N)], 1
    )
    world = transform(np.linalg.inv(TRUTH), camera_points)
    features = Features(
        uv=project(camera_points, CAMERA).astype(np.float32),
        descriptors=np.zeros((N, 4), np.float32),
        scores=np.ones(N, np.float32),
        mask=np.ones(N, bool),
        depth=camera_points[:, 2].astype(np.float32),
    )
    of_map = world[:KNOWN].copy()
    of_map[:bad_landmarks, 0] -= 0.04
    landmarks = np.where(np.arange(N) < KNOWN, np.arange(N), NO_LANDMARK).astype(np.int32)
    tracked = Tracked(OFF, landmarks, features, 1.0, 1.0, False, 1.0)
    motion = FrameMotion(TRUTH, world.astype(np.float32), np.arange(N) >= KNOWN)
    return types.SimpleNamespace(points=of_map.astype(np.float32)), tracked, motion


def _error(tracked: Tracked) -> float:
    return float(np.linalg.norm(tracked.camera_from_world[:3, 3] - TRUTH[:3, 3]))


def test_the_last_frame_mends_a_pose_that_some_landmarks_bend():
    landmark_map, tracked, motion = _scene(bad_landmarks=12)
    joint = joint_pose(landmark_map, tracked, motion, CAMERA, NOISE)
    assert _error(tracked) == pytest.approx(0.04, abs=1e-6)
    assert _error(joint) < 0.004
    np.testing.assert_array_equal(joint.landmarks, tracked.landmarks)


def test_most_landmarks_are_not_given_up_for_what_moves():
    """All that is not in the map has moved by 4 cm since the last frame, as people do."""
    landmark_map, tracked, motion = _scene(bad_landmarks=KNOWN)
    assert joint_pose(landmark_map, tracked, motion, CAMERA, NOISE) is tracked


def test_the_last_frame_is_searched_once_for_a_wide_step_with_few_landmarks(monkeypatch):
    """By tracking, which lost the landmarks, and then for the joint pose."""
    system = make_system(new_maps=False)
    system.tracker.config = dataclasses.replace(system.config, few_landmarks=10_000)
    views, asked, searched = (*range(6), 11), [], []
    for name, calls in (("by_features", asked), ("_by_features", searched)):
        method = getattr(system.last_frame, name)
        monkeypatch.setattr(
            system.last_frame, name, lambda *a, m=method, c=calls: c.append(1) or m(*a)
        )
    for frame in RoomSource(len(views), order=views):
        asked.clear()
        searched.clear()
        system.process(frame)
    assert system.state is State.TRACKING
    assert (len(asked), len(searched)) == (2, 1)


def test_free_space_seen_from_a_wrong_prediction_hides_nothing_from_the_last_frame(monkeypatch):
    """From there all that stands still is where air was."""
    system = make_system(new_maps=False)
    frames = list(RoomSource(7, order=(*range(6), 11)))
    for frame in frames[:-1]:
        system.process(frame)
    wrong = system.poses.predicted(frames[-1].timestamp)
    moved = system.free_space.moved

    def asked_from(features, depth, pose):
        if pose is not None and np.array_equal(pose, wrong):
            return np.ones(len(features.mask), bool)
        return moved(features, depth, pose)

    monkeypatch.setattr(system.free_space, "moved", asked_from)
    monkeypatch.setattr(system.last_frame, "by_pixels", lambda *_: None)
    monkeypatch.setattr(system.tracker, "_relocalize", lambda *_: None)
    tracked = system.process(frames[-1])
    assert system.state is State.TRACKING
    truth = invert(world_from_camera(11)) @ world_from_camera(0)
    np.testing.assert_allclose(tracked.live_camera_from_world, truth, atol=0.02)


def _wide_step():
    """A system after six frames, and the next one, into what the map does not show yet."""
    system = make_system(new_maps=False)
    *frames, next_frame = RoomSource(7, order=(*range(6), 11))
    for frame in frames:
        system.process(frame)
    return system, next_frame


def _with_few(motion: FrameMotion, count: int) -> np.ndarray:
    """Which features (N,) are `count` of those that have been found again."""
    some = np.zeros_like(motion.seen)
    some[np.flatnonzero(motion.seen)[::3][:count]] = True
    assert some.sum() == count
    return some


@pytest.mark.parametrize("count", [30, 12])
def test_few_features_in_common_with_the_last_frame_keep_the_camera(monkeypatch, count):
    system, frame = _wide_step()
    features, last = system.observe(frame), system.poses.last_tracked()
    motion = system.last_frame.by_features(features, last, system.tracker.noise)
    monkeypatch.setattr(system.last_frame, "by_pixels", lambda *_: None)
    monkeypatch.setattr(system, "_track_near", lambda *_: None)
    tracked = system.process(frame, features.replace(mask=_with_few(motion, count)))
    assert system.state is State.TRACKING
    truth = invert(world_from_camera(11)) @ world_from_camera(0)
    np.testing.assert_allclose(tracked.live_camera_from_world, truth, atol=0.02)


@pytest.mark.parametrize("count", [30, 12])
def test_so_few_features_need_pixels_that_agree(count):
    """Twelve features may be chance where the image shows another room; thirty are not."""
    system, frame = _wide_step()
    features, last = system.observe(frame), system.poses.last_tracked()
    noise = system.tracker.noise
    motion = system.last_frame.by_features(features, last, noise)
    few = dataclasses.replace(motion, seen=_with_few(motion, count))
    rgb, depth = render(3, room=1)
    another = dataclasses.replace(frame, rgb=rgb, depth=depth)
    assert system.last_frame.by_both(frame, features, few, last, noise) is not None
    found = system.last_frame.by_both(another, features, few, last, noise)
    assert (found is None) == (count < system.config.min_inliers)


@pytest.mark.parametrize("few", [True, False])
def test_it_is_asked_only_where_few_landmarks_agree(monkeypatch, few):
    system = make_system(new_maps=False)
    system.tracker.config = dataclasses.replace(system.config, few_landmarks=10_000 if few else 0)
    asked = []
    by_features = system.last_frame.by_features
    monkeypatch.setattr(
        system.last_frame,
        "by_features",
        lambda *arguments: asked.append(1) or by_features(*arguments),
    )
    for frame in RoomSource(3):
        assert system.process(frame).live_camera_from_world is not None
    assert bool(asked) == few
