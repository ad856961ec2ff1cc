"""Rooms joined by doorways: what is seen through them, and the walks through the buildings."""

import itertools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ace_jax.geometry.camera import Camera
from ace_jax.synthetic.building import Building, Link, both_ways
from ace_jax.synthetic.furnished_rooms import make_room
from ace_jax.synthetic.room import SHELL_FACES, Doorway, clearance
from ace_jax.synthetic.room_shell import make_style
from ace_jax.synthetic.sequences import open_synthetic
from ace_jax.synthetic.trajectory import speeds

SMALL = Camera(131.25, 131.25, 79.5, 59.5, 160, 120)
ALONG_X = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def _rays():
    v, u = np.mgrid[: SMALL.height, : SMALL.width].astype(np.float64)
    return (u - SMALL.cx) / SMALL.fx, (v - SMALL.cy) / SMALL.fy


def test_depth_through_two_doorways_in_a_row():
    size = (3.0, 4.0, 2.5)
    room = make_room(0, size, furniture=0.0, decoration=0.0)
    bare = room.replace(**{
        kind: getattr(room, kind).replace(mask=np.zeros_like(getattr(room, kind).mask))
        for kind in ("boxes", "cones", "ellipsoids")
    })  # fmt: skip
    offsets = np.array([[0, 0, 0], [3, 0.5, 0], [6, 0, 0]], float)
    links = [Link(0, Doorway(1, 2.0, 1.0, 2.0), 1), Link(1, Doorway(1, 1.4, 0.8, 2.0), 2)]
    building = Building([bare] * 3, offsets, both_ways(links, offsets))
    back = building.links[3]
    assert (back.room, back.other, back.doorway.face) == (2, 1, 0)
    assert back.doorway.center == pytest.approx(1.9)

    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = ALONG_X, (1.0, 2.0, 1.3)
    hits, seen = building._cast(0, jnp.asarray(pose, jnp.float32), SMALL, 0.0)
    assert sorted(seen) == [0, 1, 2]
    x, y = _rays()
    # for every ray: the planes x = 3, 6, 9, and which opening lets it pass
    depth = np.full(x.shape, np.inf)
    passing = np.ones(x.shape, bool)
    low_high = ((0.0, 4.0), (0.5, 4.5), (0.0, 4.0))
    openings = ((1.5, 2.5), (1.5, 2.3), (0, 0))
    for k in range(3):
        t = 3.0 * (k + 1) - 1.0
        left, right = ((2.0 - np.array(low_high[k])) / np.where(x == 0, 1e-9, x)[..., None]).T
        side = np.maximum(left, right).T
        up = np.where(y > 0, 1.3 / np.where(y == 0, 1, y), -1.2 / np.where(y == 0, 1, y))
        nearest = np.minimum(np.minimum(side, np.where(y == 0, np.inf, up)), t)
        depth = np.where(passing, nearest, depth)
        across, height = 2.0 - t * x, 1.3 - t * y
        passing &= (nearest == t) & (across > openings[k][0]) & (across < openings[k][1])
        passing &= height < 2.0
    got = np.zeros(x.shape)
    for tile, (r, c) in enumerate((r, c) for r in range(2) for c in range(2)):
        part = np.asarray(hits.depth)[tile].reshape(60, 80)
        got[60 * r : 60 * r + 60, 80 * c : 80 * c + 80] = part
    wrong = np.abs(got - depth) > 1e-3 * depth
    assert wrong.mean() < 0.002, "more than the openings' rims"
    assert (depth > 6).sum() > 20, "nothing is seen through both"
    looking_away = pose.copy()
    looking_away[:3, [0, 2]] *= -1
    assert building._cast(0, jnp.asarray(looking_away, jnp.float32), SMALL, 0.0)[1] == [0]


@pytest.fixture(scope="module")
def corridor():
    return open_synthetic("corridor")


def _openings(building, room):
    return [k.doorway for k in building.links if k.room == room]


def _check_walk(building, poses, every):
    """No faster than a person, and nowhere through a wall or a thing."""
    linear, angular = speeds(poses)
    assert linear.max() <= 1.0
    assert np.rad2deg(angular.max()) <= 60
    assert building.clearance(poses[::every, :3, 3]).min() > 0.28


def _rooms_on_the_way(building, poses):
    """Room numbers in the order of the walk; checks that rooms change in doorways only."""
    at = np.array([building.room_at(p) for p in poses[:, :3, 3]])
    for i in np.flatnonzero(np.diff(at)):
        here = poses[i, :3, 3] - building.offsets[at[i]]
        doors = [k.doorway for k in building.links if (k.room, k.other) == (at[i], at[i + 1])]
        assert any(abs(here[1 if d.face < 2 else 0] - d.center) < d.width / 2 - 0.2 for d in doors)
    for i in range(0, len(poses), 5):
        room = building.rooms[at[i]]
        local = poses[i, :3, 3] - building.offsets[at[i]]
        gaps = np.array([local[0], room.size[0] - local[0], local[1], room.size[1] - local[1]])
        for face in np.flatnonzero(gaps < 0.28):
            along = local[1 if face < 2 else 0]
            assert any(
                d.face == face and abs(along - d.center) < d.width / 2 - 0.2
                for d in _openings(building, at[i])
            ), f"frame {i} is at a wall"
    return [int(at[0]), *(int(b) for a, b in itertools.pairwise(at) if a != b)]


