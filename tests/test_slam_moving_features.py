"""What is elsewhere than a moment ago moves, and a pose that followed it is corrected."""

import numpy as np
import pytest
from slam_walkers import CAMERA, GATES, IS_PERSON, moved, points, seen

from ace_jax.slam.config import MovingConfig
from ace_jax.slam.mapping.keyframes import NO_LANDMARK
from ace_jax.slam.tracking.moving_features import RecentFrames

CROWD = MovingConfig.min_moving
NOTHING = np.full(len(IS_PERSON), NO_LANDMARK)


@pytest.fixture
def recent() -> RecentFrames:
    """A camera that stood still for 0.3 s, before a person who stood still."""
    frames = RecentFrames(CAMERA, GATES)
    for time in (0.0, 0.1, 0.2, 0.3):
        frames.remember(time, seen(points(), np.eye(4)), np.eye(4), NOTHING)
    return frames


def test_who_walks_moves_and_the_wall_does_not(recent):
    moving = recent.remember(0.4, seen(points(0.15), moved(0.05)), moved(0.05), NOTHING)
    assert moving[IS_PERSON].mean() > 0.95
    assert not moving[~IS_PERSON].any()


def test_what_is_new_beside_who_walks_moves_and_beside_the_wall_does_not(recent):
    features = seen(points(0.15), moved(0.05))
    changed = features.descriptors.copy()
    new = [*range(0, 120, 10), *range(120, 300, 10)]
    changed[new] = -changed[new]
    moving = recent.remember(0.4, features.replace(descriptors=changed), moved(0.05), NOTHING)
    assert moving[new][IS_PERSON[new]].mean() > 0.9
    assert not moving[~IS_PERSON].any()


@pytest.mark.parametrize("count", [CROWD - 1, CROWD + 3])
def test_a_few_mismatches_are_nobody(recent, count):
    world = points()
    world[:count] += [0.15, 0.0, 0.0]
    found = recent.remember(0.4, seen(world, moved(0.05)), moved(0.05), NOTHING)
    assert not found[count:].any()
    assert found.sum() == 0 if count < CROWD else found.sum() >= CROWD


def test_what_moves_every_way_is_noise(recent):
    """As many as a crowd, each in a direction of its own: no group, and nobody."""
    rng = np.random.default_rng(0)
    way = rng.normal(size=(3 * CROWD, 3)) * [1.0, 1.0, 0.0]
    world = points()
    world[: 3 * CROWD] += 0.15 * way / np.linalg.norm(way, axis=1, keepdims=True)
    assert not recent.remember(0.4, seen(world, moved(0.05)), moved(0.05), NOTHING).any()


def test_noise_is_what_features_of_landmarks_show(recent):
    """Where the map's own features are decimetres off, 15 cm tell nothing."""
    world = points(0.15)
    world[~IS_PERSON] += np.random.default_rng(0).choice([-0.15, 0.15], (sum(~IS_PERSON), 3))
    landmarks = np.where(IS_PERSON, NO_LANDMARK, np.arange(len(IS_PERSON)))
    assert not recent.remember(0.4, seen(world, np.eye(4)), np.eye(4), landmarks).any()


def test_who_moved_in_the_last_frame_is_known_at_once(recent):
    recent.remember(0.4, seen(points(0.15), moved(0.05)), moved(0.05), NOTHING)
    assert recent.something_moves
    known = recent.moved_before(seen(points(0.17), moved(0.06)), moved(0.055))
    assert known[IS_PERSON].mean() > 0.95
    assert not known[~IS_PERSON].any()
    assert not recent.moved_before(seen(points(0.17), moved(0.06)), None).any()


def test_landmarks_that_were_made_of_who_moves_are_named(recent):
    slots = np.arange(len(IS_PERSON)) + 7
    recent.show(slots)
    recent.remember(0.4, seen(points(0.15), moved(0.05)), moved(0.05), NOTHING)
    named = recent.moving_landmarks()
    assert len(named) > 0.95 * IS_PERSON.sum()
    assert np.isin(named, slots[IS_PERSON]).all()
    assert not np.isin(recent.content()["landmarks"], named).any()  # they may be others by then
    assert len(recent.moving_landmarks()) == 0


def test_landmarks_that_stand_still_are_not_named_though_a_track_was_matched_to_them(recent):
    slots = np.arange(len(IS_PERSON)) + 7
    recent.show(slots)
    wall = np.flatnonzero(~IS_PERSON)[:5]
    now = np.full(len(slots), NO_LANDMARK)
    now[wall] = slots[np.flatnonzero(IS_PERSON)[:5]]
    recent.remember(0.4, seen(points(0.15), moved(0.05)), moved(0.05), now)
    assert not np.isin(now[wall], recent.moving_landmarks()).any()


def test_landmarks_are_noted_after_the_frames_were_forgotten(recent):
    """A loop that closes while a keyframe is inserted changes the world's axes."""
    recent.forget()
    recent.show(np.arange(len(IS_PERSON)))
    assert not recent.something_moves


def test_a_camera_that_was_lost_for_long_knows_of_nobody(recent):
    recent.remember(0.4, seen(points(0.15), moved(0.05)), moved(0.05), NOTHING)
    recent.forget_before(0.5)
    assert recent.something_moves
    recent.forget_before(0.8)
    assert not recent.something_moves


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
    frames.remember(0.0, seen(points(), np.eye(4)), np.eye(4), NOTHING)
    if ago is None:
        frames.forget()
    time = 1.0 if ago is None else ago
    features = seen(points(0.07), np.eye(4))
    assert frames.corrected(time, features, np.eye(4), False) is None
    assert not frames.remember(time, features, np.eye(4), NOTHING).any()


def test_without_depth_nothing_moves(recent):
    features = seen(points(0.15), np.eye(4))
    blind = features.replace(depth=np.zeros_like(features.depth))
    assert recent.corrected(0.4, blind, np.eye(4), False) is None
    assert not recent.remember(0.4, blind, np.eye(4), NOTHING).any()


def test_only_the_last_frames_are_kept(recent):
    recent.remember(5.0, seen(points(0.15), np.eye(4)), np.eye(4), NOTHING)
    np.testing.assert_array_equal(recent.content()["times"], [5.0])


def test_a_clock_that_goes_back_begins_anew(recent):
    recent.remember(0.1, seen(points(0.15), np.eye(4)), np.eye(4), NOTHING)
    np.testing.assert_array_equal(recent.content()["times"], [0.1])


def test_frames_are_restored_and_go_on_alike(recent):
    recent.remember(0.4, seen(points(0.15), moved(0.05)), moved(0.05), NOTHING)
    other = RecentFrames(CAMERA, GATES)
    other.restore(recent.content())
    assert other.something_moves
    step = 0.5, seen(points(0.2), moved(0.06)), moved(0.06), NOTHING
    np.testing.assert_array_equal(other.remember(*step), recent.remember(*step))


def test_frames_of_earlier_versions_are_restored_without_what_moves(recent):
    recent.remember(0.4, seen(points(0.15), moved(0.05)), moved(0.05), NOTHING)
    content = recent.content()
    del content["moving"], content["landmarks"]
    other = RecentFrames(CAMERA, GATES)
    other.restore(content)
    assert not other.something_moves
    with pytest.raises(ValueError, match="not whole"):
        other.restore(recent.content() | {"moving": np.zeros((1, 3), bool)})
