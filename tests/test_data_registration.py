"""Depth registration against a brute-force z-buffer and against geometry."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from data_scene import plane_depth, pose, rotation

from ace_jax.data.registration import DepthRegistration
from ace_jax.geometry.camera import Camera

DEPTH = Camera(73.0, 72.0, 40.0, 30.0, 80, 60)
COLOUR = Camera(66.0, 65.0, 41.0, 29.0, 84, 58)


def transform(translation, axis_angle=(0.008, -0.008, 0.003)) -> np.ndarray:
    colour_from_depth = np.eye(4)
    colour_from_depth[:3, :3] = rotation(np.array(axis_angle))
    colour_from_depth[:3, 3] = translation
    return colour_from_depth


def brute_force(depth: np.ndarray, colour_from_depth: np.ndarray) -> np.ndarray:
    v, u = np.nonzero(depth)
    z = depth[v, u].astype(np.float64)
    points = np.stack([(u - DEPTH.cx) / DEPTH.fx * z, (v - DEPTH.cy) / DEPTH.fy * z, z])
    x, y, z = colour_from_depth[:3, :3] @ points + colour_from_depth[:3, 3:]
    x, y, z = x[z > 0], y[z > 0], z[z > 0]
    column = np.floor(COLOUR.fx * x / z + COLOUR.cx + 0.5).astype(int)
    row = np.floor(COLOUR.fy * y / z + COLOUR.cy + 0.5).astype(int)
    inside = (column >= 0) & (column < COLOUR.width) & (row >= 0) & (row < COLOUR.height)
    nearest = np.full((COLOUR.height, COLOUR.width), np.inf)
    np.minimum.at(nearest, (row[inside], column[inside]), z[inside])
    nearest[np.isinf(nearest)] = 0
    return nearest


@pytest.mark.parametrize(
    "translation", [(-0.05, 0.001, 0.002), (0.05, 0, -0.01), (0, 0.06, 0), (0.02, -0.06, -1.2)]
)
def test_equals_a_brute_force_z_buffer(translation):
    """Random boxes at random depths: every pixel with a point has the nearest one."""
    rng = np.random.default_rng(0)
    depth = np.full((60, 80), 4.0, np.float32)
    for _ in range(60):
        row, column = rng.integers(0, 55), rng.integers(0, 70)
        depth[row : row + 8, column : column + 12] = rng.uniform(0.4, 4)
    depth[rng.random(depth.shape) < 0.1] = 0
    colour_from_depth = transform(translation)
    registered = DepthRegistration(DEPTH, COLOUR, colour_from_depth)(depth)
    expected = brute_force(depth, colour_from_depth)
    seen = expected > 0
    # Rounding to pixels in float32 against float64 may differ for a point in a thousand.
    assert np.mean(np.abs(registered - expected)[seen] > 1e-5) < 0.002
    filled = registered[~seen]
    assert registered.dtype == np.float32
    assert np.mean(filled > 0) < 0.35  # only isolated holes are filled, see below


def test_plane_lands_where_geometry_says_without_holes():
    colour_from_depth = transform((-0.03, 0.001, 0.002))
    world_from_colour = pose(0)
    world_from_depth = world_from_colour @ colour_from_depth
    depth = plane_depth(DEPTH, world_from_depth).astype(np.float32)
    registered = DepthRegistration(DEPTH, COLOUR, colour_from_depth)(depth)
    truth = plane_depth(COLOUR, world_from_colour)
    inner = (slice(6, -6), slice(8, -8))
    assert (registered[inner] > 0).all()
    # Half a pixel of rounding on this slope.
    assert np.abs(registered - truth)[inner].max() < 0.02
    assert np.abs(np.mean((registered - truth)[inner])) < 0.001
    assert np.abs(depth[6:52, 8:72] - truth[6:52, 8:72]).mean() > 0.005  # not so without


def test_identity_keeps_the_image():
    depth = np.random.default_rng(1).uniform(0.5, 3, (60, 80)).astype(np.float32)
    np.testing.assert_array_equal(DepthRegistration(DEPTH, DEPTH, np.eye(4))(depth), depth)


def test_holes_are_filled_between_agreeing_neighbours_only():
    depth = np.zeros((60, 80), np.float32)
    depth[10, 9:12] = (2.0, 0.0, 2.04)  # along a row
    depth[20:23, 30] = (2.0, 0.0, 2.04)  # along a column
    depth[30, 9:12] = (2.0, 0.0, 2.4)  # an edge
    depth[40, 9:13] = (2.0, 0.0, 0.0, 2.0)  # too wide
    depth[50, 79] = depth[51, 1] = 2.0  # neighbours in memory, not in the image
    registered = DepthRegistration(DEPTH, DEPTH, np.eye(4))(depth)
    changed = np.argwhere(registered != depth)
    np.testing.assert_array_equal(changed, [[10, 10], [21, 30]])
    np.testing.assert_allclose(registered[10, 10], 2.02)


def test_unknown_and_impossible_depth_gives_unknown_depth():
    registration = DepthRegistration(DEPTH, COLOUR, transform((-0.03, 0, 0.002)))
    for value in (0.0, -1.0, np.nan, np.inf):
        depth = np.full((60, 80), value, np.float32)
        np.testing.assert_array_equal(registration(depth), 0)
    depth = np.full((60, 80), 2.0, np.float32)
    clean = registration(depth)
    depth[::7, ::5] = np.nan
    holed = registration(depth)
    assert np.isfinite(holed).all()
    both = (holed > 0) & (clean > 0)
    assert both.mean() > 0.6
    np.testing.assert_allclose(holed[both], clean[both], atol=0.05)
    behind = DepthRegistration(DEPTH, COLOUR, transform((0, 0, -3.0)))
    np.testing.assert_array_equal(behind(np.full((60, 80), 2.0, np.float32)), 0)


def test_threads_share_one_registration():
    registration = DepthRegistration(DEPTH, COLOUR, transform((-0.03, 0.0, 0.002)))
    rng = np.random.default_rng(2)
    images = [rng.uniform(0.5, 4, (60, 80)).astype(np.float32) for _ in range(40)]
    expected = [registration(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for result, single in zip(pool.map(registration, images), expected, strict=True):
            np.testing.assert_array_equal(result, single)


def test_wrong_size_is_refused():
    with pytest.raises(ValueError, match="depth camera"):
        DepthRegistration(DEPTH, COLOUR, np.eye(4))(np.zeros((48, 64), np.float32))