def test_the_corridor_is_walked_in_two_round_trips(corridor):
    poses, building = corridor.poses(), corridor.scene
    assert len(corridor) >= 2000
    assert speeds(poses)[0].sum() / 30 >= 40
    _check_walk(building, poses, every=8)
    # room 0 is come back to by the corridor's door, twice; room 1 is left by another than before
    assert _rooms_on_the_way(building, poses) == [0, 1, 2, 3, 4, 0, 1, 4, 0]


def test_rooms_that_look_alike_are_seen_once():
    source = open_synthetic("alike")
    poses, building = source.poses(), source.scene
    _check_walk(building, poses, every=8)
    assert _rooms_on_the_way(building, poses) == list(range(20))
    walls = [room.materials.colors[:SHELL_FACES] for room in building.rooms]
    posters = [
        {c.tobytes() for c, p in zip(room.materials.colors, room.materials.pattern, strict=True)
         if p == 3}
        for room in building.rooms
    ]  # fmt: skip
    for room, wall in zip(building.rooms[1:], walls[1:], strict=True):
        np.testing.assert_array_equal(wall, walls[0])
        assert not np.array_equal(room.boxes.center, building.rooms[0].boxes.center)
        assert room.boxes.mask.sum() > 130
    elsewhere = [set().union(*posters[:i], *posters[i + 1 :]) for i in range(20)]
    assert sum(bool(a & b) for a, b in zip(posters, elsewhere, strict=True)) > 15, "other posters"


def test_the_floor_is_walked_room_by_room():
    source = open_synthetic("floor")
    poses, building = source.poses(), source.scene
    _check_walk(building, poses, every=40)
    assert _rooms_on_the_way(building, poses) == list(range(50))
    # Each room has things of its own, and of eight directions five at least are looked in.
    assert len({room.boxes.center.tobytes() for room in building.rooms}) == 50
    at = np.array([building.room_at(p) for p in poses[::10, :3, 3]])
    yaw = np.arctan2(poses[::10, 1, 2], poses[::10, 0, 2])
    for room in range(50):
        assert len(np.unique(np.floor(yaw[at == room] / (np.pi / 4)))) >= 5


def test_doorways_stay_free():
    doors = [Doorway(1, 1.7), Doorway(2, 1.6)]
    for seed in range(6):
        room = make_room(seed, (3.7, 3.7, 2.6), doorways=doors, style=make_style(0))
        steps = np.linspace(0, 1.5, 16)
        ways = [(3.7 - s, 1.7, h) for s in steps for h in (0.3, 1.0, 1.6)]
        ways += [(1.6, s, h) for s in steps for h in (0.3, 1.0, 1.6)]
        assert clearance(room, np.array(ways), walls=False).min() > 0.1


def test_pictures_agree_across_a_doorway(corridor):
    # from room 1 into room 2, and from the doorway itself
    pictures = []
    for index in (240, 262):
        pose = corridor.poses()[index]
        rgb, depth = corridor.scene.render(index, jnp.asarray(pose, jnp.float32), SMALL)
        pictures.append((np.asarray(rgb) * 255, np.asarray(depth, np.float64), pose))
    (color, depth, world_from_a), (other, other_depth, world_from_b) = pictures
    assert corridor.scene.room_at(world_from_a[:3, 3]) != corridor.scene.room_at(
        world_from_b[:3, 3]
    )
    x, y = _rays()
    points = np.stack([x * depth, y * depth, depth], -1)
    b_from_a = np.linalg.inv(world_from_b) @ world_from_a
    points = points @ b_from_a[:3, :3].T + b_from_a[:3, 3]
    z = points[..., 2]
    u = (SMALL.fx * points[..., 0] / z + SMALL.cx).astype(np.float32)
    v = (SMALL.fy * points[..., 1] / z + SMALL.cy).astype(np.float32)
    inside = (z > 0.1) & (u > 1) & (v > 1) & (u < SMALL.width - 2) & (v < SMALL.height - 2)
    close = inside & (np.abs(cv2.remap(other_depth, u, v, cv2.INTER_LINEAR) - z) < 0.02 * z)
    assert close.sum() > 0.9 * inside.sum() > 5000
    assert np.median(np.abs(cv2.remap(other, u, v, cv2.INTER_LINEAR) - color)[close]) < 4.0


def test_the_cache_knows_buildings_apart(corridor):
    shorter = open_synthetic("corridor", frames=10)
    assert shorter.folder == corridor.folder
    assert open_synthetic("alike").folder != corridor.folder
    moved = Building(corridor.scene.rooms, corridor.scene.offsets + 1.0, corridor.scene.links)
    leaves = [jax.tree.leaves(scene.contents()) for scene in (moved, corridor.scene)]
    assert any(not np.array_equal(a, b) for a, b in zip(*leaves, strict=True))
