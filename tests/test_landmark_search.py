"""Guided search and landmark building: the right landmarks, once each, in the right place."""

import jax
import jax.numpy as jnp
import numpy as np
from mapping_world import CAMERA, World, WorldExtractor, WorldSource

from ace_jax.geometry.camera import camera_rows
from ace_jax.localization.landmark_search import Landmarks, first_rows, search, visible
from ace_jax.mapping import landmark_refinement
from ace_jax.mapping.images import extract_images

SEEN = jax.jit(visible)
GROW = jax.jit(landmark_refinement.grow)
REFINE = jax.jit(landmark_refinement.refine)


def _unit(key, shape):
    x = jax.random.normal(jax.random.key(key), shape)
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def _landmarks(points, origins=None):
    points = jnp.asarray(points, jnp.float32)
    origins = jnp.zeros_like(points) if origins is None else jnp.asarray(origins, jnp.float32)
    views = jnp.ones(len(points), jnp.int32)
    return Landmarks(_unit(9, (len(points), 8)), points, origins, views)


def test_visible_means_in_the_image_and_alike():
    points = [[0, 0, 2], [5, 0, 2], [0, 0, -2], [0, 0, 0.05], [0.2, 0.1, 3]]
    seen, uv = SEEN(_landmarks(points), CAMERA, jnp.eye(4))
    np.testing.assert_array_equal(seen, [True, False, False, False, True])
    np.testing.assert_allclose(uv[0], [320, 240])
    assert np.isfinite(np.asarray(uv)).all()
    # Too far away, and from behind, it does not look as it did; unknown origins always do.
    point = [[0.0, 0, 2]] * 4
    origins = [[0, 0, 1.5], [0, 0, 4], [0, 0, 0.1], [np.nan] * 3]
    seen, _ = SEEN(_landmarks(point, origins), CAMERA, jnp.eye(4))
    np.testing.assert_array_equal(seen, [False, False, True, True])
    empty = _landmarks(point).replace(views=jnp.zeros(4, jnp.int32))
    assert not SEEN(empty, CAMERA, jnp.eye(4))[0].any()


def test_search_equals_the_exhaustive_one_and_is_one_to_one():
    rng = np.random.default_rng(0)
    known, features = np.array(_unit(0, (300, 16))), np.array(_unit(1, (200, 16)))
    features[:150] = known[:150]
    place = rng.uniform(0, 200, (300, 2)).astype(np.float32)
    uv = rng.uniform(0, 200, (200, 2)).astype(np.float32)
    uv[:150] = place[:150] + rng.normal(size=(150, 2))
    wanted, mask = rng.random(300) < 0.9, rng.random(200) < 0.9
    found = jax.jit(search)(known, place, wanted, features, uv, mask, 6.0, 0.7)
    near = np.linalg.norm(place[:, None] - uv[None], axis=2) < 6.0
    similarity = np.where(near & wanted[:, None] & mask[None], known @ features.T, -2)
    best = similarity.max(1)
    is_found = np.asarray(found.found)
    assert is_found.sum() > 100
    good, first = best > 0.7, similarity.argmax(1)
    np.testing.assert_array_equal(np.asarray(found.feature)[good], first[good])
    assert (best[is_found] > 0.7).all()
    assert len(np.unique(np.asarray(found.feature)[is_found])) == is_found.sum()
    assert is_found.sum() > 0.95 * len(np.unique(first[good]))


def test_established_landmarks_come_first():
    known = np.array(_unit(0, (4, 16)))
    features = known[[0, 2]]
    known[1] = 0.9 * known[0] + 0.1 * known[3]  # nearly the same as the first
    place, uv = np.zeros((4, 2), np.float32), np.zeros((2, 2), np.float32)
    everything = np.ones(4, bool)

    def found(established):
        arguments = known, place, everything, features, uv, np.ones(2, bool), 6.0, 0.7
        return np.asarray(jax.jit(search)(*arguments, established=established).found)

    np.testing.assert_array_equal(found(None), [True, False, True, False])
    np.testing.assert_array_equal(found(np.array([0, 1, 0, 0], bool)), [False, True, True, False])
    # One that matches nothing takes nothing away.
    np.testing.assert_array_equal(found(np.array([0, 0, 0, 1], bool)), [True, False, True, False])


