"""Loop closing in a world without images: true loops are closed, look-alikes are not."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import loop_world as lw
import numpy as np
import pytest

from ace_jax.geometry.pose_graph import exp
from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.geometry.rigid import invert
from ace_jax.localization.landmarks import MatchGates
from ace_jax.slam.config import LoopConfig
from ace_jax.slam.loops.loop_closing import LoopCloser
from ace_jax.slam.loops.loop_correction import LoopClosure, build_graph, move_map
from ace_jax.slam.loops.verification import Examination, holes, support
from ace_jax.slam.run import CompilationCounter

DRIFT = (0.002, 0.0005, 0.002, 0.0005, 0.0008, 0.0003)  # per keyframe, metres and radians
CONFIG = LoopConfig(max_candidate_landmarks=2048, max_group_landmarks=1024)
# No bound on drift: only what is seen can tell two places apart.
UNBOUNDED = dataclasses.replace(CONFIG, drift=(50.0, 0.0), drift_angle=(0.5, 0.0))


def make_closer(config: LoopConfig = CONFIG) -> LoopCloser:
    gates = MatchGates(np.float32(2.0), 0.75, 0.9, float(np.cos(1.05)), 2.0)
    return LoopCloser(lw.CAMERA, config, gates, NoiseModel(0.875, 0.0075))


def follow(
    recording: lw.Recording,
    path: np.ndarray,
    closer: LoopCloser,
    lag: int = 0,
    meanwhile: Callable[[lw.Recording], None] = lambda recording: None,
) -> list[LoopClosure]:
    """Adds a path's keyframes; each result arrives `lag` keyframes after it was asked for."""
    closures, task, result, age = [], None, None, 0
    for pose in path:
        number = recording.add(pose)
        if task is None:
            task, result, age = closer.close(recording.landmark_map, number), None, lag
        age += 1
        while task is not None and age > lag:
            try:
                result, age = task.send(result)(), 0 if lag else 1
                if lag:
                    meanwhile(recording)
            except StopIteration as stop:
                task = None
                if stop.value is not None:
                    closures.append(stop.value)
    return closures


@functools.cache
def ring(turns: float = 1.2) -> tuple[lw.Recording, list[LoopClosure], LoopCloser]:
    recording, closer = lw.Recording(lw.ring_scene(), DRIFT), make_closer()
    closures = follow(recording, lw.ring_path(int(133 * turns), turns), closer)
    return recording, closures, closer


def check(recording: lw.Recording) -> None:
    """What must hold of any map."""
    landmark_map = recording.landmark_map
    counts = np.zeros(landmark_map.capacity, int)
    for number, keyframe in landmark_map.keyframes.items():
        slots = landmark_map.landmarks_of(number)
        slots = slots[slots >= 0]
        assert len(np.unique(slots)) == len(slots)
        assert landmark_map.valid[slots].all()
        counts[slots] += 1
        np.testing.assert_allclose(
            keyframe.camera_from_world[:3, :3] @ keyframe.camera_from_world[:3, :3].T,
            np.eye(3),
            atol=1e-9,
        )
    np.testing.assert_array_equal(
        counts[landmark_map.valid], landmark_map.observations[landmark_map.valid]
    )
    assert np.isfinite(landmark_map.points[landmark_map.valid]).all()


def test_nothing_compiles_after_warm_up():
    """The first test, before another one has compiled what warming up might forget."""
    closer = make_closer()
    recording = lw.Recording(lw.ring_scene(), DRIFT)
    for job in closer.warm_up(recording.landmark_map, lw.BLANK):
        job()
    with CompilationCounter() as compilations:
        closures = follow(recording, lw.ring_path(150, 1.13), closer)
    assert closures
    assert compilations.count == 0


