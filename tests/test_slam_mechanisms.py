"""Mechanisms of SLAM one at a time, each on a few made-up features."""

import numpy as np
import pytest
from slam_scene import CAMERA, make_system

from ace_jax.features.base import Features
from ace_jax.features.similarity import similarity
from ace_jax.geometry.host_camera import unproject
from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.localization.guided_matching import guided_match
from ace_jax.localization.landmarks import MatchGates
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.mapping.keyframe_selection import KeyframeSelection
from ace_jax.slam.mapping.keyframes import NO_LANDMARK, Keyframe
from ace_jax.slam.mapping.landmark_map import LandmarkMap
from ace_jax.slam.mapping.local_mapping import LocalMapper
from ace_jax.slam.tracking.tracker import Tracker

pytestmark = pytest.mark.optimized

COUNT, DIM = 240, 64
CONFIG = SlamConfig()
GATES = MatchGates(radius=np.float32(10.0), min_cosine=0.75)
NOISE = NoiseModel(pixel_sigma=1.0, inverse_depth_sigma=0.0075)
NOTHING = np.full(COUNT, NO_LANDMARK, np.int32)
RGB = np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8)


def features(depth: np.ndarray | None = None) -> Features:
    rng = np.random.default_rng(0)
    descriptors = rng.normal(size=(COUNT, DIM)).astype(np.float32)
    return Features(
        uv=rng.uniform([10, 10], [CAMERA.width - 10, CAMERA.height - 10], (COUNT, 2)).astype("f4"),
        descriptors=descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True),
        scores=np.ones(COUNT, np.float32),
        mask=np.ones(COUNT, bool),
        depth=np.float32(rng.uniform(1, 3, COUNT) if depth is None else depth),
    )


def keyframe(seen: Features, x: float = 0.0) -> Keyframe:
    pose = np.eye(4)
    pose[0, 3] = -x
    return Keyframe(0, pose, seen.uv, seen.descriptors, seen.depth, seen.mask, inlier_ratio=1.0)


def add(landmark_map: LandmarkMap, made: Keyframe, count: int = COUNT) -> int:
    """A keyframe whose first `count` features become landmarks."""
    number = landmark_map.add_keyframe(made, NOTHING)
    points = unproject(made.uv, made.depth, CAMERA)[:count] + made.centre
    landmark_map.create(number, np.arange(count), points, np.zeros((count, 3), np.uint8))
    return number


def test_a_camera_is_looked_for_near_its_last_place_first():
    """Two places look alike: over the whole map no feature has a certain coordinate."""
    seen, landmark_map = features(), LandmarkMap(2 * COUNT, DIM, 4)
    numbers = [add(landmark_map, keyframe(seen, x)) for x in (0.0, 10.0)]
    tracker = Tracker(CAMERA, CONFIG, GATES, NOISE, 80.0, seed=0)
    for number, x in zip(numbers, (0.0, 10.0), strict=True):
        last = landmark_map.landmarks_of(number)
        found = tracker.coarse(landmark_map, seen, None, last, seen.descriptors, 0)
        np.testing.assert_allclose(found.camera_from_world[:3, 3], [-x, 0, 0], atol=0.02)
    assert tracker.coarse(landmark_map, seen, None, NOTHING, seen.descriptors, 0) is None


@pytest.mark.parametrize(("near", "made"), [(30, 100), (130, 130)])
def test_far_landmarks_are_made_where_few_are_near(near, made):
    depth = np.linspace(5.0, 9.0, COUNT)
    depth[:near] = 2.0
    landmark_map = LandmarkMap(COUNT, DIM, 4)
    mapper = LocalMapper(CAMERA, CONFIG, GATES, NOISE)
    mapper.insert(landmark_map, keyframe(features(depth)), NOTHING, RGB)
    z = np.sort(landmark_map.points[landmark_map.valid][:, 2])
    np.testing.assert_allclose(z, np.sort(depth)[:made], atol=1e-4)  # the nearest of the far ones


@pytest.mark.parametrize(("tracked", "new", "wanted"), [(60, 80, True), (60, 60, False),
                                                        (110, 80, False)])  # fmt: skip
def test_a_keyframe_is_made_where_little_is_tracked_and_much_could_be(tracked, new, wanted):
    """The frame stands where the keyframe stood and shows all of its landmarks."""
    depth = np.where(np.arange(COUNT) < tracked + new, 2.0, 0.0)
    seen, landmark_map = features(depth), LandmarkMap(COUNT, DIM, 4)
    number = add(landmark_map, keyframe(seen), tracked)
    selection = KeyframeSelection(CONFIG)
    selection.since_keyframe = 100
    landmarks = landmark_map.landmarks_of(number)
    here = np.array([number])
    assert selection.wanted(landmark_map, seen, landmarks, np.eye(4), number, here) is wanted


def test_a_match_of_root_sift_asks_for_more_similarity_than_one_of_xfeat():
    seen, landmark_map = features(), LandmarkMap(COUNT, DIM, 4)
    number = add(landmark_map, keyframe(seen))
    across = np.roll(seen.descriptors, 1, axis=0)
    across -= np.sum(across * seen.descriptors, 1, keepdims=True) * seen.descriptors
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    again = seen.replace(descriptors=0.85 * seen.descriptors + np.sqrt(1 - 0.85**2) * across)
    landmarks = landmark_map.block(landmark_map.landmarks_of(number), COUNT)
    gates = make_system().tracker.gates.replace(radius=np.float32(3.0))
    for kind in ("sift", "xfeat"):
        asked = gates.replace(min_cosine=similarity(kind).min_cosine)
        matches = guided_match(landmarks, again, np.eye(4, dtype=np.float32), CAMERA, asked)
        assert np.sum(matches >= 0) > 50 if kind == "xfeat" else not np.any(matches >= 0)
    assert gates.min_cosine == similarity("sift").min_cosine
