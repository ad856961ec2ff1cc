"""Named sequences: names, paths and what moves; at most small depth pictures are cast."""

import jax.numpy as jnp
import numpy as np
import pytest

from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.synthetic.movers import COVERAGES
from ace_jax.synthetic.render import cast_rays
from ace_jax.synthetic.room import clearance
from ace_jax.synthetic.sequences import open_synthetic, parse
from ace_jax.synthetic.trajectory import speeds

SMALL = Camera(131.25, 131.25, 79.5, 59.5, 160, 120)  # the usual camera's view, fewer pixels


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("room0", "room0"),
        ("synthetic/room1-noisy", "room1-noisy"),
        ("room0-noisy-loops10", "room0-loops10-noisy"),
        ("room2-movers40", "room2-movers40"),
    ],
)
def test_names_have_one_form(name, canonical):
    assert str(parse(name)) == canonical
    assert open_synthetic(name, frames=2).name == f"synthetic/{canonical}"


@pytest.mark.parametrize(
    "name",
    [
        "room9", "", "-noisy", "../room0", "room0-", "room0-loud", "room0-noisy2",
        "room0-noisy-noisy", "room0-loops", "room0-loops1", "room0-loops101", "room0-movers30",
        "room0-loops3-movers20", "noisy",
    ],
)  # fmt: skip
def test_unknown_names_are_told_the_known_ones(name):
    with pytest.raises(UserError, match=r"no synthetic room .* room0, room1, room2"):
        parse(name)


def test_a_sequence_has_frames():
    with pytest.raises(UserError, match="at least one"):
        open_synthetic("room0", frames=0)


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


def test_each_frame_of_moving_people_has_its_own_place_in_the_cache():
    moving = open_synthetic("room0-movers20")
    assert moving._paths(0) != moving._paths(300 - 1)
    before = moving._paths(5)
    moving.scene.paths[5] += 0.01
    assert moving._paths(5) != before
