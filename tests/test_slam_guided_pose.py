"""Of several motions in the matches, the one of the larger surface is the camera's."""

import numpy as np
import pytest
from slam_walkers import CAMERA, GATES, IS_PERSON, descriptors, moved, points, seen

from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.geometry.rigid_motions import surface
from ace_jax.localization.landmarks import Landmarks
from ace_jax.slam.tracking.guided_pose import match_and_optimize

NOISE = NoiseModel(pixel_sigma=1.0, inverse_depth_sigma=0.0075)


def landmarks() -> Landmarks:
    world = points()
    distances = np.linalg.norm(world, axis=1)
    return Landmarks(
        points=world.astype(np.float32),
        descriptors=descriptors()[:, None],
        view_directions=-world / distances[:, None],
        distances=distances,
        views=np.ones(len(world), np.int32),
    )


def pose_of(walked: float, start: float):
    features = seen(points(walked), moved(0.02))
    return match_and_optimize(
        landmarks(), features, moved(start), CAMERA, GATES, NOISE, several_motions=True
    )


@pytest.mark.parametrize("start", [0.0, 0.02], ids=["as before", "true"])
def test_a_person_with_more_features_does_not_take_the_camera_along(start):
    found = pose_of(walked=0.15, start=start)
    assert IS_PERSON.sum() > (~IS_PERSON).sum()
    np.testing.assert_allclose(found.camera_from_world, moved(0.02), atol=2e-3)
    inliers = found.matches >= 0
    assert inliers[~IS_PERSON].mean() > 0.9
    assert not inliers[IS_PERSON].any()
    assert found.num_matches > 250


def test_all_agree_where_nobody_walks():
    found = pose_of(walked=0.0, start=0.0)
    np.testing.assert_allclose(found.camera_from_world, moved(0.02), atol=1e-3)
    assert found.num_inliers > 0.95 * found.num_matches


def test_surface_grows_with_distance_and_not_with_the_number_of_points():
    pixels = np.array([[330.0, 250.0]] * 5)
    near = np.array([[0.0, 0.0, 2.0]] * 5)
    cell = (40.0 * 2.0 / 525.0) ** 2
    assert surface(near, pixels, np.eye(4), CAMERA) == pytest.approx(cell)
    assert surface(near[:1], pixels[:1], np.eye(4), CAMERA) == pytest.approx(cell)
    assert surface(2 * near, pixels, np.eye(4), CAMERA) == pytest.approx(4 * cell)
    apart = pixels + np.arange(5)[:, None] * [40.0, 0.0]
    assert surface(near, apart, np.eye(4), CAMERA) == pytest.approx(5 * cell)
    assert surface(near[:0], pixels[:0], np.eye(4), CAMERA) == 0.0
