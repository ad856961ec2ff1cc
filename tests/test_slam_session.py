"""A SLAM map goes into a file and comes back: continued, frozen, by colour alone, merged."""

import dataclasses

import numpy as np
import pytest
from flax import traverse_util
from slam_scene import CONFIG, RoomSource, make_system, resumed, world_from_camera

from ace_jax.errors import UserError
from ace_jax.localization.scene_map import load_map, save_map
from ace_jax.slam.frame_poses import State
from ace_jax.slam.sessions.merging import merge
from ace_jax.slam.sessions.session import load_session, with_session

pytestmark = pytest.mark.optimized

FRAMES = 24


def run(system, views):
    source = RoomSource(len(views), order=tuple(views))
    return [system.process(source[i]) for i in range(len(views))]


def errors(tracked, views, first):
    """Metres between tracked and true camera centres, in the axes of the view `first`."""
    start = np.linalg.inv(world_from_camera(first))
    found = [np.linalg.inv(t.live_camera_from_world)[:3, 3] for t in tracked]
    return np.array([np.linalg.norm((start @ world_from_camera(v))[:3, 3] - c)
                     for v, c in zip(views, found, strict=True)])  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The session of one run, and its system."""
    system = make_system(close_loops=False)
    run(system, range(FRAMES))
    system.finish()
    path = tmp_path_factory.mktemp("session") / "session.safetensors"
    save_map(path, with_session(system.scene_map(), system.landmark_map), half=True)
    return path, system


def test_what_comes_back_is_what_was_saved(recorded):
    path, system = recorded
    scene_map, landmark_map = load_session(path, CONFIG.max_landmarks)
    saved = system.landmark_map
    assert scene_map.features == "sift"
    assert len(landmark_map) == len(saved)
    assert len(landmark_map.keyframes) == len(saved.keyframes)
    order = np.flatnonzero(saved.valid)
    place = {slot: i for i, slot in enumerate(order)}
    back = {slot: i for i, slot in enumerate(np.flatnonzero(landmark_map.valid))}
    for ours, theirs in zip(landmark_map.keyframes.items(), saved.keyframes.items(), strict=True):
        np.testing.assert_array_equal(ours[1].camera_from_world, theirs[1].camera_from_world)
        mine, others = landmark_map.landmarks_of(ours[0]), saved.landmarks_of(theirs[0])
        assert [back.get(s, -1) for s in mine] == [place.get(s, -1) for s in others]
    np.testing.assert_array_equal(
        landmark_map.points[mine[mine >= 0]], saved.points[others[others >= 0]]
    )
    np.testing.assert_array_equal(
        np.sort(landmark_map.observations[landmark_map.valid]),
        np.sort(saved.observations[saved.valid]),
    )


def test_a_session_is_also_a_map_for_relocalization(recorded):
    path, system = recorded
    found, made = load_map(path), system.scene_map()
    assert found.head == made.head == "landmark_attention"
    assert traverse_util.flatten_dict(found.variables).keys() == (
        traverse_util.flatten_dict(made.variables).keys()
    )


def test_going_on_starts_lost_finds_itself_and_maps_in_the_same_axes(recorded):
    path, system = recorded
    later = resumed(path)
    assert later.state is State.LOST
    views = range(FRAMES - 6, FRAMES + 10)
    tracked = run(later, views)
    assert all(t.live_camera_from_world is not None for t in tracked)
    assert errors(tracked, views, 0).max() < 0.03
    assert len(later.landmark_map.keyframes) > len(system.landmark_map.keyframes)


def test_a_frozen_map_stays_as_it_is(recorded):
    path, _ = recorded
    system = resumed(path, frozen=True)
    points, known = system.landmark_map.points.copy(), len(system.landmark_map.keyframes)
    tracked = run(system, range(FRAMES + 4))
    assert sum(t.live_camera_from_world is not None for t in tracked) >= FRAMES
    assert len(system.landmark_map.keyframes) == known
    np.testing.assert_array_equal(system.landmark_map.points, points)


def test_colour_alone_is_enough_in_a_frozen_map(recorded):
    path, _ = recorded
    system = resumed(path, frozen=True)
    source = RoomSource(FRAMES)
    tracked = [
        system.process(dataclasses.replace(source[i], depth=None)) for i in range(2, FRAMES, 2)
    ]
    assert all(t.live_camera_from_world is not None for t in tracked)
    assert errors(tracked, range(2, FRAMES, 2), 0).max() < 0.03


def test_another_room_is_never_found_in_it(recorded):
    path, _ = recorded
    for depth in (True, False):
        system = resumed(path, frozen=True)
        source = RoomSource(6, foreign=tuple(range(6)), has_depth=depth)
        assert all(system.process(source[i]).live_camera_from_world is None for i in range(6))


def test_two_sessions_become_one(recorded, tmp_path):
    path, first = recorded
    views = range(16, 40)
    second = make_system(close_loops=False)
    run(second, views)
    second.finish()
    system = resumed(path)
    overlap = system.mapping.joiner.overlap_of(system.landmark_map, second.landmark_map)
    assert len(overlap.keyframes) >= 3
    truth = np.linalg.inv(world_from_camera(0)) @ world_from_camera(16)
    assert np.linalg.norm((overlap.first_from_second - truth)[:3, 3]) < 0.02
    apart = len(system.landmark_map) + len(second.landmark_map)
    merge(system, second.landmark_map)
    assert len(system.landmark_map.keyframes) == len(first.landmark_map.keyframes) + len(
        second.landmark_map.keyframes
    )
    assert len(system.landmark_map) < 0.95 * apart, "what both have seen is fused"
    # The merged map knows the views of both.
    system.state = State.LOST
    for view in (2, 38):
        tracked = run(system, [view])
        assert errors(tracked, [view], 0).max() < 0.03


def test_sessions_of_different_places_are_not_merged(recorded):
    path, _ = recorded
    other = make_system(close_loops=False)
    source = RoomSource(10, foreign=tuple(range(10)))
    for i in range(10):
        other.process(source[i])
    with pytest.raises(UserError, match="no common place"):
        merge(resumed(path), other.landmark_map)


def test_files_that_do_not_serve(recorded, tmp_path):
    path, system = recorded
    with pytest.raises(UserError, match="no map"):
        load_session(tmp_path / "nothing", 100)
    save_map(tmp_path / "map", system.scene_map())
    with pytest.raises(UserError, match=r"session\.safetensors"):
        load_session(tmp_path / "map", CONFIG.max_landmarks)
    with pytest.raises(UserError, match="at most 10 fit"):
        load_session(path, 10)
    content = with_session(system.scene_map(), system.landmark_map)
    broken = {
        "keyframe/landmarks": lambda x: x + 10_000,
        "keyframe/uv": lambda x: x * np.nan,
        "landmark/points": lambda x: x[:-5],
        "keyframe/camera_from_world": lambda x: x[:-1],
        "depth_bend": lambda x: x[:-1],
    }
    for name, spoil in broken.items():
        extra = dict(content.extra)
        extra[name] = spoil(extra[name].copy())
        save_map(tmp_path / "broken", dataclasses.replace(content, extra=extra))
        with pytest.raises(UserError, match="not a complete session"):
            load_session(tmp_path / "broken", CONFIG.max_landmarks)


def test_a_frozen_system_needs_a_map():
    with pytest.raises(ValueError, match="no map"):
        make_system(frozen=True)
