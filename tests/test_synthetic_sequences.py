"""Named sequences: names, paths and what moves; at most small depth pictures are cast."""

import jax.numpy as jnp
import numpy as np
import pytest

from ace_jax.data.frame import Frame, FrameSource
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.synthetic.movers import COVERAGES
from ace_jax.synthetic.ray_casting import cast_rays
from ace_jax.synthetic.replay import ReplaySource, to_and_fro
from ace_jax.synthetic.room import clearance
from ace_jax.synthetic.scene import RoomWithMovers
from ace_jax.synthetic.sequences import ROOMS, open_synthetic, parse
from ace_jax.synthetic.source import SyntheticSource
from ace_jax.synthetic.trajectory import speeds

SMALL = Camera(131.25, 131.25, 79.5, 59.5, 160, 120)  # the usual camera's view, fewer pixels


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("room0", "room0"),
        ("synthetic/room1-noisy", "room1-noisy"),
        ("room0-noisy-loops10", "room0-loops10-noisy"),
        ("room2-movers40", "room2-movers40"),
        ("room1-kidnap-noisy", "room1-noisy-kidnap"),
        ("corridor-replay20000", "corridor-replay20000"),
        ("alike-kidnap", "alike-kidnap"),
        ("room1-bent-noisy", "room1-noisy-bent"),
        ("room2-gaps-noisy-loops2", "room2-loops2-noisy-gaps"),
        ("room0-shaken-dark-bare", "room0-bare-dark-shaken"),
        ("floor-small-noisy", "floor-noisy-small"),
    ],
)
def test_names_have_one_form(name, canonical):
    assert str(parse(name)) == canonical


@pytest.mark.parametrize(
    "name",
    [
        "room9", "", "-noisy", "../room0", "room0-", "room0-loud", "room0-noisy2",
        "room0-noisy-noisy", "room0-loops", "room0-loops1", "room0-loops101", "room0-movers30",
        "room0-loops3-movers20", "noisy", "corridor-loops2", "alike-movers20", "room0-replay",
        "room0-replay0", "room0-replay1000001", "room0-kidnap-replay5", "room0-kidnap2",
        "corridor0", "corridor-bare", "room0-gaps-kidnap", "room0-dark2", "floor-small-small",
    ],
)  # fmt: skip
def test_unknown_names_are_told_the_known_ones(name):
    with pytest.raises(UserError, match=r"no synthetic room .* room0, room1, room2"):
        parse(name)


def test_a_bent_sensor_bends_depth_alone():
    straight, bent = (
        open_synthetic(name, frames=2, camera=SMALL) for name in ("room0", "room0-bent")
    )
    assert bent.name == "synthetic/room0-bent"
    one, other = straight[1], bent[1]
    np.testing.assert_array_equal(one.rgb, other.rgb)
    np.testing.assert_array_equal(one.world_from_camera, other.world_from_camera)
    ratio = other.depth / one.depth - 1
    assert 0.01 < np.abs(ratio).max() < 0.1
    assert np.median(np.abs(np.diff(ratio, axis=0))) < 0.01 * np.abs(ratio).max()
    assert len(open_synthetic("room0-bent-replay7", frames=2, camera=SMALL)) == 7


def test_small_pictures_show_the_same():
    large, small = (open_synthetic(name, frames=2) for name in ("room1", "room1-small"))
    assert small.folder != large.folder
    assert (small.camera.width, small.camera.fx) == (320, large.camera.fx / 2)
    depth = small[0].depth
    assert depth.shape == (240, 320)
    apart = np.abs(large[0].depth[::2, ::2] - depth)
    assert np.median(apart) < 0.02 * np.median(depth)


def test_a_sequence_has_a_length():
    assert open_synthetic("room1-noisy", frames=2).name == "synthetic/room1-noisy"
    assert len(open_synthetic("room1", frames=2)) == 2
    with pytest.raises(UserError, match="at least one"):
        open_synthetic("room0", frames=0)
    with pytest.raises(UserError, match=r"corridor has 2018 frames, not 9999; use -replayN"):
        open_synthetic("corridor", frames=9999)


