"""Depth at features: the median of what is known, nothing where it cannot be trusted."""

import numpy as np
import pytest

from ace_jax.data.depth_at_features import sample_depth


def _plane(height: int = 20, width: int = 30) -> np.ndarray:
    return np.full((height, width), 2.0, np.float32)


def test_reads_the_pixel_that_was_asked_for():
    v, u = np.mgrid[:20, :30]
    depth = (1.0 + 0.001 * u + 0.0005 * v).astype(np.float32)
    uv = np.array([[4.0, 7.0], [20.4, 3.4], [20.6, 3.6]], np.float32)
    expected = [depth[7, 4], depth[3, 20], depth[4, 21]]
    np.testing.assert_allclose(sample_depth(depth, uv), expected, atol=1e-6)


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
