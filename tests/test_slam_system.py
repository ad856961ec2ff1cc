"""The frame loop: lost and found again, and nothing learned while lost."""

import dataclasses

import jax
import numpy as np
import pytest
from slam_scene import CONFIG, RoomSource, make_system, world_from_camera

from ace_jax.data.frame import BadFrame
from ace_jax.evaluation.trajectory import Trajectory, compare
from ace_jax.slam.frame_poses import State
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.mapping.landmark_map import LandmarkMap

pytestmark = pytest.mark.optimized


def _run(
    source: RoomSource, system: LandmarkSlam | None = None, **options
) -> tuple[LandmarkSlam, list[State]]:
    """The system after the last frame, and its state after each."""
    system, states = system or make_system(**options), []
    for frame in source:
        system.process(frame)
        states.append(system.state)
    return system, states


def _ate(system: LandmarkSlam, source: RoomSource) -> float:
    truth = Trajectory(source.timestamps(), source.poses())
    errors = compare(Trajectory(*system.live_trajectory()), truth).ate_trans_m
    return float(np.sqrt(np.mean(errors**2)))


def _map_of(landmark_map: LandmarkMap) -> dict:
    arrays = {
        name: value.copy()
        for name, value in (vars(landmark_map) | vars(landmark_map.observed)).items()
        if isinstance(value, np.ndarray)
    }
    assert {"points", "descriptors", "valid", "counts"} <= arrays.keys()
    keyframes = [
        (k.frame_index, k.camera_from_world.copy(), landmark_map.landmarks_of(n).copy())
        for n, k in landmark_map.keyframes.items()
    ]
    return {**arrays, "keyframes": keyframes}


def _assert_same(a: dict, b: dict) -> None:
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("what", ["black", "foreign"])
def test_lost_is_told_the_map_rests_and_the_way_back_is_found(what):
    """30 frames without light, or of a room that the map does not know: no false recovery.

    In the other room another map begins; this one rests.
    """
    gone = range(12, 42)
    # While the camera sees nothing it goes on a little.
    order = (*range(12), *[15] * 30, *range(15, 25))
    source = RoomSource(len(order), order=order, **{what: tuple(gone)})
    system = make_system()
    before = None
    for frame in source:
        if frame.index == gone.start:
            before = _map_of(system.atlas.maps[0])
        tracked = system.process(frame)
        if frame.index in gone:
            if what == "black" or frame.index < gone.start + CONFIG.new_map_after - 1:
                assert system.state is State.LOST
                assert tracked.live_camera_from_world is None
            else:
                assert tracked.map == 1
            _assert_same(_map_of(system.atlas.maps[0]), before)
        elif frame.index == gone.stop:
            assert system.state is State.TRACKING  # at the first frame that shows the room
            assert tracked.map == 0
    assert system.state is State.TRACKING
    timestamps, poses = system.live_trajectory()
    assert len(timestamps) == len(poses) == len(source) - len(gone)
    np.testing.assert_array_equal(timestamps, np.delete(source.timestamps(), gone))
    assert _ate(system, source) < 0.01


def test_a_kidnapped_camera_is_found_at_once():
    source = RoomSource(22, order=(*range(20), 2, 3))
    system, states = _run(source)
    assert all(state is State.TRACKING for state in states)
    assert _ate(system, source) < 0.01


def test_every_frame_can_be_relocalized_without_a_prediction():
    source = RoomSource(16)
    system, states = _run(source, relocalize_always=True)
    assert all(state is State.TRACKING for state in states)
    assert _ate(system, source) < 0.01


def test_the_map_grows_as_soon_as_the_camera_is_found():
    """Else a camera that goes on into new parts of the room is lost again."""
    order = (*range(8), *[10] * 3, *range(22, 28))
    source, system = RoomSource(len(order), order=order, black=(8, 9, 10)), make_system()
    for frame in source:
        system.process(frame)
        if frame.index == 10:
            assert system.state is State.LOST
            known = len(system.landmark_map.keyframes)
    assert system.state is State.TRACKING
    assert len(system.landmark_map.keyframes) > known