def test_loops_follow_one_path_again_and_again_but_never_exactly():
    once, loops = open_synthetic("room0"), open_synthetic("room0-loops10")
    assert len(loops) == 2000
    poses = loops.poses()
    linear, angular = speeds(poses)
    assert linear.max() < 1.0
    assert np.rad2deg(angular.max()) < 60.0
    assert clearance(loops.scene.room, poses[::5, :3, 3]).min() > 0.2
    position = poses[:, :3, 3].reshape(10, 200, 3)
    between = np.linalg.norm(position[1:] - position[:-1], axis=-1)
    assert between.max() < 0.2
    assert between.mean() > 0.02
    np.testing.assert_allclose(position[:, ::2].mean(0), once.poses()[::3, :3, 3], atol=0.06)


@pytest.mark.parametrize("world", sorted(ROOMS))
def test_people_walk_in_every_room_and_nothing_makes_way_for_them(world):
    still, moving = open_synthetic(world), open_synthetic(f"{world}-movers40")
    pose = jnp.asarray(still.poses()[100], jnp.float32)
    here = cast_rays(moving.scene.at(100), pose, SMALL).depth
    empty = cast_rays(still.scene.room, pose, SMALL).depth
    assert float((here - empty).max()) < 1e-3


@pytest.mark.parametrize("percent", sorted(COVERAGES))
def test_people_cover_the_stated_share_and_move_smoothly(percent):
    still, moving = open_synthetic("room0"), open_synthetic(f"room0-movers{percent}")
    np.testing.assert_array_equal(still.poses(), moving.poses())
    covered = []
    for index in range(0, 300, 10):
        pose = jnp.asarray(still.poses()[index], jnp.float32)
        here = cast_rays(moving.scene.at(index), pose, SMALL).depth
        empty = cast_rays(still.scene.room, pose, SMALL).depth
        assert float((here - empty).max()) < 1e-3
        assert float(here.min()) > 0.3
        covered.append(float((here < empty - 0.01).mean()))
    assert 100 * np.mean(covered) == pytest.approx(percent, abs=5)
    # they only jump where nobody looks: more than half the picture's width from its edge
    step = np.linalg.norm(np.diff(moving.scene.paths[..., :2], axis=0), axis=-1)
    forward = still.poses()[:, None, :3, 2]
    offset = moving.scene.paths[..., :2] - still.poses()[:, None, :2, 3]
    cross = forward[..., 0] * offset[..., 1] - forward[..., 1] * offset[..., 0]
    aside = np.rad2deg(np.abs(np.arctan2(cross, (forward[..., :2] * offset).sum(-1))))
    near = np.minimum(aside[1:], aside[:-1]) < 65
    assert step[near].max() * 30 < 2.0, "metres per second"
    assert (step.max(0) > 0.3).any(), "nobody came round again: the check above is void"


def test_a_replay_goes_to_and_fro_in_even_time():
    np.testing.assert_array_equal(to_and_fro(4, 9), [0, 1, 2, 3, 2, 1, 0, 1, 2])
    np.testing.assert_array_equal(to_and_fro(1, 3), [0, 0, 0])
    long, base = open_synthetic("room0-replay5000"), open_synthetic("room0")
    assert isinstance(long, FrameSource)
    assert len(long) == len(long.poses()) == 5000
    assert long.names()[4321] == "004321"
    np.testing.assert_allclose(np.diff(long.timestamps()), 1 / 30, atol=1e-9)
    np.testing.assert_array_equal(long.poses()[300], base.poses()[298])
    linear, _ = speeds(long.poses())
    assert linear.max() <= 0.65


class _Numbers:
    """A source whose pictures show their number."""

    name, camera, has_depth = "numbers", SMALL, False

    def __init__(self):
        self.prepared = []

    def __getitem__(self, index):
        rgb = np.full((SMALL.height, SMALL.width, 3), index, np.uint8)
        return Frame(index, f"frame-{index}", 0.5 * index, rgb, None, SMALL)

    def prepare(self, indices):
        self.prepared = indices


