"""Depth from posed images: plane sweep on grids, triangulation of keypoints."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapping_world import CAMERA, World, WorldExtractor, WorldSource

from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera, camera_rows
from ace_jax.mapping import images as images_module
from ace_jax.mapping import points
from ace_jax.mapping.images import extract_images, regular_grid, select_frames
from ace_jax.mapping.plane_sweep import grid_row, inverse_depths, sweep
from ace_jax.mapping.triangulation import triangulate

VIEWS = tuple(range(1, 31))


def _images(**changes):
    source = WorldSource(VIEWS, **changes)
    return extract_images(source, range(len(source)), WorldExtractor(), source.has_depth)


def _true_depth(image):
    world = World()
    _, uv, depth, _ = world.observe(VIEWS[image.frame])
    np.testing.assert_allclose(uv, image.uv[: len(uv)], atol=1e-3)
    return np.concatenate([depth, np.ones(len(image.uv) - len(depth))])


def test_keypoints_are_triangulated_to_their_noise():
    images = _images()
    depths = points.estimated_depths(images, None, None)
    found = np.concatenate([d.valid for d in depths])
    error = np.concatenate(
        [np.abs(d.depth / _true_depth(i) - 1) for i, d in zip(images, depths, strict=True)]
    )
    assert found.mean() > 0.5
    assert np.median(error[found]) < 0.02
    assert np.quantile(error[found], 0.95) < 0.15


def test_wrong_matches_are_not_triangulated():
    # Neighbours whose descriptors belong to other points.
    first, *others = _images()[:6]
    rng = np.random.default_rng(0)
    found = jax.jit(triangulate)(
        first.descriptors.astype(np.float32),
        first.uv,
        first.mask,
        CAMERA,
        np.stack([o.descriptors[rng.permutation(len(o.uv))] for o in others]).astype(np.float32),
        np.stack([o.uv for o in others]),
        np.stack([o.mask for o in others]),
        np.stack([o.camera_from_world @ first.world_from_camera for o in others]).astype(
            np.float32
        ),
        camera_rows([o.camera for o in others]),
    )
    assert np.isfinite(np.asarray(found.depth)).all()
    assert found.valid.sum() <= 2
    assert found.lone.sum() <= 2


def test_two_images_are_enough_for_points():
    source = WorldSource((2.0, 9.0))
    images = extract_images(source, range(2), WorldExtractor(), False)
    depths = points.estimated_depths(images, None, None)
    both = np.isin(*(World().observe(view)[0] for view in source.views))
    for k, (image, found) in enumerate(zip(images, depths, strict=True)):
        true = World().observe(source.views[k])[2]
        valid = found.valid[: len(true)]
        assert valid.sum() > 0.7 * both.sum()
        error = np.abs(found.depth[: len(true)] / true - 1)[valid]
        assert np.median(error) < 0.02
        assert np.quantile(error, 0.95) < 0.1
        assert not found.valid[len(true) :].any(), image.name


def _seen_by(depths, wrong=(), rows=40, descriptors=None):
    """Triangulation of points at 2 m seen by cameras beside; the wrong see them at other depths."""
    rng = np.random.default_rng(3)
    uv = rng.uniform([60, 60], [580, 420], (rows, 2)).astype(np.float32)
    rays = np.concatenate([(uv - [CAMERA.cx, CAMERA.cy]) / CAMERA.fx, np.ones((rows, 1))], axis=1)
    relative = np.tile(np.eye(4, dtype=np.float32), (len(depths), 1, 1))
    relative[:, 0, 3] = -0.1 * (1 + np.arange(len(depths)))
    seen = rays[None] * np.array(depths)[:, None, None] + relative[:, None, :3, 3]
    theirs = seen[..., :2] / seen[..., 2:] * CAMERA.fx + [CAMERA.cx, CAMERA.cy]
    if descriptors is None:
        descriptors = np.eye(rows)
    mine = np.asarray(descriptors, np.float32)
    return jax.jit(triangulate)(
        mine,
        uv,
        np.ones(rows, bool),
        CAMERA,
        np.stack([mine] * len(depths)),
        theirs.astype(np.float32),
        np.ones((len(depths), rows), bool),
        relative,
        camera_rows([CAMERA] * len(depths)).astype(np.float32),
    )


def test_the_depth_that_most_matches_agree_on_is_found():
    # The median of these four is a depth that none of them has.
    found = _seen_by((0.6, 0.55, 2.0, 2.0))
    assert found.valid.all()
    np.testing.assert_allclose(found.depth, 2.0, rtol=1e-3)


def test_a_single_match_counts_if_it_is_distinctive():
    alone = _seen_by((2.0,))
    assert alone.lone.all()
    assert not alone.valid.any()
    np.testing.assert_allclose(alone.depth, 2.0, rtol=1e-3)
    # Each feature has a twin that is nearly as similar.
    twins = np.repeat(np.eye(20), 2, axis=0) + 0.02 * np.random.default_rng(0).normal(size=(40, 20))
    twins /= np.linalg.norm(twins, axis=1, keepdims=True)
    noisy = _seen_by((2.0,), descriptors=twins)
    assert (noisy.ratio <= 1.0).all()
    confirmed = _seen_by((2.0, 2.0), descriptors=twins)
    assert confirmed.valid.all()
    assert not confirmed.lone.any()


def test_lone_points_fill_up_what_an_image_lacks():
    rng = np.random.default_rng(0)
    sure, lone, ratio = rng.random(1000) < 0.2, rng.random(1000) < 0.5, rng.random(1000)
    lone &= ~sure
    used = points.enough(sure, lone, ratio)
    assert used[sure].all()
    assert used.sum() == 256
    taken = used & ~sure
    assert not taken[~lone].any()
    assert ratio[taken].max() < ratio[lone & ~taken].min()
    everything = points.enough(lone, sure, ratio)
    np.testing.assert_array_equal(everything, lone)  # there are enough
    np.testing.assert_array_equal(points.enough(sure, np.zeros(1000, bool), ratio), sure)


def test_neighbours_that_turn_far_come_last_and_only_for_keypoints():
    images = _images()[:6]
    poses = [np.eye(4) for _ in images]
    for pose, degrees in zip(poses[1:], (58, 40, 10, 20, 70), strict=True):
        turn = np.radians(degrees)
        pose[[0, 0, 2, 2], [0, 2, 0, 2]] = np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn)
        pose[0, 3] = 0.18 + 0.005 * degrees
    posed = [
        dataclasses.replace(image, camera_from_world=np.linalg.inv(pose))
        for image, pose in zip(images, poses, strict=True)
    ]
    assert points.neighbours(posed, 0, 2.0) == [3, 4, 2, 1]
    grids = [dataclasses.replace(image, grid=(12, 16)) for image in posed]
    assert points.neighbours(grids, 0, 2.0) == [3, 4]


def test_no_baseline_means_no_points():
    source = WorldSource((5.0,) * 12)
    images = extract_images(source, range(12), WorldExtractor(), False)
    with pytest.raises(UserError, match="hardly any point"):
        points.estimated_depths(images, None, None)


def test_world_points_are_where_the_world_has_them():
    image = _images()[3]
    index, *_ = World().observe(VIEWS[3])
    found = points.world_points(image, _true_depth(image))[: len(index)]
    assert np.median(np.linalg.norm(found - World().points[index], axis=1)) < 0.01


def test_measured_depth_is_taken_where_there_is_any():
    images = _images(has_depth=True)
    depths = points.measured_depths(images)
    valid = np.concatenate([d.valid for d in depths])
    error = np.concatenate(
        [np.abs(d.depth - _true_depth(i)) for i, d in zip(images, depths, strict=True)]
    )
    assert valid.mean() > 0.5
    assert np.median(error[valid]) < 1e-3


# A textured relief seen by a sweeping camera: descriptors are a smooth function of the surface.
GRID, CELL = (24, 32), 8
SMALL = Camera(200.0, 200.0, 127.5, 95.5, 256, 192)
_WAVES = np.random.default_rng(1).normal(size=(3, 16)) * 12.0


@functools.cache
def _cells(grid=GRID):
    v, u = np.mgrid[: grid[0], : grid[1]]
    return ((np.stack([u.ravel(), v.ravel()], 1) + 0.5) * CELL - 0.5).astype(np.float32)


def _relief(shift, camera=SMALL, grid=GRID):
    """Depth (N,) and descriptors (N, 32) of a tilted plane, from a camera moved along x."""
    uv = _cells(grid)
    x, y = (uv[:, 0] - camera.cx) / camera.fx, (uv[:, 1] - camera.cy) / camera.fy
    ray = np.stack([x, y, np.ones(len(uv))], 1)
    # Plane n . X = 2 with n = (0.3, 0.1, 1): z = (2 - n . shift) / (n . ray).
    normal = np.array([0.3, 0.1, 1.0])
    depth = (2.0 - normal @ shift) / (ray @ normal)
    surface = ray * depth[:, None] + shift
    phase = surface @ _WAVES
    descriptors = np.concatenate([np.cos(phase), np.sin(phase)], 1)
    return depth, (descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True))


def _swept(reference, neighbours, relative, used, cameras=(SMALL,), grids=(GRID,)):
    """A sweep of a reference whose neighbours have these cameras and grids, in turn."""
    cameras, grids = ([x[k % len(x)] for k in range(len(neighbours))] for x in (cameras, grids))
    return jax.jit(sweep, static_argnames="min_agreement")(
        jnp.asarray(reference, jnp.float32),
        _cells(),
        np.ones(len(reference), bool),
        SMALL,
        jnp.asarray(neighbours, jnp.float32),
        jnp.asarray(relative, jnp.float32),
        camera_rows(cameras),
        np.stack([grid_row(_cells(grid), grid) for grid in grids]),
        np.array(used),
        inverse_depths(0.8, 6.0),
        min_agreement=3,
    )


def test_plane_sweep_finds_a_tilted_plane():
    depth, reference = _relief(np.zeros(3))
    shifts = np.array([[0.5, 0, 0], [-0.5, 0.05, 0], [0.4, 0.3, 0.05], [-0.3, -0.4, 0]])
    neighbours = np.stack([_relief(s)[1] for s in shifts])
    relative = np.tile(np.eye(4), (4, 1, 1))
    relative[:, :3, 3] = -shifts
    # A padded neighbour must not count, whatever it holds.
    found = _swept(
        reference,
        np.concatenate([neighbours, np.zeros_like(neighbours[:1])]),
        np.concatenate([relative, relative[:1]]),
        [True] * 4 + [False],
    )
    valid = np.asarray(found.valid)
    error = np.abs(np.asarray(found.depth) / depth - 1)[valid]
    assert valid.mean() > 0.3
    assert np.median(error) < 0.03
    assert np.quantile(error, 0.9) < 0.1


def test_plane_sweep_takes_each_neighbours_camera_and_grid():
    # Another focal length on the same grid, and a portrait image of fewer cells, padded.
    cameras = SMALL.replace(fx=180.0, fy=190.0), Camera(200.0, 190.0, 80.0, 90.0, 160, 192)
    grids = GRID, (24, 20)
    depth, reference = _relief(np.zeros(3))
    shifts = np.array([[0.5, 0, 0], [-0.5, 0.05, 0], [0.4, 0.3, 0.05], [-0.3, -0.4, 0]])
    neighbours = np.zeros((4, *reference.shape))
    for k, shift in enumerate(shifts):
        seen = _relief(shift, cameras[k % 2], grids[k % 2])[1]
        neighbours[k, : len(seen)] = seen
    relative = np.tile(np.eye(4), (4, 1, 1))
    relative[:, :3, 3] = -shifts
    found = _swept(reference, neighbours, relative, [True] * 4, cameras, grids)
    valid = np.asarray(found.valid)
    error = np.abs(np.asarray(found.depth) / depth - 1)[valid]
    assert valid.mean() > 0.15
    assert np.median(error) < 0.03
    assert np.quantile(error, 0.9) < 0.06


def test_images_of_different_sizes_are_padded_to_the_same_number_of_features():
    images = _images()
    short = {
        name: getattr(images[0], name)[:40]
        for name in ("uv", "descriptors", "scores", "mask", "depth")
    }
    padded = images_module._padded(dataclasses.replace(images[0], **short), 50)
    assert [len(getattr(padded, name)) for name in short] == [50] * 5
    assert not padded.mask[40:].any()
    np.testing.assert_array_equal(padded.uv[:40], images[0].uv[:40])


def test_plane_sweep_rejects_what_does_not_match():
    _, reference = _relief(np.zeros(3))
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4, *reference.shape))
    noise /= np.linalg.norm(noise, axis=2, keepdims=True)
    relative = np.tile(np.eye(4), (4, 1, 1))
    relative[:, 0, 3] = [0.5, -0.5, 0.4, -0.4]
    found = _swept(reference, noise, relative, [True] * 4)
    assert np.asarray(found.valid).mean() < 0.1
    assert np.isfinite(np.asarray(found.depth)).all()


def test_regular_grids_are_told_from_keypoints():
    uv = _cells()
    everything = np.ones(len(uv), bool)
    shuffled = np.random.default_rng(0).permutation(uv)
    assert regular_grid(shuffled, everything) == GRID
    assert regular_grid(uv[:-1], everything[:-1]) is None
    assert regular_grid(uv, ~everything) is None
    assert regular_grid(uv + np.random.default_rng(0).normal(size=uv.shape), everything) is None


def test_a_long_recording_is_mapped_everywhere():
    class Walk:
        """Ahead by 5 cm a frame for 20 m, standing still half of the time."""

        name, metric = "walk", True

        def poses(self):
            poses = np.tile(np.eye(4), (800, 1, 1))
            poses[:, 0, 3] = 0.05 * np.minimum(np.arange(800), 400)
            return poses

    walk = Walk()
    at = walk.poses()[:, 0, 3]
    few = select_frames(walk, 20)
    assert len(few) == 20
    chosen = select_frames(walk, 20, 1000)
    apart = np.abs(at[:, None] - at[chosen]).min(axis=1)
    assert apart.max() <= 0.25
    assert set(few) <= set(chosen)
    assert len(chosen) < 120
    assert len(select_frames(walk, 20, 30)) == 30
    walk.metric = False  # lengths mean nothing: as many as may be
    assert len(select_frames(walk, 20, 100)) == 100


def test_frames_without_a_pose_are_not_selected():
    source = WorldSource(VIEWS)
    assert select_frames(source, None) == list(range(30))
    chosen = select_frames(source, 7)
    assert len(set(chosen)) == 7
    assert (chosen[0], chosen[-1]) == (0, 29)
    poses = source.poses()
    poses[::2] = np.nan
    source.poses = lambda: poses
    assert select_frames(source, None) == list(range(1, 30, 2))
    with pytest.raises(UserError, match="no poses"):
        select_frames(WorldSource(VIEWS, posed=False), None)
