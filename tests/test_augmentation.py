"""Augmentation keeps geometry exact: what is seen where follows the returned camera."""

import cv2
import jax
import numpy as np
import pytest

from ace_jax.geometry.camera import Camera, project
from ace_jax.training.augmentation import Augmentation, augment, draw

CAMERA = Camera(300.0, 330.0, 150.0, 90.0, 320, 200)


def _dots(uv):
    image = np.zeros((200, 320, 3), np.uint8)
    for u, v in uv:
        cv2.circle(image, (int(u), int(v)), 4, (255, 255, 255), -1)
    return image


@pytest.mark.parametrize("short_side", [150, 200, 301])
@pytest.mark.parametrize("degrees", [-15.0, 0.0, 12.0])
def test_points_project_to_where_they_are_drawn(short_side, degrees):
    uv = np.array([[100, 60], [220, 110], [150, 90]])
    for point in uv:
        rgb = _dots([point])
        draw_ = Augmentation(short_side, np.radians(degrees), 1.0, 1.0)
        image, camera, turn, seen = augment(rgb, CAMERA, draw_)
        assert image.shape[:2] == seen.shape == (camera.height, camera.width)
        assert min(image.shape[:2]) == short_side
        ray = [(point[0] - CAMERA.cx) / CAMERA.fx, (point[1] - CAMERA.cy) / CAMERA.fy, 1.0]
        expected = np.asarray(project((turn[:3, :3] @ ray)[None] * 2.5, camera))[0]
        v, u = np.nonzero(image[..., 0] > 127)
        np.testing.assert_allclose([u.mean(), v.mean()], expected, atol=0.3)


def test_mask_is_false_outside_and_where_the_user_says():
    mask = np.ones((200, 320), bool)
    mask[:, :160] = False
    rgb = np.full((200, 320, 3), 100, np.uint8)
    _, _camera, _, seen = augment(rgb, CAMERA, Augmentation(200, 0.26, 1.0, 1.0), mask)
    assert not seen[0, -1]
    assert not seen[:, :100].any()
    assert seen[100, 250]
    _, _, _, whole = augment(rgb, CAMERA, Augmentation(200, 0.0, 1.0, 1.0))
    assert whole.all()


def test_brightness_and_contrast():
    rgb = np.zeros((20, 20, 3), np.uint8)
    rgb[:, :10], rgb[:, 10:] = 100, 200
    camera = Camera(20.0, 20.0, 9.5, 9.5, 20, 20)
    image = augment(rgb, camera, Augmentation(20, 0.0, 1.1, 1.0))[0]
    assert (image[5, 2, 0], image[5, 17, 0]) == (110, 220)
    image = augment(rgb, camera, Augmentation(20, 0.0, 1.0, 0.9))[0]
    assert (image[5, 2, 0], image[5, 17, 0]) == (105, 195)


def test_draws_cover_the_ranges_and_repeat_with_the_key():
    draws = [draw(jax.random.key(i), size_step=40) for i in range(200)]
    sides = {d.short_side for d in draws}
    assert sides == set(range(320, 721, 40))
    angles = np.degrees([d.angle for d in draws])
    assert -15 <= angles.min() < -12 < 12 < angles.max() <= 15
    assert 0.9 <= min(d.brightness for d in draws) < max(d.brightness for d in draws) <= 1.1
    assert draw(jax.random.key(3)) == draw(jax.random.key(3))