def test_a_replay_shows_the_frames_it_says():
    base = _Numbers()
    source = ReplaySource(base, [7, 3, 7], "again", teleports=[1])
    shown = list(source)
    assert [f.rgb[0, 0, 0] for f in shown] == [7, 3, 7]
    assert [f.index for f in shown] == [0, 1, 2]
    assert [f.name for f in shown] == source.names()
    np.testing.assert_allclose([f.timestamp for f in shown], source.timestamps())
    assert source[-1].index == 2
    with pytest.raises(IndexError, match="again has 3 frames"):
        source[3]
    source.prepare()
    assert base.prepared == [3, 7]
    source.prepare([1])
    assert base.prepared == [3]


@pytest.mark.parametrize(("name", "mapped"), [("room0-kidnap", 300), ("room0-loops10-kidnap", 400)])
def test_a_kidnapped_camera_is_far_from_where_it_was(name, mapped):
    source = open_synthetic(name)
    assert len(source.teleports) == 50
    assert len(source) == mapped + 500
    np.testing.assert_array_equal(source.indices[:mapped], np.arange(mapped))
    poses = source.poses()
    linear, angular = speeds(poses)
    moved = (linear > 0.5 * 30) | (np.rad2deg(angular) > 40 * 30)
    np.testing.assert_array_equal(np.flatnonzero(moved) + 1, source.teleports)
    if "loops" in name:
        assert source.indices[mapped:].min() >= mapped, "a picture of the mapping pass"
    again = open_synthetic(name)
    np.testing.assert_array_equal(source.indices, again.indices)


def test_each_frame_of_moving_people_has_its_own_place_in_the_cache():
    moving = open_synthetic("room0-movers20")
    assert moving._paths(0) != moving._paths(300 - 1)
    elsewhere = RoomWithMovers(moving.scene.room, moving.scene.paths + 0.01)
    other = SyntheticSource(moving.name, elsewhere, moving.poses(), moving.camera)
    assert other.folder == moving.folder
    assert other._paths(5) != moving._paths(5)


def test_the_light_fails_and_depth_stays():
    lit, dark = (open_synthetic(n, frames=36, camera=SMALL) for n in ("room0", "room0-dark"))
    assert dark.name == "synthetic/room0-dark"
    assert lit[3].rgb.mean() > 60 > 4 > dark[3].rgb.mean()
    np.testing.assert_array_equal(dark[3].rgb, dark[3].rgb)  # the same noise every time
    np.testing.assert_array_equal(lit[3].depth, dark[3].depth)
    np.testing.assert_array_equal(lit[35].rgb, dark[35].rgb)  # a second has passed


def test_a_shaken_camera_blurs_for_half_a_second():
    still, shaken = (open_synthetic(n, frames=47, camera=SMALL) for n in ("room0", "room0-shaken"))

    def gradients(frame):
        return np.abs(np.diff(frame.rgb.astype(float), axis=1)).mean()

    assert gradients(shaken[31]) < 0.8 * gradients(still[31])
    assert abs(shaken[31].rgb.mean() - still[31].rgb.mean()) < 2
    np.testing.assert_array_equal(still[46].rgb, shaken[46].rgb)


def test_gaps_are_in_the_first_half_and_times_go_on():
    whole, gaps = open_synthetic("room0-loops2"), open_synthetic("room0-loops2-gaps")
    times = gaps.timestamps()
    assert set(times) <= set(whole.timestamps())
    steps = np.diff(times)
    assert np.sum(steps > 0.5) == 2
    assert steps.max() > 2.0
    assert np.all(steps[times[:-1] > whole.timestamps()[-1] / 2] < 0.05)
    np.testing.assert_array_equal(gaps.poses()[-1], whole.poses()[-1])


def test_a_bare_room_has_little_in_it():
    bare, full = (open_synthetic(name).scene.contents() for name in ("room0-bare", "room0"))
    count = [int(np.sum(room.boxes.mask)) for room in (bare, full)]
    assert count[0] < 0.5 * count[1]
