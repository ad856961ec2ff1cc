"""Landmarks from posed images: one for each point seen often, in its place."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from mapping_world import CAMERA, World, WorldExtractor, WorldSource

from ace_jax.geometry.camera import camera_rows
from ace_jax.localization.landmarks import MatchGates
from ace_jax.mapping import landmark_refinement
from ace_jax.mapping.images import extract_images

GROW = jax.jit(landmark_refinement.grow)
SEARCH = jax.jit(landmark_refinement.search)
REFINE = jax.jit(landmark_refinement.refine)
GATES = MatchGates(25.0, 0.7)


def _added(tracks, count, image, points):
    features = image.features
    return GROW(
        tracks,
        jnp.int32(count),
        features.replace(descriptors=features.descriptors.astype(np.float32)),
        points,
        image.mask,
        CAMERA,
        image.camera_from_world.astype(np.float32),
        GATES,
    )


def _grown(views, noise=0.03, known=None, count=0):
    world = World()
    source = WorldSource(views)
    images = extract_images(source, range(len(views)), WorldExtractor(), False)
    rng = np.random.default_rng(0)
    tracks = landmark_refinement.empty(1024, 32) if known is None else known
    for image, view in zip(images, views, strict=True):
        index, *_ = world.observe(view)
        points = np.zeros((len(image.uv), 3), np.float32)
        points[: len(index)] = world.points[index] + noise * rng.normal(size=(len(index), 3))
        tracks, count, _ = _added(tracks, count, image, points)
    return images, tracks, int(count)


def _refined(images, tracks, rounds=3, known=0):
    cameras = camera_rows([i.camera for i in images]).astype(np.float32)
    poses = np.stack([i.camera_from_world for i in images]).astype(np.float32)
    features = jax.tree.map(lambda *rows: np.stack(rows), *(i.features for i in images))
    gates = GATES.replace(radius=np.full(len(images), GATES.radius, np.float32))
    for _ in range(rounds):
        capacity, _, dim = tracks.landmarks.descriptors.shape
        found, shown = SEARCH(
            tracks.landmarks,
            landmark_refinement.nothing_found(capacity, dim),
            features,
            cameras,
            poses,
            gates,
            np.ones(len(images), bool),
        )
        tracks = REFINE(tracks, found, shown, features.uv, cameras, poses, known)
    return tracks


def _nearest_point(points):
    distance = np.linalg.norm(points[:, None] - World().points[None], axis=2)
    return distance.argmin(1), distance.min(1)


def test_a_point_seen_often_becomes_one_landmark_in_its_place():
    images, tracks, count = _grown(tuple(range(1, 25)))
    world = World()
    seen = np.unique(np.concatenate([world.observe(v)[0] for v in range(1, 25)]))
    assert len(seen) <= count < 1.25 * len(seen)
    before = _nearest_point(np.asarray(tracks.landmarks.points)[:count])[1]
    tracks = _refined(images, tracks)
    landmarks = jax.tree.map(lambda x: np.asarray(x)[:count], tracks.landmarks)
    often = landmarks.views >= 6
    assert often.sum() > 0.6 * len(seen)
    index, after = _nearest_point(landmarks.points[often])
    assert np.median(after) < 0.01
    assert np.median(after) < 0.2 * np.median(before)
    total = landmarks.descriptors[:, 0]
    unit = total / np.linalg.norm(total, axis=1, keepdims=True)
    similarity = np.sum(unit[often] * world.descriptors[index], axis=1)
    assert np.median(similarity) > 0.99
    ratio = np.asarray(tracks.repeatability)[:count][often]
    assert ((ratio > 0) & (ratio <= 1)).all()


def test_known_landmarks_keep_their_place():
    images, tracks, count = _grown(tuple(range(1, 13)))
    tracks = _refined(images, tracks)
    new_images, grown, new_count = _grown((13, 15, 17, 51, 52), known=tracks, count=count)
    assert new_count > count
    updated = _refined(new_images, grown, known=count)
    np.testing.assert_array_equal(updated.landmarks.points[:count], tracks.landmarks.points[:count])
    for field in ("descriptors", "views"):  # with what the new images added
        kept = getattr(grown.landmarks, field)[:count]
        np.testing.assert_array_equal(getattr(updated.landmarks, field)[:count], kept, field)
    assert (np.asarray(updated.recent)[:count] > 0).any()


def _scaled(images, tracks, scale):
    """The same in units of which a metre has so many."""
    poses = [image.camera_from_world.copy() for image in images]
    for pose in poses:
        pose[:3, 3] *= scale
    landmarks = tracks.landmarks
    landmarks = landmarks.replace(
        points=landmarks.points * scale, distances=landmarks.distances * scale
    )
    moved = [
        dataclasses.replace(i, camera_from_world=p) for i, p in zip(images, poses, strict=True)
    ]
    return moved, tracks.replace(landmarks=landmarks)


def test_refinement_does_not_depend_on_the_unit_of_length():
    images, tracks, count = _grown(tuple(range(1, 13)), noise=0.1)
    expected = np.asarray(_refined(images, tracks).landmarks.points)[:count]
    for scale in (0.3, 20.0):
        found = _refined(*_scaled(images, tracks, scale)).landmarks.points[:count] / scale
        assert np.quantile(np.linalg.norm(found - expected, axis=1), 0.9) < 1e-3


def test_a_full_store_takes_no_more():
    world_images, tracks, count = _grown((1.0, 2.0))
    small = tracks.replace(landmarks=jax.tree.map(jnp.array, tracks.landmarks))
    image = world_images[0]
    points = np.ones((len(image.uv), 3), np.float32)
    grown, after, _ = _added(small, 1024, image, points)
    assert count < 1024
    assert int(after) == 1024
    np.testing.assert_array_equal(grown.landmarks.points, small.landmarks.points)
