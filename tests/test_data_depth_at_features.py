"""Depth at features: the median of what is known, nothing where it cannot be trusted."""

import numpy as np
import pytest

from ace_jax.data.depth_at_features import interpolated_depth, is_planar, sample_depth


def _plane(height: int = 20, width: int = 30) -> np.ndarray:
    return np.full((height, width), 2.0, np.float32)


def test_reads_the_pixel_that_was_asked_for():
    v, u = np.mgrid[:20, :30]
    depth = (1.0 + 0.001 * u + 0.0005 * v).astype(np.float32)
    uv = np.array([[4.0, 7.0], [20.4, 3.4], [20.6, 3.6]], np.float32)
    expected = [depth[7, 4], depth[3, 20], depth[4, 21]]
    np.testing.assert_allclose(sample_depth(depth, uv), expected, atol=1e-6)


def test_interpolated_depth_is_that_of_the_sub_pixel_position():
    v, u = np.mgrid[:20, :30].astype(np.float64)
    depth = (1.0 / (0.5 + 0.005 * u - 0.0025 * v)).astype(np.float32)  # a plane
    uv = np.array([[4.5, 7.3], [20.4, 3.4], [1.0, 1.0], [28.4, 5.0], [0.4, 3.0]], np.float32)
    expected = 1.0 / (0.5 + 0.005 * uv[:, 0] - 0.0025 * uv[:, 1])
    expected[4] = 0.0  # at the border
    np.testing.assert_allclose(interpolated_depth(depth, uv), expected, rtol=1e-5)
    depth[:, 15:] *= 2.0
    depth[10, 5] = 0.0
    edge_hole = interpolated_depth(depth, np.array([[14.6, 5.0], [5.4, 9.6], [5.4, 12.0]]))
    assert edge_hole[0] == 0.0
    assert edge_hole[1] == sample_depth(depth, np.array([[5.4, 9.6]]))[0]  # the median
    assert edge_hole[2] > 0.0


def test_median_ignores_one_outlying_pixel_within_the_tolerance():
    depth = _plane()
    depth[5, 5] = 2.05
    assert sample_depth(depth, np.array([[5.0, 5.0]]))[0] == 2.0


def test_edges_are_rejected():
    depth = _plane()
    depth[:, 15:] = 3.0
    uv = np.array([[13.0, 5.0], [14.0, 5.0], [15.0, 5.0], [16.0, 5.0]], np.float32)
    np.testing.assert_array_equal(sample_depth(depth, uv), [2.0, 0.0, 0.0, 3.0])


@pytest.mark.parametrize("unknown", [0.0, np.nan, np.inf, -np.inf, -1.0])
def test_holes_count_as_unknown(unknown):
    depth = _plane()
    depth[4, 4:7] = unknown  # 3 of 9: enough is left
    depth[10:12, 4:7] = unknown  # 6 of 9: too little is left
    found = sample_depth(depth, np.array([[5.0, 5.0], [5.0, 11.0]], np.float32))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [2.0, 0.0])


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_an_image_without_depth_gives_zeros(value):
    uv = np.random.default_rng(0).uniform(0, 19, (50, 2))
    with np.errstate(all="raise"):
        found = sample_depth(np.full((20, 30), value, np.float32), uv)
    np.testing.assert_array_equal(found, np.zeros(50))


def test_borders_and_beyond_are_unknown():
    uv = np.array(
        [[0, 5], [29, 5], [5, 0], [5, 19], [-3, 5], [50, 5], [5, -9], [5, 99], [1, 1], [28, 18]],
        np.float32,
    )
    np.testing.assert_array_equal(sample_depth(_plane(), uv), [0.0] * 8 + [2.0] * 2)


def test_half_holes_are_finite_everywhere():
    rng = np.random.default_rng(0)
    depth = rng.uniform(1.9, 2.1, (20, 30)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.5] = np.nan
    found = sample_depth(depth, rng.uniform(-2, 31, (500, 2)))
    assert np.isfinite(found).all()
    assert ((found == 0) | ((found > 1.89) & (found < 2.11))).all()
    assert (found > 0).any()


def _step(low: float, high: float, column: int = 20) -> np.ndarray:
    depth = np.full((40, 40), low)
    depth[:, column:] = high
    return depth


def test_beside_a_step_no_depth_and_further_off_it_is():
    depth = _step(1.0, 2.0)
    uv = np.array([[x, 20.0] for x in (8.0, 14.0, 16.0, 18.0, 21.0, 24.0, 26.0, 32.0)])
    np.testing.assert_array_equal(
        sample_depth(depth, uv, planar_radius=5.0), [1.0, 1.0, 0, 0, 0, 0, 2.0, 2.0]
    )
    assert (sample_depth(depth, uv) > 0).all(), "all of them lie on one surface, 3x3"


def test_slanted_planes_are_planar_and_corners_are_not():
    v, u = np.mgrid[:40, :40]
    uv = np.array([[20.0, 20.0]])
    slanted = 1.0 / (0.6 + 0.01 * (u - 20) + 0.015 * (v - 20))
    assert is_planar(slanted, uv, np.array([1 / 0.6]), 5.0).all()
    wedge = 1.0 / (0.4 + 0.01 * np.abs(u - 20))
    assert not is_planar(wedge, uv, np.array([2.5]), 5.0).any()


def test_noise_of_a_depth_camera_is_no_edge():
    rng = np.random.default_rng(0)
    uv = rng.uniform(8, 92, (500, 2))
    for distance in (1.0, 2.0, 3.0):
        sigma = 0.0014 * distance**2
        depth = distance + sigma * rng.normal(size=(100, 100))
        found = is_planar(depth, uv, np.full(500, distance), 5.0)
        assert found.mean() > 0.97


def test_unknown_neighbours_and_the_border_do_not_speak_against_a_plane():
    depth = _step(2.0, 0.0)
    uv = np.array([[18.0, 20.0], [1.0, 1.0], [39.0, 39.0]])
    assert is_planar(depth, uv, np.full(3, 2.0), 5.0).all()
    depth[:, 20:] = np.nan
    assert is_planar(depth, uv, np.full(3, 2.0), 5.0).all()
