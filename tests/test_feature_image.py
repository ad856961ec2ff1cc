import numpy as np
import pytest

from ace_jax.errors import UserError
from ace_jax.features.image import as_rgb, pixel_scale, resize, working_size


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4)])
def test_grey_and_alpha_become_rgb(shape):
    image = np.full(shape, 9, np.uint8)
    assert as_rgb(image).shape == (5, 7, 3)


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (np.zeros((0, 7, 3), np.uint8), "shape"),
        (np.zeros((5, 7, 2), np.uint8), "shape"),
        (np.zeros(5, np.uint8), "shape"),
        (np.full((5, 7, 3), np.nan, np.float32), "uint8"),
    ],
)
def test_what_is_no_image_is_refused(image, line):
    with pytest.raises(UserError, match=line):
        as_rgb(image)


def test_working_size_keeps_area_and_aspect():
    assert working_size(640, 480, (320, 240), 8) == (320, 240)
    assert working_size(4000, 3000, (320, 240), 8) == (320, 240)
    assert working_size(14, 14, (320, 240), 8) == (16, 16)
    width, height = working_size(1200, 680, (320, 240), 8)
    assert abs(width * height / (320 * 240) - 1) < 0.05
    assert abs(width / height / (1200 / 680) - 1) < 0.03
    assert working_size(640, 480, None, 8) == (640, 480)


def test_pixel_scale_undoes_resize():
    image = np.zeros((48, 64, 3), np.uint8)
    image[20:24, 40:44] = 255  # centre at (41.5, 21.5)
    small = resize(image, (32, 24))[..., 0].astype(float)
    y, x = np.mgrid[:24, :32]
    centre = np.array([(small * x).sum(), (small * y).sum()]) / small.sum()
    scale = pixel_scale(image, (32, 24))
    np.testing.assert_allclose((centre + 0.5) * scale - 0.5, [41.5, 21.5], atol=1e-5)