def test_starts_when_there_is_something_to_see():
    source = RoomSource(8, black=(0, 1))
    system, states = _run(source)
    assert states[:2] == [State.STARTING] * 2
    assert states[2:] == [State.TRACKING] * 6
    first = system.live_trajectory()[1][0]
    np.testing.assert_array_equal(first, np.eye(4))  # the world is the first camera


def test_poses_are_rigid_camera_to_world_motions():
    source = RoomSource(14)
    system, _ = _run(source)
    for _, poses in (system.live_trajectory(), system.final_trajectory()):
        assert poses.dtype == np.float64
        rotations = poses[:, :3, :3]
        np.testing.assert_allclose(
            rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (14, 1, 1)), atol=1e-9
        )
        true = [np.linalg.inv(world_from_camera(0)) @ world_from_camera(i) for i in range(14)]
        np.testing.assert_allclose(poses, true, atol=0.02)


def test_points_lie_on_the_walls_and_the_map_file_has_them_all():
    system, _ = _run(RoomSource(10))
    points, colours = system.points()
    assert len(points) == len(colours) == len(system.landmark_map) > 100
    start = world_from_camera(0)
    in_room = points @ start[:3, :3].T + start[:3, 3]
    from_wall = np.abs(np.abs(in_room) - [2.0, 1.2, 1.6]).min(1)
    assert np.median(from_wall) < 0.02
    scene = system.scene_map()
    assert scene.head_options["landmarks"] == len(points)
    assert scene.feature_dim == system.extractor.dim


def test_unusable_frames_are_refused_and_leave_no_trace():
    source = RoomSource(6)
    system = make_system()
    for i in range(4):
        system.process(source[i])
    before, count = _map_of(system.landmark_map), len(system.frames)
    good = source[4]
    small = np.zeros((60, 80, 3), np.uint8)
    for bad in (
        dataclasses.replace(good, rgb=small),
        dataclasses.replace(good, depth=good.depth[:-1]),
    ):
        with pytest.raises(BadFrame, match=good.name):
            system.process(bad)
    _assert_same(_map_of(system.landmark_map), before)
    assert len(system.frames) == count
    system.process(good)
    assert system.state is State.TRACKING


@pytest.mark.parametrize("where", ["uv", "descriptors"])
def test_features_that_are_not_numbers_are_refused_by_the_frames_name(where, monkeypatch):
    source, system = RoomSource(4), make_system()
    for i in range(2):
        system.process(source[i])
    extract = system.extractor.extract

    def spoilt(rgb):
        features = extract(rgb)
        values = np.array(getattr(features, where))
        values[5, 0] = np.nan
        return features.replace(**{where: values})

    monkeypatch.setattr(system.extractor, "extract", spoilt)
    with pytest.raises(BadFrame, match=f"{source[2].name}.*{where}"):
        system.process(source[2])
    assert len(system.frames) == 2


@pytest.mark.parametrize("value", [None, 0.0, np.nan, np.inf, 65.535])
def test_frames_whose_depth_is_unusable_are_still_tracked(value):
    """Depth fails (too near, sunlight): the pixels alone still give the pose."""
    source = RoomSource(12)
    system = make_system()
    for frame in source:
        if frame.index in (6, 7, 8):
            depth = None if value is None else np.full_like(frame.depth, value)
            frame = dataclasses.replace(frame, depth=depth)
        tracked = system.process(frame)
        assert tracked.live_camera_from_world is not None
        assert np.isfinite(tracked.live_camera_from_world).all()
    assert np.isfinite(system.landmark_map.points).all()
    assert _ate(system, source) < 0.01


