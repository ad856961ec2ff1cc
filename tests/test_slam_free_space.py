"""Surfaces in what was air before are moving; all else is not."""

import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.slam.free_space import FreeSpace

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


def test_who_walks_in_is_seen_and_the_wall_is_not():
    space = FreeSpace(CAMERA)
    space.remember(0.0, wall(), HERE)
    seen = features(with_person(60))
    np.testing.assert_array_equal(space.moved(seen, HERE), seen.depth < 2)


def test_where_the_person_was_before_shows_where_it_is_now():
    space = FreeSpace(CAMERA)
    for k in range(4):
        space.remember(0.5 * k, with_person(20 * k), HERE)
    seen = features(with_person(100))
    moved = space.moved(seen, HERE)
    assert moved[seen.depth < 2].mean() > 0.9
    assert not moved[seen.depth > 2].any()


def test_a_wall_that_comes_into_view_is_not_moving():
    space = FreeSpace(CAMERA)
    space.remember(0.0, wall(3.0), HERE)
    forward = np.eye(4)
    forward[2, 3] = -1.0  # the camera went a metre towards the wall
    assert not space.moved(features(wall(2.0)), forward).any()
    assert not space.moved(features(wall(3.1)), HERE).any(), "within the margin"
    assert not space.moved(features(wall(4.0)), HERE).any(), "behind what was seen: not known"


def test_what_an_image_does_not_know_is_not_air():
    space = FreeSpace(CAMERA)
    unknown = wall()
    unknown[:, ::3] = 0.0
    unknown[::5] = np.nan
    space.remember(0.0, unknown, HERE)
    assert not space.moved(features(with_person(60)), HERE).any()


def test_if_all_moves_the_pose_is_wrong():
    space = FreeSpace(CAMERA)
    space.remember(0.0, wall(3.0), HERE)
    assert not space.moved(features(wall(1.5)), HERE).any()


def test_images_are_bounded_spaced_and_forgotten():
    space = FreeSpace(CAMERA, count=3, interval=0.25)
    person = features(with_person(60))
    assert not space.moved(person, HERE).any(), "nothing is known yet"
    space.remember(0.0, with_person(60), HERE)
    space.remember(0.1, wall(), HERE)  # too soon
    assert not space.moved(person, HERE).any()
    space.remember(0.3, wall(), HERE)
    assert space.moved(person, HERE).any()
    space.forget()
    assert not space.moved(person, HERE).any()
    for k in range(4):  # the wall alone is overwritten
        space.remember(1.0 + k, wall() if k == 0 else with_person(60), HERE)
    assert not space.moved(person, HERE).any()


def test_masked_features_and_those_without_depth_are_left_alone():
    space = FreeSpace(CAMERA)
    space.remember(0.0, wall(), HERE)
    seen = features(with_person(60))
    hidden = seen.replace(mask=seen.depth > 2, uv=np.where(seen.mask[:, None], seen.uv, np.nan))
    assert not space.moved(hidden, HERE).any()
    assert not space.moved(seen.replace(depth=np.zeros_like(seen.depth)), HERE).any()
