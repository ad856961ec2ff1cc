"""The choice of features: the best first, and of equal ones an even choice over the image."""

import jax.numpy as jnp
import numpy as np
import pytest

from ace_jax.features.base import Features
from ace_jax.features.selection import by_reliability
from ace_jax.geometry.camera import Camera
from ace_jax.localization.localize import MapArrays, scene_coordinates
from ace_jax.localization.settings import Settings
from ace_jax.mapping.checks import checks_of
from ace_jax.mapping.images import MappingImage
from ace_jax.models.scene_coordinates import SceneCoordinates


def cells(columns, rows, size=8):
    v, u = np.mgrid[:rows, :columns].reshape(2, -1)
    return (np.c_[u, v] + 0.5) * size - 0.5


def parts(uv, columns=8, rows=6, width=640, height=480):
    """How many of the pixels are in each part of the image."""
    return np.histogram2d(
        uv[:, 1], uv[:, 0], (rows, columns), ((-0.5, height - 0.5), (-0.5, width - 0.5))
    )[0]


@pytest.mark.parametrize("count", [256, 700, 1024, 2400, 4799])
def test_equal_scores_are_chosen_all_over_the_image(count):
    uv = cells(80, 60)
    order = np.asarray(by_reliability(np.ones(len(uv)), uv, np.ones(len(uv), bool)))
    np.testing.assert_array_equal(np.sort(order), np.arange(len(uv)))
    share = parts(uv[order[:count]]) / (count / 48)
    assert share.min() > 0.6
    assert share.max() < 1.4


def test_scattered_keypoints_of_equal_score_are_spread_better_than_by_chance():
    rng = np.random.default_rng(0)
    uv = rng.uniform(0, 1, (3000, 2)) ** [1.0, 2.0] * [639, 479]  # crowded at the top
    order = np.asarray(by_reliability(np.ones(3000), uv, np.ones(3000, bool)))
    assert parts(uv[order[:480]]).std() < 0.5 * parts(uv[:480]).std()


def test_the_higher_score_comes_first_wherever_it_is():
    rng = np.random.default_rng(1)
    scores, uv = rng.uniform(size=500), rng.uniform(0, 300, (500, 2))
    mask = rng.uniform(size=500) < 0.8
    order = np.asarray(by_reliability(scores, uv, mask))
    assert mask[order[: mask.sum()]].all()
    assert (np.diff(scores[order[: mask.sum()]]) <= 0).all()
    sorted_already = np.argsort(-scores)
    np.testing.assert_array_equal(
        by_reliability(scores[sorted_already], uv[sorted_already], np.ones(500, bool)),
        np.arange(500),
    )


def test_nothing_to_choose_from_is_no_error():
    order = by_reliability(np.zeros(5), np.zeros((5, 2)), np.zeros(5, bool))
    np.testing.assert_array_equal(np.sort(order), np.arange(5))


class _Head:
    def apply(self, variables, descriptors):
        return SceneCoordinates(descriptors[:, :3], jnp.ones(len(descriptors)))


def test_a_relocalizer_asks_about_the_whole_image():
    uv = cells(80, 60).astype(np.float32)
    ones = np.ones(len(uv), np.float32)
    descriptors = np.c_[uv, ones].astype(np.float32)
    features = Features(uv, descriptors, ones, ones > 0, 0 * ones)
    found = scene_coordinates(_Head(), Settings(), MapArrays({}, None, None), 1024, features)
    np.testing.assert_array_equal(found.xyz[:, :2], found.uv)  # descriptors go with their pixels
    share = parts(np.asarray(found.uv)) / (1024 / 48)
    assert share.min() > 0.6
    assert share.max() < 1.4


def test_check_images_keep_features_of_the_whole_image():
    uv = cells(80, 60).astype(np.float32)
    ones = np.ones(len(uv), np.float32)
    image = MappingImage(
        frame=0,
        name="",
        descriptors=uv.astype(np.float16),
        uv=uv,
        scores=ones,
        mask=ones > 0,
        depth=0 * ones,
        camera=Camera(500.0, 500.0, 319.5, 239.5, 640, 480),
        camera_from_world=np.eye(4),
        grid=(60, 80),
    )
    (check,) = checks_of([image], 1024)
    assert (parts(check.uv) / (1024 / 48)).min() > 0.6