def test_stage_times_are_told():
    system, _ = _run(RoomSource(6))
    stages = system.times.by_stage()
    assert {"features", "depth", "tracking"} <= stages.keys()
    assert len(stages["tracking"]) == 4  # the first two compile
    assert all((ms >= 0).all() for ms in stages.values())
    assert system.times.newest.keys() <= stages.keys()


def test_a_full_map_retires_keyframes_and_keeps_the_trajectory():
    source = RoomSource(60)
    config = dataclasses.replace(CONFIG, max_keyframes=4, recent_keyframes=2)
    system, states = _run(source, config=config)
    system.finish()
    assert set(states) == {State.TRACKING}
    assert len(system.landmark_map.keyframes) == 4
    assert len(system.landmark_map.keyframes.retired) >= 2
    assert any(frame.reference in system.landmark_map.keyframes.retired for frame in system.frames)
    final = Trajectory(*system.final_trajectory())
    errors = compare(final, Trajectory(source.timestamps(), source.poses())).ate_trans_m
    assert len(errors) == 60
    assert np.sqrt(np.mean(errors**2)) < 0.01


def _adjustments(system: LandmarkSlam) -> list[tuple[int, list[int]]]:
    """Filled as the system runs: each bundle adjustment's frame and the keyframes that it moves."""
    log, within = [], system.landmark_map.edges.within

    def watched(window, rows, num_free, capacity):
        log.append((len(system.frames), window[rows < num_free].tolist()))
        return within(window, rows, num_free, capacity)

    system.landmark_map.edges.within = watched
    return log


@pytest.mark.parametrize(("gap", "lag"), [(2, CONFIG.mapping_lag), (2, 4), (4, 4)])
def test_every_keyframe_is_adjusted_soon_however_fast_they_come(gap, lag):
    """It waits for the two jobs under way at most, then it is fused, then adjusted."""
    config = dataclasses.replace(CONFIG, keyframe_min_gap=gap, keyframe_translation=0.0)
    source, system = RoomSource(32), make_system(config=config, mapping_lag=lag)
    adjusted = _adjustments(system)
    _, states = _run(source, system)
    assert set(states) == {State.TRACKING}
    keyframes = [(n, k.frame_index) for n, k in system.landmark_map.keyframes.items()]
    assert np.all(np.diff([frame for _, frame in keyframes]) == gap)
    for number, made in keyframes[1:]:  # the first one has no neighbours, and does not move
        if made + 3 * lag < len(source):
            begun = min(frame for frame, window in adjusted if number in window)
            assert made <= begun <= made + 3 * lag


def test_mapping_that_falls_behind_takes_what_waits_together(monkeypatch):
    """A computation is bounded however many keyframes wait; tracking goes on meanwhile."""
    config = dataclasses.replace(CONFIG, max_fused=3, keyframe_translation=0.0)
    system, source = make_system(config=config, mapping_lag=1000), RoomSource(30)
    adjusted, fused, fuse = _adjustments(system), [], system.mapping.mapper._fuse

    def watched(landmark_map, number, neighbours):
        fused.append(number)
        return fuse(landmark_map, number, neighbours)

    monkeypatch.setattr(system.mapping.mapper, "_fuse", watched)
    _, states = _run(source, system)
    assert set(states) == {State.TRACKING}
    made = list(system.landmark_map.keyframes)
    assert len(made) > 12
    assert fused == [1]
    system.finish()
    assert fused == [1, *made[-3:]]
    assert [window[0] for _, window in adjusted] == [1, made[-1]]
    assert set(made[-config.window_free :]) == set(adjusted[-1][1])


def test_what_is_learned_of_the_noise_reaches_everything_that_measures_with_it():
    system = make_system(close_loops=True)
    start = system.tracker.noise
    _run(RoomSource(6), system)
    assert system.tracker.noise.pixel_sigma < start.pixel_sigma
    assert system.mapping.mapper.noise == system.tracker.noise == system.mapping.loops.noise
