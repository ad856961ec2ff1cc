"""Lens distortion against OpenCV, both ways; what cannot be undistorted is flagged."""

import cv2
import jax
import numpy as np
import pytest

from ace_jax.geometry.camera import Camera
from ace_jax.geometry.distortion import Fisheye, RadialTangential, distort, undistort

CAMERA = Camera(517.3, 516.5, 318.6, 255.3, 640, 480)
MATRIX = np.array([[517.3, 0, 318.6], [0, 516.5, 255.3], [0, 0, 1]])
PIXELS = np.stack(np.meshgrid(np.arange(0, 640, 40), np.arange(0, 480, 40)), -1).reshape(-1, 2)
PIXELS = PIXELS.astype(np.float64)
RADIAL = {
    "TUM freiburg1": (0.2624, -0.9531, -0.0054, 0.0026, 1.1633),
    "barrel": (-0.3, 0.1, 1e-3, -1e-3, -0.01),
    "rational": (0.4, -0.2, 1e-3, 1e-3, 0.02, 0.7, -0.3, 0.05),
    "none": (0.0, 0.0, 0.0, 0.0),
}
FISHEYE = {"usual": (-0.01, 0.02, -0.005, 0.001), "equidistant": (0.0, 0.0, 0.0, 0.0)}


def ideal_rays() -> np.ndarray:
    return np.concatenate(
        [(PIXELS - MATRIX[:2, 2]) / MATRIX[[0, 1], [0, 1]], np.ones((len(PIXELS), 1))], 1
    )


@pytest.mark.parametrize("name", RADIAL)
def test_radial_tangential_agrees_with_opencv(name):
    coefficients = np.array(RADIAL[name])
    model = RadialTangential(*RADIAL[name])
    expected = cv2.projectPoints(ideal_rays(), np.zeros(3), np.zeros(3), MATRIX, coefficients)[0]
    distorted = jax.jit(distort)(PIXELS, CAMERA, model)
    np.testing.assert_allclose(distorted, expected[:, 0], atol=2e-3)
    back, valid = jax.jit(undistort)(distorted, CAMERA, model)
    assert np.all(valid)
    np.testing.assert_allclose(back, PIXELS, atol=5e-3)


@pytest.mark.parametrize("name", FISHEYE)
def test_fisheye_agrees_with_opencv(name):
    coefficients = np.array(FISHEYE[name])
    model = Fisheye(*FISHEYE[name])
    expected = cv2.fisheye.undistortPoints(PIXELS[:, None], MATRIX, coefficients, None, MATRIX)
    ideal, valid = jax.jit(undistort)(PIXELS, CAMERA, model)
    assert np.all(valid)
    np.testing.assert_allclose(ideal, expected[:, 0], atol=5e-3)
    np.testing.assert_allclose(jax.jit(distort)(ideal, CAMERA, model), PIXELS, atol=5e-3)


@pytest.mark.parametrize(
    ("model", "pixel"),
    [
        (Fisheye(0.0, 0.0, 0.0, 0.0), [318.6 + 517.3 * 1.6, 255.3]),  # beyond 90 degrees
        (RadialTangential(-0.5, 0.0), [318.6 + 517.3 * 2.0, 255.3]),  # beyond the fold
        (RadialTangential(0.1, 0.0), [np.nan, 255.3]),
        (Fisheye(0.1, 0.0), [318.6, np.inf]),
    ],
)
def test_what_has_no_inverse_is_flagged(model, pixel):
    ideal, valid = jax.jit(undistort)(np.array(pixel, np.float32), CAMERA, model)
    assert not valid
    assert np.all(np.isfinite(ideal))


@pytest.mark.parametrize("model", [RadialTangential(-0.2, 0.05), Fisheye(0.01, 0.0)])
def test_gradients_are_finite_at_the_centre(model):
    centre = np.array([318.6, 255.3], np.float32)
    for function in (lambda p: distort(p, CAMERA, model), lambda p: undistort(p, CAMERA, model)[0]):
        jacobian = jax.jit(jax.jacobian(function))(centre)
        np.testing.assert_allclose(jacobian, np.eye(2), atol=1e-3)
