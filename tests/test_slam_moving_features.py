"""What is elsewhere than a moment ago moves, and a pose that followed it is corrected."""

import numpy as np
import pytest
from slam_walkers import CAMERA, GATES, IS_PERSON, moved, points, seen

from ace_jax.slam.config import MovingConfig
from ace_jax.slam.tracking.moving_features import RecentFrames

CROWD = MovingConfig.min_moving


@pytest.fixture
def recent() -> RecentFrames:
    """A camera that stood still for 0.3 s, before a person who stood still."""
    frames = RecentFrames(CAMERA, GATES)
    for time in (0.0, 0.1, 0.2, 0.3):
        frames.remember(time, seen(points(), np.eye(4)), np.eye(4))
    return frames


def test_who_walks_moves_and_the_wall_does_not(recent):
    moving = recent.moving(0.4, seen(points(0.15), moved(0.05)), moved(0.05))
    assert moving[IS_PERSON].mean() > 0.95
    assert not moving[~IS_PERSON].any()


def test_what_is_new_beside_who_walks_moves_and_beside_the_wall_does_not(recent):
    features = seen(points(0.15), moved(0.05))
    changed = features.descriptors.copy()
    new = [*range(0, 120, 10), *range(120, 300, 10)]
    changed[new] = -changed[new]
    moving = recent.moving(0.4, features.replace(descriptors=changed), moved(0.05))
    assert moving[new][IS_PERSON[new]].mean() > 0.9
    assert not moving[~IS_PERSON].any()


def test_a_few_mismatches_are_nobody(recent):
    world = points()
    world[: CROWD - 1] += [0.15, 0.0, 0.0]
    assert not recent.moving(0.4, seen(world, moved(0.05)), moved(0.05)).any()
    world[:CROWD] = np.add(points()[:CROWD], [0.15, 0.0, 0.0])
    np.testing.assert_array_equal(
        np.flatnonzero(recent.moving(0.4, seen(world, moved(0.05)), moved(0.05))),
        range(CROWD),
    )


@pytest.mark.parametrize("agreed", [True, False])
def test_a_pose_that_followed_someone_is_corrected(recent, agreed):
    features = seen(points(0.08), moved(0.03))
    # By 0.04 m the person moves more than the walls, and the camera seems to move less.
    found = recent.corrected(0.4, features, moved(-0.05 if agreed else -0.01), agreed)
    assert found is not None
    pose, moving = found
    np.testing.assert_allclose(pose, moved(0.03), atol=3e-3)
    assert moving[IS_PERSON].mean() > 0.95
    assert moving[~IS_PERSON].mean() < 0.05


def test_a_right_pose_stays(recent):
    assert recent.corrected(0.4, seen(points(0.08), moved(0.03)), moved(0.03), False) is None


def test_a_person_does_not_explain_a_jump(recent):
    """From half a metre off, the wall's motion is not believed: something else is wrong."""
    assert recent.corrected(0.4, seen(points(0.08), moved(0.03)), moved(0.5), False) is None


def test_a_pose_that_matches_agreed_with_is_corrected_only_if_many_of_them_move(recent):
    """A pose 4 cm beside the truth that no person explains: noise, if most matches agreed."""
    still = seen(points(), moved(0.03))
    assert recent.corrected(0.4, still, moved(-0.01), True) is None
    assert recent.corrected(0.4, still, moved(-0.01), False) is not None


@pytest.mark.parametrize("ago", [0.05, None], ids=["too recent", "forgotten"])
def test_nothing_is_said_without_a_past(ago):
    frames = RecentFrames(CAMERA, GATES)
    frames.remember(0.0, seen(points(), np.eye(4)), np.eye(4))
    if ago is None:
        frames.forget()
    time = 1.0 if ago is None else ago
    features = seen(points(0.15), np.eye(4))
    assert not frames.moving(time, features, np.eye(4)).any()
    assert frames.corrected(time, features, np.eye(4), False) is None


def test_without_depth_nothing_moves(recent):
    features = seen(points(0.15), np.eye(4))
    blind = features.replace(depth=np.zeros_like(features.depth))
    assert not recent.moving(0.4, blind, np.eye(4)).any()
    assert recent.corrected(0.4, blind, np.eye(4), False) is None


def test_only_the_last_half_second_is_kept(recent):
    recent.remember(5.0, seen(points(0.15), np.eye(4)), np.eye(4))
    assert not recent.moving(5.4, seen(points(0.15), np.eye(4)), np.eye(4)).any()
