"""Places of a large map: a query attends to the landmarks of the images that look like it."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from mapping_world import SECOND_ROOM, WorldSource, position_errors, register

from ace_jax.errors import UserError
from ace_jax.localization import places
from ace_jax.localization.landmarks import Landmarks
from ace_jax.localization.scene_map import load_map, save_map
from ace_jax.mapping import attention_map, images
from ace_jax.mapping.config import with_changes
from ace_jax.mapping.pipeline import map_scene

FIRST = tuple(range(1, 19))
SECOND = tuple(range(SECOND_ROOM + 1, SECOND_ROOM + 19))
QUERIES = np.arange(2.5, 17, 3)


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def _scenes(rng, count=12, features=100, dim=24):
    return _unit(rng.normal(size=(count, features, dim)).astype(np.float32))


def test_an_image_looks_most_like_its_own_place():
    rng = np.random.default_rng(0)
    scenes = _scenes(rng)
    shown = np.arange(scenes[..., 0].size).reshape(scenes.shape[:2])
    masks = np.ones(shown.shape, bool)
    arrays = places.place_arrays(scenes, masks, shown)
    known = places.places_of(arrays, shown.size)
    for number, scene in enumerate(scenes):
        # Half of the features are others, the rest is noisy.
        query = np.concatenate([scene[::2], _scenes(rng, 1, 50)[0]])
        query = _unit(query + 0.05 * rng.normal(size=query.shape)).astype(np.float32)
        mask = np.arange(len(query)) < 95
        found = places.nearest_places(known, jnp.asarray(query), jnp.asarray(mask))
        assert found[0] == number
        # What is masked does not matter.
        other = np.where(mask[:, None], query, 7.0)
        again = places.nearest_places(known, jnp.asarray(other), jnp.asarray(mask))
        np.testing.assert_array_equal(found, again)


def test_places_that_do_not_fit_are_refused():
    rng = np.random.default_rng(0)
    scenes = _scenes(rng, 3)
    shown = np.arange(300).reshape(3, 100)
    arrays = places.place_arrays(scenes, np.ones(shown.shape, bool), shown)
    assert places.places_of({}, 300) is None
    for name, wrong in (
        ("ends", arrays["place_ends"] + 1),
        ("ends", arrays["place_ends"][:0]),
        ("landmarks", arrays["place_landmarks"] - 1),
        ("signatures", arrays["place_signatures"][:2]),
        ("axes", arrays["place_axes"][:5]),
        ("words", np.full_like(arrays["place_words"], np.nan)),
    ):
        with pytest.raises(UserError, match="places are damaged"):
            places.places_of(arrays | {f"place_{name}": wrong}, 300)
    with pytest.raises(UserError, match="not there"):
        places.places_of(arrays, 299)


def test_as_many_places_are_searched_as_have_room():
    listed = np.array([[0, 1, 7], [1, 2, 9], [3, 4, 8], [4, 5, 9]], np.int32)  # 9: nothing
    known = places.Places(*(np.zeros(1) for _ in range(4)), jnp.asarray(listed))
    order = jnp.array([2, 3, 0, 1])
    for room, head, rest in ((2, {3, 4}, {8}), (3, {3, 4, 5}, {8}), (5, {0, 1, 3, 4, 5}, {7, 8})):
        near = places.landmarks_near(known, order, room, 6, 9)
        assert {int(row) for row in near[:room] if row < 6} == head
        assert {int(row) for row in near if row < 9} == head | rest
    # The best place is searched in any case, as far as there is room.
    near = places.landmarks_near(known, order, 1, 6, 9)
    assert near.tolist() == [3, 4]


def test_landmarks_without_images_are_grouped_as_images_would_see_them():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 3)) + 10.0 * (np.arange(300) % 3)[:, None]
    nothing = np.full(300, np.nan)
    landmarks = Landmarks(points, np.zeros((300, 1, 4)), points, nothing, np.ones(300, int))
    groups = places.groups_of(landmarks, 60)
    assert sorted(np.concatenate(groups)) == list(range(300))
    assert max(map(len, groups)) <= 60
    assert sum(len(set(group % 3)) == 1 for group in groups) >= len(groups) - 4


@pytest.fixture
def _large(monkeypatch):
    """The world's features, and maps that are large from 100 landmarks on."""
    register(monkeypatch)
    monkeypatch.setattr(attention_map, "HEAD_ROWS", 100)


def _mapped(views, known=None):
    config = with_changes(
        features={"name": "world", "options": {}},
        checks={"images": 0, "features": 1},
        landmarks={"coarse": 2048, "detail": 64, "capacity": 4096, "min_similarity": 0.7},
    )
    return map_scene(WorldSource(tuple(views), has_depth=True), config, known=known)


def _errors(made, views):
    return position_errors(made, views, min_inliers=12, head_rows=200)


@pytest.mark.usefixtures("_large")
def test_a_map_with_places_answers_from_few_rows(tmp_path):
    made = _mapped(FIRST + SECOND)
    assert len(made.extra["place_ends"]) == len(FIRST + SECOND)
    save_map(tmp_path / "map", made, half=True)
    read = load_map(tmp_path / "map")
    both = np.concatenate([QUERIES, QUERIES + SECOND_ROOM])
    assert made.head_options["landmarks"] > 400  # twice as many as answer
    assert _errors(read, both).max() < 0.05
    # Without its places, all rows answer, as in a file of before.
    plain = dataclasses.replace(
        read, extra={k: x for k, x in read.extra.items() if not k.startswith("place_")}
    )
    assert _errors(plain, both).max() < 0.05


@pytest.mark.usefixtures("_large")
def test_an_update_keeps_the_places_of_before(monkeypatch):
    first = _mapped(FIRST)
    grown = _mapped(SECOND, known=first)
    count = len(grown.extra["place_ends"])
    assert count == len(FIRST + SECOND)
    np.testing.assert_array_equal(grown.extra["place_words"], first.extra["place_words"])
    both = np.concatenate([QUERIES, QUERIES + SECOND_ROOM])
    assert _errors(grown, both).max() < 0.05
    # A map that was too small for places gets some from its landmarks.
    monkeypatch.setattr(attention_map, "HEAD_ROWS", 10_000)
    small = _mapped(FIRST)
    assert "place_ends" not in small.extra
    monkeypatch.setattr(attention_map, "HEAD_ROWS", 100)
    assert _errors(_mapped(SECOND, known=small), both).max() < 0.05


@pytest.mark.usefixtures("_large")
def test_maps_are_the_same_with_descriptors_on_disk(monkeypatch):
    inside = _mapped(FIRST)
    monkeypatch.setattr(images, "IN_MEMORY", 4)
    outside = _mapped(FIRST)
    for name, array in inside.extra.items():
        np.testing.assert_array_equal(array, outside.extra[name])
