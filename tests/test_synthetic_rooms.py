"""Rooms, camera paths and the difficulty dial: host code and small arrays, nothing is rendered."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ace_jax.data.frame import FrameSource
from ace_jax.synthetic.furnished_rooms import make_room
from ace_jax.synthetic.ray_casting import stage
from ace_jax.synthetic.room import Room, clearance
from ace_jax.synthetic.sequences import ROOMS, open_synthetic
from ace_jax.synthetic.trajectory import CLEARANCE, MAX_SPEED, MAX_TURN, make_trajectory, speeds
from ace_jax.synthetic.variation import MAX_GROUPS, rearrange, relight


def _leaves_equal(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


@pytest.fixture(scope="module")
def room() -> Room:
    return make_room(4)


def test_rooms_follow_from_the_seed_and_stack():
    rooms = [make_room(seed) for seed in range(6)]
    assert _leaves_equal(rooms[3], make_room(3))
    stacked = jax.tree.map(lambda *x: np.stack(x), *rooms)
    assert stacked.boxes.center.shape == (6, 384, 3)
    sizes = {tuple(room.size.tolist()) for room in rooms}
    assert len(sizes) == 6
    for r in rooms:
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(r))
        assert r.boxes.mask.sum() > 150, "an empty room"
        used = r.boxes.center[r.boxes.mask]
        assert (used > -0.1).all()
        assert (used < r.size + 0.1).all()
        assert max(k.group.max() for k in (r.boxes, r.cones, r.ellipsoids)) < MAX_GROUPS
        for kind in (r.boxes, r.cones, r.ellipsoids):
            assert (kind.size[kind.mask] > 0).all()
            eye = kind.rotation @ np.swapaxes(kind.rotation, -1, -2)
            np.testing.assert_allclose(eye, np.broadcast_to(np.eye(3), eye.shape), atol=1e-5)


def test_what_does_not_fit_is_left_out_whole():
    full, small = make_room(5), make_room(5, max_boxes=120)
    assert small.boxes.center.shape == (120, 3)
    assert small.boxes.mask.sum() < full.boxes.mask.sum()
    assert small.materials.pattern.shape == (6 + 120 + 64 + 96,)


def test_size_and_emptiness_can_be_asked_for():
    bare = make_room(1, size=(6.0, 5.0, 2.6), furniture=0.0, decoration=0.0)
    np.testing.assert_allclose(bare.size, (6.0, 5.0, 2.6))
    assert bare.boxes.mask.sum() < make_room(1, size=(6.0, 5.0, 2.6)).boxes.mask.sum() / 2


def test_clearance_knows_walls_and_solids(room):
    far = room.replace(**{
        kind: getattr(room, kind).replace(mask=np.zeros_like(getattr(room, kind).mask))
        for kind in ("boxes", "cones", "ellipsoids")
    })  # fmt: skip
    points = np.array([[1.0, 1.5, 0.3], [-0.2, 1.0, 1.0]])
    np.testing.assert_allclose(clearance(far, points), [0.3, -0.2], atol=1e-6)
    inside = room.boxes.center[room.boxes.mask]
    assert (clearance(room, inside) < 0).all()


@pytest.mark.parametrize("name", sorted(ROOMS))
def test_paths_are_exact_smooth_free_and_come_back(name):
    source = open_synthetic(name)
    assert isinstance(source, FrameSource)
    poses = source.poses()
    assert len(source) == len(poses) == 300
    rotation = poses[:, :3, :3]
    eye = np.broadcast_to(np.eye(3), rotation.shape)
    np.testing.assert_allclose(rotation @ np.swapaxes(rotation, 1, 2), eye, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0, atol=1e-12)
    linear, angular = speeds(poses)
    assert linear.max() <= MAX_SPEED
    assert 0.25 < linear.mean() < 0.6
    assert angular.max() <= MAX_TURN
    assert np.rad2deg(angular.mean()) > 10
    jolt = np.linalg.norm(np.diff(poses[:, :3, 3], n=2, axis=0), axis=-1)
    assert jolt.max() < 0.01, "metres per frame squared: a jump"
    assert clearance(source.scene.room, poses[:, :3, 3]).min() > CLEARANCE - 0.02
    assert np.linalg.norm(poses[-1, :3, 3] - poses[0, :3, 3]) < 0.05
    np.testing.assert_allclose(np.diff(source.timestamps()), 1 / 30, atol=1e-9)
    assert source.names()[7] == "000007"


def test_a_longer_path_continues_a_shorter_one(room):
    short, long = make_trajectory(room, 40, 0), make_trajectory(room, 330, 0)
    np.testing.assert_array_equal(short, long[:40])
    np.testing.assert_allclose(long[300:330], long[:30], atol=1e-9)


def test_a_room_without_space_says_so():
    low = make_room(0, size=(3.0, 3.0, 1.2), furniture=0.0)
    with pytest.raises(ValueError, match="no free camera path"):
        make_trajectory(low, 10, 0)


def test_relight_is_a_dial(room):
    key = jax.random.key(1)
    light = room.illumination
    same = relight(light, key, 0.0)
    for a, b in zip(jax.tree.leaves(light), jax.tree.leaves(same), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    other = relight(light, key, 1.0)
    assert np.abs(np.log(np.asarray(other.color) / light.color)).max() > 0.2
    assert (np.asarray(other.color) > 0).all()


def test_rearrange_moves_pieces_rigidly_and_nothing_else(room):
    key = jax.random.key(2)
    move = jax.jit(rearrange)
    moved = move(room, key, 0.5, 0.3, 0.4)
    fixed = (room.boxes.group < 0) & room.boxes.mask
    np.testing.assert_array_equal(moved.boxes.center[fixed], room.boxes.center[fixed])
    shift = np.linalg.norm(np.asarray(moved.boxes.center) - room.boxes.center, axis=-1)
    groups = [g for g in range(room.boxes.group.max() + 1) if (room.boxes.group == g).any()]
    away = [shift[room.boxes.group == g].max() > 1e-3 for g in groups]
    assert any(away)
    assert not all(away)
    for g in groups:
        members = room.boxes.group == g
        before, after = room.boxes.center[members], np.asarray(moved.boxes.center)[members]
        np.testing.assert_allclose(
            np.linalg.norm(before - before[0], axis=-1),
            np.linalg.norm(after - after[0], axis=-1),
            atol=1e-4,
        )
        np.testing.assert_allclose(before[:, 2], after[:, 2])
    still = move(room, key, 0.0, 0.3, 0.4)
    np.testing.assert_allclose(still.boxes.center, room.boxes.center, atol=1e-5)


def test_a_stage_changes_no_number_and_xla_does_not_look_through_it():
    def shared(x, k):
        return jnp.exp(x) * k

    def three(x, k, kept):
        y = stage(shared, x, k) if kept else shared(x, k)
        return [y + j for j in range(3)]

    x, k = np.array([np.nan, 0.5, 2.0], np.float32), np.arange(3)
    plain, staged = (jax.jit(three, static_argnums=2)(x, k, kept) for kept in (False, True))
    np.testing.assert_array_equal(plain, staged)
    compiled = jax.jit(three, static_argnums=2).lower(x, k, True).compile().as_text()
    assert "conditional(" in compiled