def test_a_drifting_round_is_closed():
    recording, closures, closer = ring()
    assert len(closures) == closer.outcomes["closed"] == 1
    closure = closures[0]
    assert closure.old_keyframe < 10 < 110 < closure.keyframe
    assert len(closure.confirmed_by) == 3
    assert closure.fused > 50
    check(recording)
    # What the closure says of the drift is true.
    open_loop = lw.Recording(lw.ring_scene(), DRIFT)
    path = np.stack(recording.truth)
    for pose in path:
        open_loop.add(pose)
    drifted = invert(open_loop.landmark_map.keyframes[closure.keyframe].camera_from_world)[:3, 3]
    off = np.linalg.norm(drifted - invert(path[closure.keyframe])[:3, 3])
    assert abs(closure.drift - off) < 0.15 * off
    assert recording.error() < 0.45 * open_loop.error()
    # The camera goes on in the old map: its newest keyframes observe landmarks of the first ones.
    landmark_map = recording.landmark_map
    seen = landmark_map.landmarks_of(landmark_map.keyframes.newest)
    assert np.sum(landmark_map.created_at[seen[seen >= 0]] < 40) > 20


def test_the_same_recording_gives_the_same_bits():
    recording, closures, _ = ring()
    again = lw.Recording(lw.ring_scene(), DRIFT)
    repeated = follow(again, np.stack(recording.truth), make_closer())
    assert [c.keyframe for c in closures] == [c.keyframe for c in repeated]
    for one, two in zip(
        recording.landmark_map.keyframes.values(),
        again.landmark_map.keyframes.values(),
        strict=True,
    ):
        np.testing.assert_array_equal(one.camera_from_world, two.camera_from_world)


def test_results_may_come_late_and_slots_be_used_again():
    rng = np.random.default_rng(0)

    def recycle(recording: lw.Recording) -> None:
        landmark_map = recording.landmark_map
        alive = np.flatnonzero(landmark_map.valid & (landmark_map.created_at > 0))
        landmark_map.remove(rng.choice(alive, 40, replace=False))

    recording = lw.Recording(lw.ring_scene(), DRIFT)
    closer = make_closer()
    closures = follow(recording, lw.ring_path(166, 1.25), closer, lag=2, meanwhile=recycle)
    assert len(closures) >= 1
    # Keyframes that came during the last computation moved along.
    assert closures[0].keyframe < len(recording.truth) - 3
    check(recording)
    assert recording.error() < 0.5 * 0.22
    steps = np.diff(np.stack([k.centre for k in recording.landmark_map.keyframes.values()]), axis=0)
    assert np.linalg.norm(steps, axis=1).max() < 0.3


def test_noise_that_is_learned_while_a_search_runs_does_not_change_it():
    recording, closures, _ = ring()
    again, closer = lw.Recording(lw.ring_scene(), DRIFT), make_closer()
    steps = 0
    for pose in np.stack(recording.truth):
        task, result = closer.close(again.landmark_map, again.add(pose)), None
        try:
            while True:
                job = task.send(result)
                closer.noise = NoiseModel(np.nan, np.nan)  # a job is on another thread
                result, steps = job(), steps + 1
                closer.noise = NoiseModel(0.875, 0.0075)
        except StopIteration:
            pass
    assert steps > 3
    assert closer.outcomes["closed"] == len(closures)
    for one, two in zip(
        recording.landmark_map.keyframes.values(),
        again.landmark_map.keyframes.values(),
        strict=True,
    ):
        np.testing.assert_array_equal(one.camera_from_world, two.camera_from_world)


def rooms(changed: float, count: int = 3) -> tuple[lw.Scene, list[np.ndarray]]:
    places = [np.array([5.0 * k, 0.0, 0.0]) for k in range(count)]
    scene = lw.room_scene(places[0], 0.0, 1)
    for k, place in enumerate(places[1:]):
        scene = scene + lw.room_scene(place, changed, k + 2)
    return scene, places


def visit(places: Sequence[np.ndarray], scene: lw.Scene, config: LoopConfig):
    closer = make_closer(config)
    path = np.concatenate([lw.look_around(place) for place in places])
    return follow(lw.Recording(scene), path, closer), closer


@pytest.mark.parametrize("changed", [0.2, 0.35])
def test_rooms_with_some_other_things_are_not_taken_for_each_other(changed):
    scene, places = rooms(changed)
    closures, closer = visit(places, scene, UNBOUNDED)
    # Its own room may close a round; another room may not be taken for it.
    assert all(closure.drift < 0.1 for closure in closures)
    # It was not for want of a likely candidate.
    assert closer.outcomes["landmarks missing"] + closer.outcomes["holes"] > 3


