"""The guided refinement of a query takes the landmarks that its features can recognise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mapping_world import CAMERA, look_at

from ace_jax.features.base import Features
from ace_jax.geometry.camera import camera_rows
from ace_jax.localization.landmarks import Landmarks
from ace_jax.localization.localize import QueryPose, guided_pose
from ace_jax.localization.scene_map import SceneMap
from ace_jax.localization.settings import Settings, default_settings

COUNT = 200
POSE = look_at(np.array([0.3, 0.1, 0.0]), np.array([0.0, 0.0, 3.0]))  # world_from_camera


def _scene(nearer=1.0):
    """Landmarks mapped from the origin, exact, and the features of `POSE`, which is beside it.

    Args:
        nearer: the mapping images' distance over the points' distance from the origin.
    """
    rng = np.random.default_rng(0)
    points = rng.uniform([-1.0, -0.7, 2.0], [1.0, 0.7, 4.0], (COUNT, 3))
    inside = (points - POSE[:3, 3]) @ POSE[:3, :3]
    uv = inside[:, :2] / inside[:, 2:] * CAMERA.fx + [CAMERA.cx, CAMERA.cy]
    descriptors = np.eye(COUNT, dtype=np.float32)
    features = Features(
        uv=jnp.asarray(uv, jnp.float32),
        descriptors=jnp.asarray(descriptors),
        scores=jnp.ones(COUNT),
        mask=jnp.ones(COUNT, bool),
        depth=jnp.zeros(COUNT),
    )
    away = np.linalg.norm(points, axis=1)
    landmarks = Landmarks(
        points=points,
        descriptors=descriptors[:, None],
        view_directions=-points / away[:, None],
        distances=nearer * away,
        views=np.full(COUNT, 2, np.int32),
    )
    return landmarks, features


def _error(landmarks, features, off=0.01, few=False, **settings):
    """Metres between the refined pose and `POSE`, from a start so far off it; and success."""
    start = np.linalg.inv(POSE)
    start[0, 3] += off
    query = QueryPose(jnp.asarray(start, jnp.float32), jnp.array(True), jnp.array(0), jnp.eye(6))
    landmarks = jax.tree.map(jnp.asarray, landmarks)
    row = camera_rows([CAMERA])[0].astype(np.float32)
    settings = Settings(min_guided=10, guided_similarity=0.5, **settings)
    found = guided_pose(landmarks, COUNT, settings, few, features, row, query)
    pose = np.linalg.inv(np.asarray(found.camera_from_world, np.float64))
    return np.linalg.norm(pose[:3, 3] - POSE[:3, 3]), bool(found.success)


def test_landmarks_that_were_mapped_from_farther_away_take_part_if_features_follow_scale():
    landmarks, features = _scene(nearer=2.2)
    blind, _ = _error(landmarks, features)
    assert blind == pytest.approx(0.01, rel=1e-3)
    error, success = _error(landmarks, features, guided_scale_change=3.0)
    assert success
    assert error < 1e-4


@pytest.mark.parametrize(("features", "change"), [("sift", 3.0), ("xfeat", 1.7), ("blobs", 1.7)])
def test_how_much_nearer_depends_on_the_features(features, change):
    made = SceneMap(
        head="landmark_attention",
        head_options={"landmarks": 1, "dim": 1},
        variables={},
        features=features,
        feature_options={},
        feature_checksum="",
        feature_dim=1,
        camera=CAMERA,
        mean=np.zeros(3, np.float32),
    )
    assert default_settings(made).guided_scale_change == change


def test_a_pose_from_few_features_is_searched_for_wider_and_must_be_sure():
    landmarks, features = _scene()
    # 7 cm are 12 pixels in the middle of the scene.
    error, _ = _error(landmarks, features, off=0.07)
    assert error > 1e-3
    error, success = _error(landmarks, features, off=0.07, few=True, sure_guided=100)
    assert success
    assert error < 1e-4
    assert not _error(landmarks, features, few=True, sure_guided=COUNT + 1)[1]
