"""The pixel noise is learned from residuals, within its bounds."""

import numpy as np
import pytest

from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.slam.tracking.frame_features import FeatureNoise


def learned(sigma: float, frames: int = 300) -> NoiseModel:
    noise = FeatureNoise(NoiseModel(1.75, 0.01), least=0.7, factor=2.0, memory=30.0)
    assert noise.model.pixel_sigma == 1.75
    rng = np.random.default_rng(0)
    for _ in range(frames):
        noise.learn(float(np.median(np.linalg.norm(sigma * rng.normal(size=(200, 2)), axis=1))))
    return noise.model


@pytest.mark.parametrize(
    ("sigma", "expected"), [(0.5, 1.0), (0.7, 1.4), (0.1, 0.7), (3.0, 1.75), (0.0, 0.7)]
)
def test_twice_the_residuals_within_bounds(sigma, expected):
    model = learned(sigma)
    assert model.pixel_sigma == pytest.approx(expected, rel=0.03)
    assert model.inverse_depth_sigma == 0.01


def test_a_few_frames_change_little():
    assert learned(0.1, frames=3).pixel_sigma > 1.5