def test_the_same_room_is_recognised():
    scene, places = rooms(0.0, count=2)
    far = [places[0], np.array([50.0, 0.0, 0.0])]  # away, in the dark, and back
    closer = make_closer(UNBOUNDED)
    path = [*lw.look_around(far[0], 20), *lw.look_around(far[1], 12), *lw.look_around(far[0], 20)]
    closures = follow(lw.Recording(scene), np.stack(path), closer)
    assert len(closures) >= 1
    assert closures[0].drift < 0.02


def test_identical_rooms_are_told_apart_by_the_way_between_them():
    scene, places = rooms(0.0, count=2)
    closures, closer = visit(places, scene, CONFIG)
    assert all(closure.drift < 0.1 for closure in closures)
    # Also when the bound lets the other room be a candidate, but not the correction to it.
    closures, closer = visit(places, scene, dataclasses.replace(CONFIG, drift=(4.0, 0.0)))
    assert all(closure.drift < 0.1 for closure in closures)
    assert closer.outcomes["more than drift"] > 3


def test_maps_with_little_in_them():
    dark = lw.Recording(lw.Scene(np.zeros((1, 3)), np.zeros((1, 3)), np.ones((1, lw.DIM))))
    closer = make_closer()
    assert follow(dark, lw.ring_path(20, 0.05), closer) == []
    assert closer.outcomes.keys() <= {"nothing near", "small old map"}


def test_moving_a_map_keeps_what_keyframes_see():
    recording = lw.Recording(lw.ring_scene(), DRIFT)
    for pose in lw.ring_path(6, 0.05):
        recording.add(pose)
    landmark_map = recording.landmark_map
    slots = np.flatnonzero(landmark_map.valid & (landmark_map.created_at == 2))

    def in_camera() -> np.ndarray:
        pose = landmark_map.keyframes[2].camera_from_world
        return landmark_map.points[slots] @ pose[:3, :3].T + pose[:3, 3]

    before = in_camera()
    newest = landmark_map.keyframes[landmark_map.keyframes.newest].camera_from_world.copy()
    motion = exp(np.random.default_rng(0).normal(size=(4, 6)) * 0.3)
    move_map(landmark_map, np.arange(4), motion)
    np.testing.assert_allclose(in_camera(), before, atol=2e-6)
    # A keyframe beyond the motions follows the last one.
    moved = landmark_map.keyframes[landmark_map.keyframes.newest].camera_from_world @ motion[-1]
    np.testing.assert_allclose(moved, newest, atol=1e-12)


def test_the_graph_holds_every_keyframe():
    recording, _, _ = ring()
    landmark_map = recording.landmark_map
    table = landmark_map.landmarks_of(np.array(list(landmark_map.keyframes)))
    table[50] = -1  # a keyframe that shares nothing
    poses = np.stack([k.camera_from_world for k in landmark_map.keyframes.values()])
    graph = build_graph(np.arange(len(poses)), poses, table, [], CONFIG)
    edges = set(zip(graph.first.tolist(), graph.second.tolist(), strict=True))
    assert {(n, n + 1) for n in range(len(poses) - 1)} <= edges
    assert len(edges) == len(graph.first)
    assert not graph.is_loop.any()
    assert np.any(graph.second - graph.first > 100)  # the loop that was closed
    recent = (graph.second == 40) & (graph.second - graph.first < CONFIG.min_gap)
    assert 1 <= recent.sum() <= CONFIG.max_edges


def test_evidence():
    expected = np.array([20, 20, 20, 4] + [0] * 20)
    even = np.array([10, 9, 11, 0] + [0] * 20)
    hole = np.array([15, 1, 14, 0] + [0] * 20)
    blank = Examination(np.eye(4), np.zeros(0), expected, even, 0, 0)
    assert support(blank) == pytest.approx(30 / 64)
    assert holes(blank, CONFIG) == 0.0
    assert holes(dataclasses.replace(blank, found=hole), CONFIG) == pytest.approx(1 / 3)
    nothing = dataclasses.replace(blank, expected=0 * expected, found=0 * expected)
    assert (support(nothing), holes(nothing, CONFIG)) == (0.0, 0.0)
