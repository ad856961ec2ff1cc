"""The map's book-keeping: counters agree with the table whatever is done to it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ace_jax.geometry.camera import Camera
from ace_jax.slam.mapping.keyframes import NO_LANDMARK, Keyframe
from ace_jax.slam.mapping.landmark_map import LandmarkMap

CAPACITY, FEATURES, DIM, APPEARANCES = 24, 12, 4, 3


def _pose(x: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    pose[0, 3] = -x  # camera centre at (x, 0, 0), looking along +z
    return pose


def make_keyframe(landmarks=None, x: float = 0.0, seed: int = 0) -> tuple[Keyframe, np.ndarray]:
    """A keyframe, and the landmarks of its features."""
    rng = np.random.default_rng(seed)
    descriptors = rng.normal(size=(FEATURES, DIM)).astype(np.float32)
    slots = np.full(FEATURES, NO_LANDMARK, np.int32)
    if landmarks is not None:
        slots[: len(landmarks)] = landmarks
    keyframe = Keyframe(
        frame_index=seed,
        camera_from_world=_pose(x),
        uv=rng.uniform(0, 100, (FEATURES, 2)).astype(np.float32),
        descriptors=descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True),
        depth=np.ones(FEATURES, np.float32),
        mask=np.ones(FEATURES, bool),
        inlier_ratio=1.0,
    )
    return keyframe, slots


def make_map(count: int = 6) -> LandmarkMap:
    """One keyframe at the origin whose first `count` features have landmarks ahead of it."""
    landmark_map = LandmarkMap(CAPACITY, DIM, APPEARANCES)
    landmark_map.add_keyframe(*make_keyframe())
    create(landmark_map, 0, np.arange(count))
    return landmark_map


def create(landmark_map: LandmarkMap, number: int, features: np.ndarray) -> np.ndarray:
    """Landmarks in a row, 2 m ahead; returns their slots."""
    points = np.stack([features * 0.1, features * 0.0, features * 0 + 2.0], 1).astype(np.float32)
    landmark_map.create(number, features, points, np.full((len(features), 3), 7, np.uint8))
    return landmark_map.landmarks_of(number)[features]


def check(landmark_map: LandmarkMap) -> None:
    """What must hold at any time."""
    seen = np.zeros(CAPACITY, int)
    for number in landmark_map.keyframes:
        slots = landmark_map.landmarks_of(number)
        slots = slots[slots != NO_LANDMARK]
        assert len(np.unique(slots)) == len(slots), "a keyframe observes a landmark twice"
        assert landmark_map.valid[slots].all(), "a keyframe observes a landmark that is gone"
        seen[slots] += 1
    np.testing.assert_array_equal(
        landmark_map.observations[landmark_map.valid], seen[landmark_map.valid]
    )
    assert len(landmark_map) == landmark_map.valid.sum() <= CAPACITY
    for array in (
        landmark_map.points,
        landmark_map.descriptors,
        landmark_map.view_directions,
        landmark_map.distances,
    ):
        assert np.isfinite(array).all()
    live = landmark_map.keyframes.anchors()
    assert set(live.tolist()) == set(landmark_map.keyframes)
    assert landmark_map.keyframes.keys() | landmark_map.keyframes.retired.keys() == set(
        range(landmark_map.keyframes.next_number)
    )
    norms = np.linalg.norm(landmark_map.view_directions[landmark_map.valid & (seen > 0)], axis=1)
    np.testing.assert_allclose(norms, 1.0, atol=1e-5)


def _random_operation(landmark_map: LandmarkMap, rng: np.random.Generator) -> None:
    operation = rng.choice(
        ["keyframe", "create", "observe", "fuse", "forget", "cull", "remove", "retire"]
    )
    number = int(rng.choice(list(landmark_map.keyframes)))
    landmarks = landmark_map.landmarks_of(number)
    free = rng.permutation(np.flatnonzero(landmarks == NO_LANDMARK))
    alive = rng.permutation(np.flatnonzero(landmark_map.valid))
    if operation == "keyframe":
        slots = alive[: rng.integers(FEATURES + 1)]
        landmark_map.add_keyframe(*make_keyframe(slots, rng.normal(), int(rng.integers(1000))))
    elif operation == "create":
        create(landmark_map, number, free[: rng.integers(len(free) + 1)])
    elif operation == "observe":
        new = np.setdiff1d(alive, landmarks)
        count = rng.integers(min(len(new), len(free)) + 1)
        landmark_map.observe(number, free[:count], new[:count])
    elif operation == "fuse" and len(alive) > 1:
        # Also with itself, and with what is gone.
        landmark_map.fuse(int(alive[0]), int(rng.choice([alive[rng.integers(2)], CAPACITY - 1])))
    elif operation == "forget":
        # Also features that have no landmark: bundle adjustment may have removed it meanwhile.
        landmark_map.forget(number, rng.permutation(FEATURES)[: rng.integers(FEATURES)])
    elif operation == "cull":
        landmark_map.cull(landmark_map.keyframes.next_number, patience=int(rng.integers(6)))
    elif operation == "remove":
        landmark_map.remove(rng.integers(-1, CAPACITY, 3))
    elif operation == "retire" and len(landmark_map.keyframes) > 1:
        landmark_map.retire(number)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 60))
def test_counters_agree_with_the_table(seed, steps):
    rng = np.random.default_rng(seed)
    landmark_map = make_map()
    for _ in range(steps):
        _random_operation(landmark_map, rng)
        check(landmark_map)
    # No slot leaks: whatever happened, the map can be filled to the last place.
    while len(landmark_map) < CAPACITY:
        number = landmark_map.add_keyframe(*make_keyframe())
        create(landmark_map, number, np.arange(min(FEATURES, CAPACITY - len(landmark_map))))
        check(landmark_map)
    assert landmark_map.valid.all()


def test_create_stores_what_it_was_given():
    landmark_map = make_map(6)
    slots = landmark_map.landmarks_of(0)[:6]
    np.testing.assert_allclose(landmark_map.points[slots][:, 0], 0.1 * np.arange(6), atol=1e-6)
    np.testing.assert_array_equal(
        landmark_map.descriptors[0, slots], landmark_map.keyframes[0].descriptors[:6]
    )
    assert not landmark_map.descriptors[1:, slots].any()
    assert (landmark_map.colours[slots] == 7).all()
    np.testing.assert_allclose(landmark_map.distances[slots[0]], 2.0)
    np.testing.assert_allclose(landmark_map.view_directions[slots[0]], [0, 0, -1], atol=1e-6)
    assert (landmark_map.observations[slots] == 1).all()


def test_observers_are_averaged_and_appearances_kept():
    landmark_map = make_map(1)
    slot = landmark_map.landmarks_of(0)[:1]
    for i, x in enumerate([2.0, 0.0, 0.0, 0.0], start=1):
        landmark_map.add_keyframe(*make_keyframe(slot, x, i))
    assert landmark_map.observations[slot] == 5
    distances = [2.0, np.hypot(2, 2), 2.0, 2.0, 2.0]
    np.testing.assert_allclose(landmark_map.distances[slot], np.mean(distances), rtol=1e-5)
    # Three places for five appearances: the newest are there, each of unit length.
    stored = landmark_map.descriptors[:, slot[0]]
    np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1.0, atol=1e-5)
    newest = landmark_map.keyframes[4].descriptors[0]
    assert np.isclose(stored, newest).all(1).any()


def test_forgetting_the_last_observation_removes_the_landmark():
    landmark_map = make_map(4)
    landmark_map.add_keyframe(*make_keyframe(landmark_map.landmarks_of(0)[:2], 0.5, 1))
    slots = landmark_map.landmarks_of(0)[:4].copy()
    landmark_map.forget(0, np.array([0, 3]))
    check(landmark_map)
    np.testing.assert_array_equal(landmark_map.valid[slots], [True, True, True, False])
    np.testing.assert_array_equal(landmark_map.observations[slots[:3]], [1, 2, 1])


def test_fusing_hands_over_the_observers():
    landmark_map = make_map(2)
    kept, dropped = landmark_map.landmarks_of(0)[:2]
    landmark_map.add_keyframe(*make_keyframe([dropped], 0.1, 1))
    landmark_map.add_keyframe(*make_keyframe([kept, dropped], 0.2, 2))
    landmark_map.fuse(int(kept), int(dropped))
    check(landmark_map)
    assert landmark_map.valid[kept]
    assert not landmark_map.valid[dropped]
    # Frames 0 and 2 saw both and keep the first one's feature; frame 1 saw only the dropped one.
    shown = landmark_map.landmarks_of(np.arange(3))[:, :2]
    np.testing.assert_array_equal(shown, [[kept, NO_LANDMARK]] * 3)
    assert landmark_map.observations[kept] == 3


def test_culling_waits_and_spares_what_was_seen_again():
    landmark_map = make_map(3)
    slots = landmark_map.landmarks_of(0)[:3].copy()
    landmark_map.add_keyframe(*make_keyframe(slots[:1], 0.1, 1))
    landmark_map.cull(2, patience=3)
    assert landmark_map.valid[slots].all()
    landmark_map.cull(3, patience=3)
    np.testing.assert_array_equal(landmark_map.valid[slots], [True, False, False])
    check(landmark_map)


def test_what_few_observe_is_removed_when_asked():
    landmark_map = make_map(3)
    slots = landmark_map.landmarks_of(0)[:3].copy()
    landmark_map.add_keyframe(*make_keyframe(slots[:1], 0.1, 1))
    landmark_map.remove_little_observed(slots[:2], 2)
    np.testing.assert_array_equal(landmark_map.valid[slots], [True, False, True])
    check(landmark_map)


def test_a_full_map_recycles_the_least_seen_then_the_longest_unseen():
    landmark_map = LandmarkMap(CAPACITY, DIM, APPEARANCES)
    landmark_map.add_keyframe(*make_keyframe())
    first = create(landmark_map, 0, np.arange(FEATURES)).copy()
    landmark_map.add_keyframe(*make_keyframe(first[:4], 0.1, 1))  # four are seen twice
    second = create(landmark_map, 1, np.arange(4, FEATURES)).copy()
    landmark_map.add_keyframe(*make_keyframe(None, 0.2, 2))
    create(landmark_map, 2, np.arange(FEATURES))  # 20 are there, 12 come, 24 fit: 8 must go
    check(landmark_map)
    assert len(landmark_map) == CAPACITY
    assert landmark_map.valid[first[:4]].all()
    assert not np.isin(landmark_map.landmarks_of(0)[4:], first[4:]).any()
    np.testing.assert_array_equal(landmark_map.landmarks_of(1)[4:], second)


def test_more_features_than_the_map_can_ever_hold():
    landmark_map = LandmarkMap(5, DIM, APPEARANCES)
    landmark_map.add_keyframe(*make_keyframe())
    features = np.arange(FEATURES)
    landmark_map.create(
        0, features, np.ones((FEATURES, 3), np.float32), np.zeros((FEATURES, 3), np.uint8)
    )
    assert len(landmark_map) == 5
    assert (landmark_map.landmarks_of(0) >= 0).sum() == 5


def test_blocks_are_padded_and_masked():
    landmark_map = make_map(4)
    slots = landmark_map.landmarks_of(0)[:4].astype(np.int64)
    landmark_map.remove(slots[2:3])
    block = landmark_map.block(np.append(slots, NO_LANDMARK), 8)
    np.testing.assert_array_equal(block.mask, [True, True, False, True, *[False] * 4])
    np.testing.assert_array_equal(block.points[:2], landmark_map.points[slots[:2]])
    assert block.descriptors.shape == (8, APPEARANCES, DIM)
    assert len(landmark_map.block(slots, 3).points) == 3


def test_covisibility_and_what_keyframes_see():
    landmark_map = make_map(5)
    slots = landmark_map.landmarks_of(0)[:5].copy()
    landmark_map.add_keyframe(*make_keyframe(slots[3:], 0.1, 1))
    np.testing.assert_array_equal(landmark_map.covisibility(np.append(slots[2:], -1)), [3, 2])
    np.testing.assert_array_equal(landmark_map.slots_seen_by(np.array([1])), np.sort(slots[3:]))
    np.testing.assert_array_equal(landmark_map.slots_seen_by(np.array([0, 1])), np.sort(slots))
    assert len(landmark_map.slots_seen_by(np.array([], int))) == 0


@pytest.mark.parametrize(
    ("point", "seen"),
    [([0, 0, 2], True), ([0, 0, -2], False), ([0.5, 0, 2], True), ([3, 0, 2], False)],
)
def test_in_view(point, seen):
    landmark_map = make_map(1)
    slot = landmark_map.landmarks_of(0)[:1]
    landmark_map.points[slot] = point
    camera = Camera(100.0, 100.0, 50.0, 50.0, 100, 100)
    assert landmark_map.in_view(slot, _pose(), camera, margin=10)[0] == seen


def test_a_retired_pose_follows_the_keyframe_that_saw_the_same():
    landmark_map = make_map(6)
    slots = landmark_map.landmarks_of(0)[:6].copy()
    for x, shown in ((1.0, slots[:2]), (2.0, slots[:5]), (3.0, slots[3:])):
        landmark_map.add_keyframe(*make_keyframe(shown, x))
    before = [landmark_map.keyframes.pose_of(n) for n in range(4)]
    landmark_map.retire(2)  # keyframe 0 shares five landmarks with it, 3 two
    landmark_map.retire(3)
    assert list(landmark_map.keyframes) == [0, 1]
    assert landmark_map.keyframes.anchored(2)[0] == 0 == landmark_map.keyframes.anchored(3)[0]
    for number, pose in enumerate(before):
        np.testing.assert_allclose(landmark_map.keyframes.pose_of(number), pose, atol=1e-12)
    assert landmark_map.observations[slots].tolist() == [2, 2, 1, 1, 1, 1]
    landmark_map.keyframes[0].camera_from_world = _pose(0.5)
    np.testing.assert_allclose(landmark_map.keyframes.pose_of(2), _pose(2.5), atol=1e-12)
    np.testing.assert_allclose(landmark_map.keyframes.pose_of(1), before[1])


def test_chains_of_retired_keyframes_end_at_a_live_one():
    landmark_map = make_map(3)
    for x in range(1, 5):  # each shares landmarks with the one before only
        number = landmark_map.add_keyframe(*make_keyframe(None, float(x)))
        create(landmark_map, number, np.arange(3))
        landmark_map.show(number - 1, np.arange(6, 9), landmark_map.landmarks_of(number)[:3])
    before = [landmark_map.keyframes.pose_of(n) for n in range(5)]
    for number in (3, 2, 1):
        landmark_map.retire(number)
    for number, pose in enumerate(before):
        np.testing.assert_allclose(landmark_map.keyframes.pose_of(number), pose, atol=1e-12)
    np.testing.assert_array_equal(np.isin(landmark_map.keyframes.anchors(), [0, 4]), True)


def test_the_last_keyframe_stays():
    with pytest.raises(ValueError, match="only keyframe"):
        make_map().retire(0)


def test_the_least_useful_keyframes_make_room():
    landmark_map = make_map(8)
    slots = landmark_map.landmarks_of(0)[:8].copy()
    for x in range(1, 5):  # everything that these see, others see too
        landmark_map.add_keyframe(*make_keyframe(slots, float(x)))
    alone = landmark_map.add_keyframe(*make_keyframe(None, 5.0))
    create(landmark_map, alone, np.arange(4))
    for x in range(6, 9):
        landmark_map.add_keyframe(*make_keyframe(slots, float(x)))
    landmark_map.retire_surplus(limit=6, recent=2)
    check(landmark_map)
    assert list(landmark_map.keyframes) == [0, 4, alone, 6, 7, 8]
    landmark_map.retire_surplus(limit=1, recent=2)
    assert list(landmark_map.keyframes) == [0, 7, 8]


def test_the_table_does_not_grow_with_retired_keyframes():
    landmark_map = make_map(6)
    slots = landmark_map.landmarks_of(0)[:6].copy()
    for x in range(500):
        landmark_map.add_keyframe(*make_keyframe(slots, float(x)))
        landmark_map.retire_surplus(limit=20, recent=5)
    assert len(landmark_map.observed._table) == 64
    assert len(landmark_map.keyframes) == 20
    assert landmark_map.keyframes.next_number == 501
    check(landmark_map)


def test_content_numbers_what_is_left():
    landmark_map = make_map(6)
    slots = landmark_map.landmarks_of(0)[:6].copy()
    for x in range(1, 6):
        landmark_map.add_keyframe(*make_keyframe(slots[: 7 - x], float(x)))
    landmark_map.retire(1)
    landmark_map.retire(4)
    landmarks, keyframes, observed = landmark_map.content()
    other = LandmarkMap(CAPACITY, DIM, APPEARANCES)
    camera = Camera(100.0, 100.0, 50.0, 50.0, 100, 100)
    other.adopt(landmarks, keyframes, observed, landmark_map.depth_calibration, camera)
    check(other)
    assert list(other.keyframes) == [0, 1, 2, 3]
    for number, old in enumerate((0, 2, 3, 5)):
        pose = landmark_map.keyframes.pose_of(old)
        np.testing.assert_array_equal(other.keyframes.pose_of(number), pose)
    newest = other.landmarks_of(3)
    assert (other.last_seen[newest[newest >= 0]] == 3).all()
