"""Depth from posed images: plane sweep on grids, triangulation of keypoints."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapping_world import CAMERA, World, WorldExtractor, WorldSource

from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.mapping import points
from ace_jax.mapping.images import extract_images, regular_grid, select_frames
from ace_jax.mapping.plane_sweep import inverse_depths, sweep
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
        np.stack([o.descriptors[rng.permutation(len(o.uv))] for o in others]).astype(np.float32),
        np.stack([o.uv for o in others]),
        np.stack([o.mask for o in others]),
        np.stack([o.camera_from_world @ first.world_from_camera for o in others]).astype(
            np.float32
        ),
        CAMERA,
        min_matches=2,
    )
    assert np.isfinite(np.asarray(found.depth)).all()
    assert found.valid.sum() <= 2


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
def _cells():
    v, u = np.mgrid[: GRID[0], : GRID[1]]
    return ((np.stack([u.ravel(), v.ravel()], 1) + 0.5) * CELL - 0.5).astype(np.float32)


def _relief(shift):
    """Depth (N,) and descriptors (N, 32) of a tilted plane, from a camera moved along x."""
    uv = _cells()
    ray = np.stack(
        [(uv[:, 0] - SMALL.cx) / SMALL.fx, (uv[:, 1] - SMALL.cy) / SMALL.fy, np.ones(len(uv))], 1
    )
    # Plane n . X = 2 with n = (0.3, 0.1, 1): z = (2 - n . shift) / (n . ray).
    normal = np.array([0.3, 0.1, 1.0])
    depth = (2.0 - normal @ shift) / (ray @ normal)
    surface = ray * depth[:, None] + shift
    phase = surface @ _WAVES
    descriptors = np.concatenate([np.cos(phase), np.sin(phase)], 1)
    return depth, (descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True))


def test_plane_sweep_finds_a_tilted_plane():
    depth, reference = _relief(np.zeros(3))
    shifts = np.array([[0.5, 0, 0], [-0.5, 0.05, 0], [0.4, 0.3, 0.05], [-0.3, -0.4, 0]])
    neighbours = np.stack([_relief(s)[1] for s in shifts])
    relative = np.tile(np.eye(4), (4, 1, 1))
    relative[:, :3, 3] = -shifts
    run = jax.jit(sweep, static_argnames=("grid", "min_agreement"))
    # A padded neighbour must not count, whatever it holds.
    found = run(
        jnp.asarray(reference, jnp.float32),
        jnp.asarray(np.concatenate([neighbours, np.zeros_like(neighbours[:1])]), jnp.float32),
        jnp.asarray(np.concatenate([relative, relative[:1]]), jnp.float32),
        jnp.array([True] * 4 + [False]),
        _cells(),
        SMALL,
        inverse_depths(0.8, 6.0),
        grid=GRID,
        min_agreement=3,
    )
    valid = np.asarray(found.valid)
    error = np.abs(np.asarray(found.depth) / depth - 1)[valid]
    assert valid.mean() > 0.3
    assert np.median(error) < 0.03
    assert np.quantile(error, 0.9) < 0.1


def test_plane_sweep_rejects_what_does_not_match():
    _, reference = _relief(np.zeros(3))
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4, *reference.shape))
    noise /= np.linalg.norm(noise, axis=2, keepdims=True)
    relative = np.tile(np.eye(4), (4, 1, 1))
    relative[:, 0, 3] = [0.5, -0.5, 0.4, -0.4]
    run = jax.jit(sweep, static_argnames=("grid", "min_agreement"))
    found = run(
        jnp.asarray(reference, jnp.float32),
        jnp.asarray(noise, jnp.float32),
        jnp.asarray(relative, jnp.float32),
        jnp.ones(4, bool),
        _cells(),
        SMALL,
        inverse_depths(0.8, 6.0),
        grid=GRID,
        min_agreement=3,
    )
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
