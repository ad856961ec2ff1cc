"""Every image has its own camera: nothing in mapping may assume that two are equal."""

import numpy as np
import pytest
from mapping_world import (
    World,
    WorldExtractor,
    WorldSource,
    camera,
    position_errors,
    small_config,
)

from ace_jax.mapping import landmark_store, landmarks, points
from ace_jax.mapping.images import extract_images
from ace_jax.mapping.pipeline import map_scene

pytestmark = pytest.mark.usefixtures("world_features")
VIEWS = tuple(range(1, 25))
QUERIES = tuple(np.arange(2.5, 24, 3))
CAMERAS = {
    "equal": lambda i: camera(525.0),
    "0.01 px apart": lambda i: camera(525.0 + 0.01 * i),
    # Focal lengths within 20 %, every fifth image in portrait and of another number of pixels.
    "different": lambda i: camera(
        525.0 * (0.8 + 0.4 * (7 * i % 24) / 23), *((600, 800) if i % 5 == 2 else (640, 480))
    ),
}


@pytest.mark.parametrize(
    ("cameras", "has_depth"), [*((name, False) for name in CAMERAS), ("different", True)]
)
def test_maps_are_as_good_whatever_the_cameras(cameras, has_depth):
    source = WorldSource(VIEWS, camera_at=CAMERAS[cameras], has_depth=has_depth)
    made = map_scene(
        source, small_config(points={"source": "measured" if has_depth else "estimated"})
    )
    # Each image in between is by another camera.
    errors = position_errors(made, QUERIES, camera_at=CAMERAS["different"])
    assert np.isfinite(errors).all()
    assert np.median(errors) < 0.01
    # A camera of 525 px for all would put landmarks of the outermost views decimetres away.
    points_of = made.variables["params"]["points"]
    away = np.linalg.norm(points_of[:, None] - World().points[None], axis=2).min(axis=1)
    assert np.median(away) < 0.01
    assert np.quantile(away, 0.9) < 0.05
    assert made.info["landmarks"] > 250


def _images(cameras):
    source = WorldSource(VIEWS, camera_at=CAMERAS[cameras])
    return extract_images(source, range(len(VIEWS)), WorldExtractor(), False)


def test_every_image_refines_the_landmarks_and_measures_the_constants():
    found = {}
    for name in CAMERAS:
        images = _images(name)
        depths = points.estimated_depths(images, None, None)
        options = small_config().landmarks
        kept, constants = landmarks.build(images, depths, options, np.random.default_rng(0))
        found[name] = kept.tracks.landmarks.views, constants
    for name in ("0.01 px apart", "different"):
        views, constants = found[name]
        assert views.max() > 0.8 * found["equal"][0].max()
        assert np.median(views) > 0.8 * np.median(found["equal"][0])
        assert constants.floor < 2.0 * found["equal"][1].floor


def test_another_camera_compiles_nothing_new():
    images = _images("different")
    assert len({image.camera for image in images}) > 20
    depths = points.estimated_depths(images, None, None)
    landmarks.build(images, depths, small_config().landmarks, np.random.default_rng(0))
    compiled = points._triangulate, landmark_store._grow, landmark_store._refine
    programs = [f._cache_size() for f in compiled]
    images = _images("equal")
    points.estimated_depths(images, None, None)
    landmarks.build(images, depths, small_config().landmarks, np.random.default_rng(0))
    assert programs == [f._cache_size() for f in compiled]
