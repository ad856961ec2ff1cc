"""Surfaces in what was air before are moving; all else is not."""

import cv2
import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.slam.config import FreeSpaceConfig
from ace_jax.slam.tracking.free_space import FreeSpace

CAMERA = Camera(150.0, 150.0, 79.5, 59.5, 160, 120)
HERE = np.eye(4)


def features(depth: np.ndarray, count: int = 200, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    uv = rng.uniform([4, 4], [155, 115], (count, 2)).astype(np.float32)
    z = depth[np.rint(uv[:, 1]).astype(int), np.rint(uv[:, 0]).astype(int)].astype(np.float32)
    return Features(
        uv=uv,
        descriptors=np.zeros((count, 4), np.float32),
        scores=np.ones(count, np.float32),
        mask=np.ones(count, bool),
        depth=z,
    )


def wall(distance: float = 3.0) -> np.ndarray:
    return np.full((120, 160), distance)


def with_person(left: int) -> np.ndarray:
    depth = wall()
    depth[20:, left : left + 40] = 1.5
    return depth


def moved(space: FreeSpace, depth: np.ndarray, pose: np.ndarray = HERE, **options) -> np.ndarray:
    return space.moved(features(depth, **options), depth, pose)


def test_who_walks_in_is_seen_and_the_wall_is_not():
    space = FreeSpace(CAMERA)
    space.remember(0.0, wall(), HERE)
    person = with_person(60)
    inside = cv2.erode((person < 2).astype(np.uint8), np.ones((5, 5))) > 0
    outside = cv2.erode((person > 2).astype(np.uint8), np.ones((5, 5))) > 0
    seen = features(person)
    column, row = np.rint(seen.uv).astype(int).T
    found = space.moved(seen, person, HERE)
    assert found[inside[row, column]].all()
    assert not found[outside[row, column]].any()


def test_features_at_the_edge_of_who_walks_belong_to_him():
    space = FreeSpace(CAMERA)
    space.remember(0.0, wall(), HERE)
    person = with_person(60)
    uv = np.array([[59.0, 60.0], [100.0, 60.0], [50.0, 60.0]], np.float32)
    seen = features(person, count=3).replace(uv=uv, depth=np.zeros(3, np.float32))
    np.testing.assert_array_equal(space.moved(seen, person, HERE), [True, True, False])


def test_who_stays_in_the_picture_does_not_become_the_room():
    space = FreeSpace(CAMERA)
    for k in range(12):  # 3 s: the older images without him are still there
        person = with_person(4 * k)
        if k:
            found, depth = moved(space, person, seed=k), features(person, seed=k).depth
            assert found[depth < 2].mean() > 0.9
            assert found[depth > 2].mean() < 0.1
        space.remember(0.5 * k, wall() if k == 0 else person, HERE)


def test_most_features_may_move_if_most_of_the_picture_does_not():
    space = FreeSpace(CAMERA)
    space.remember(0.0, wall(), HERE)
    person = with_person(60)
    on_him = features(person, count=1000)
    few = on_him.replace(mask=(on_him.depth < 2) | (np.arange(1000) < 20))
    found = space.moved(few, person, HERE)
    assert found[few.mask].mean() > 0.9


def test_what_was_never_seen_moves_with_what_is_beside_it():
    space = FreeSpace(CAMERA)
    seen = wall()
    seen[:, 80:] = 0.0  # the right half of the room is not known yet
    space.remember(0.0, seen, HERE)
    person = with_person(60)  # half in the known part
    found, depth = moved(space, person, count=400), features(person, count=400).depth
    assert found[depth < 2].all()
    far = features(person, count=400).uv[:, 0] > 130
    assert not found[far].any()


def test_a_wall_that_comes_into_view_is_not_moving():
    space = FreeSpace(CAMERA)
    space.remember(0.0, wall(3.0), HERE)
    forward = np.eye(4)
    forward[2, 3] = -1.0  # the camera went a metre towards the wall
    assert not moved(space, wall(2.0), forward).any()
    assert not moved(space, wall(3.1), HERE).any(), "within the margin"
    assert not moved(space, wall(4.0), HERE).any(), "behind what was seen: not known"


def test_what_an_image_does_not_know_is_not_air():
    space = FreeSpace(CAMERA)
    unknown = wall()
    unknown[:, ::3] = 0.0
    unknown[::5] = np.nan
    space.remember(0.0, unknown, HERE)
    assert not moved(space, with_person(60), HERE).any()


def test_if_all_moves_the_pose_is_wrong():
    space = FreeSpace(CAMERA)
    space.remember(0.0, wall(3.0), HERE)
    assert not moved(space, wall(1.5), HERE).any()


def test_images_are_bounded_spaced_and_forgotten():
    space = FreeSpace(CAMERA, FreeSpaceConfig(count=3, interval=0.25))
    person = with_person(60)
    assert not moved(space, person).any(), "nothing is known yet"
    space.remember(0.0, with_person(60), HERE)
    space.remember(0.1, wall(), HERE)  # too soon
    assert not moved(space, person).any()
    space.remember(0.3, wall(), HERE)
    assert moved(space, person).any()
    space.forget()
    assert not moved(space, person).any()
    for k in range(4):  # the wall alone is overwritten
        space.remember(1.0 + k, wall() if k == 0 else with_person(60), HERE)
    assert not moved(space, person).any()


def test_masked_features_and_frames_without_depth_are_left_alone():
    space = FreeSpace(CAMERA)
    space.remember(0.0, wall(), HERE)
    person = with_person(60)
    seen = features(person)
    hidden = seen.replace(mask=seen.depth > 2.9)
    assert not space.moved(hidden, person, HERE)[~hidden.mask].any()
    assert not space.moved(seen, None, HERE).any()
    assert not space.moved(seen, np.full_like(person, np.nan), HERE).any()