def test_what_comes_after_the_last_wanted_landmark_is_not_looked_at():
    known, place = np.array(_unit(0, (1000, 16))), np.zeros((1000, 2), np.float32)
    wanted = np.arange(1000) < 300
    rows = np.random.default_rng(0).permutation(1000)
    features, uv = known[rows[[5, 280, 600]]], np.zeros((3, 2), np.float32)
    found = jax.jit(search)(
        10.0 * known, place, wanted, features, uv, np.ones(3, bool), 6.0, 0.9, rows=rows
    )
    np.testing.assert_array_equal(np.flatnonzero(found.found), [5, 280])
    np.testing.assert_array_equal(np.asarray(found.feature)[[5, 280]], [0, 1])


def test_search_with_nothing_to_find():
    found = jax.jit(search)(
        _unit(0, (5, 8)),
        jnp.zeros((5, 2)),
        jnp.zeros(5, bool),
        _unit(1, (4, 8)),
        jnp.zeros((4, 2)),
        jnp.zeros(4, bool),
        5.0,
        0.0,
    )
    assert not found.found.any()


def test_first_rows_pads_and_says_so():
    rows, meant = first_rows(jnp.array([False, True, False, True]), 3)
    np.testing.assert_array_equal(rows[:2], [1, 3])
    np.testing.assert_array_equal(meant, [True, True, False])


def _grown(views, noise=0.03, known=None, count=0):
    world = World()
    source = WorldSource(views)
    images = extract_images(source, range(len(views)), WorldExtractor(), False)
    rng = np.random.default_rng(0)
    tracks = landmark_refinement.empty(1024, 32) if known is None else known
    count = jnp.int32(count)
    for image, view in zip(images, views, strict=True):
        index, *_ = world.observe(view)
        points = np.zeros((len(image.uv), 3), np.float32)
        points[: len(index)] = world.points[index] + noise * rng.normal(size=(len(index), 3))
        tracks, count, _ = GROW(
            tracks,
            count,
            image.descriptors.astype(np.float32),
            image.uv,
            image.mask,
            points,
            image.mask,
            CAMERA,
            image.camera_from_world.astype(np.float32),
            25.0,
            0.7,
        )
    return images, tracks, int(count)


def _refined(images, tracks, rounds=3, known=0, radius=25.0):
    for _ in range(rounds):
        tracks, _ = REFINE(
            tracks,
            np.stack([i.descriptors for i in images]),
            np.stack([i.uv for i in images]),
            np.stack([i.mask for i in images]),
            camera_rows([i.camera for i in images]).astype(np.float32),
            np.stack([i.camera_from_world for i in images]).astype(np.float32),
            np.full(len(images), radius, np.float32),
            0.7,
            known,
        )
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
    unit = landmarks.descriptors / np.linalg.norm(landmarks.descriptors, axis=1, keepdims=True)
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


def test_a_full_store_takes_no_more():
    world_images, tracks, count = _grown((1.0, 2.0))
    small = tracks.replace(landmarks=jax.tree.map(jnp.array, tracks.landmarks))
    image = world_images[0]
    grown, after, _ = GROW(
        small,
        jnp.int32(1024),
        image.descriptors.astype(np.float32),
        image.uv,
        image.mask,
        np.ones((len(image.uv), 3), np.float32),
        image.mask,
        CAMERA,
        image.camera_from_world.astype(np.float32),
        25.0,
        0.7,
    )
    assert count < 1024
    assert int(after) == 1024
    np.testing.assert_array_equal(grown.landmarks.points, small.landmarks.points)
