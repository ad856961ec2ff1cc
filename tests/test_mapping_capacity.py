"""A map covers all of its images: more images never make it worse, and what is left out is said."""

import numpy as np
import pytest
from mapping_world import SECOND_ROOM, WorldSource, position_errors

from ace_jax.errors import UserError
from ace_jax.mapping import landmark_store
from ace_jax.mapping.config import with_changes
from ace_jax.mapping.landmark_selection import admitted, claims, how_many
from ace_jax.mapping.pipeline import describe, map_scene, resolved

pytestmark = pytest.mark.usefixtures("world_features")
FIRST = tuple(range(1, 19))
SECOND = tuple(range(SECOND_ROOM + 1, SECOND_ROOM + 19))
QUERIES = tuple(np.arange(2.5, 17, 3))


def _mapped(views, known=None, has_depth=False, **changes):
    options = {"coarse": 64, "detail": 64, "capacity": 2048, "min_similarity": 0.7, "min_views": 3}
    config = with_changes(
        features={"name": "world", "options": {}},
        checks={"images": 0, "features": 1},
        landmarks=options | changes,
    )
    return map_scene(WorldSource(tuple(views), has_depth=has_depth), config, known=known)


def _both_rooms(made):
    views = np.concatenate([np.array(QUERIES) + room for room in (0, SECOND_ROOM)])
    return position_errors(made, views, min_inliers=12)


def test_room_for_less_than_one_image_is_told_in_a_line():
    with pytest.raises(UserError, match="give room for several images"):
        _mapped(FIRST, capacity=16)


def test_every_image_gets_its_share():
    rng = np.random.default_rng(0)
    count = 400
    # Images see windows of a long row of landmarks; the first half is seen ten times as often.
    starts = np.concatenate([rng.integers(0, 150, 50), rng.integers(150, 340, 5)])
    seen = np.stack([start + rng.permutation(60) for start in starts])
    seen[3, 20:] = -1  # this one sees 20 only
    claim = claims(seen, rng.random(count))
    assert ((claim < count) == np.isin(np.arange(count), seen)).all()
    for k in (1, 10, 30, 60):
        shares = [(claim[rows[rows >= 0]] < k).sum() for rows in seen]
        assert min(np.delete(shares, 3)) >= k
        assert shares[3] == min(20, max(k, shares[3]))
        # The same images again claim nothing more.
        again = claims(np.concatenate([seen, seen]), np.random.default_rng(0).random(count))
        assert (again < k).sum() <= len(starts) * k
    np.testing.assert_array_equal(
        claims(np.concatenate([seen, seen]), np.arange(count)), claims(seen, np.arange(count))
    )


def test_room_is_a_share_for_every_image_between_bounds():
    claim = np.repeat(np.arange(50), 4)
    assert how_many(claim, per_image=10, least=0, most=1000) == 40
    assert how_many(claim, per_image=10, least=70, most=1000) == 70
    assert how_many(claim, per_image=10, least=500, most=1000) == 200
    assert how_many(claim, per_image=10, least=0, most=25) == 25


def test_a_full_store_makes_room_for_the_images_that_come_later():
    made = _mapped(FIRST + SECOND, capacity=640)  # the first room alone fills it
    assert np.median(_both_rooms(made)) < 0.02
    assert np.isfinite(_both_rooms(made)).all()
    assert made.info["landmarks_left_out"] > 0
    assert made.info["few_landmarks"] == []
    assert "landmarks left out for want of room" in describe(made, 1, "map")


def test_the_store_grows_with_what_the_images_see(monkeypatch):
    monkeypatch.setattr(landmark_store, "_FIRST_ROOM", 128)
    made = _mapped(FIRST + SECOND, coarse=1024, detail=1024)
    assert made.info["landmarks_left_out"] == 0
    monkeypatch.setattr(landmark_store, "_FIRST_ROOM", 2048)
    at_once = _mapped(FIRST + SECOND, coarse=1024, detail=1024)
    assert made.info["landmarks"] == at_once.info["landmarks"]
    np.testing.assert_allclose(
        made.variables["params"]["points"], at_once.variables["params"]["points"], atol=1e-4
    )


def test_what_no_image_has_a_claim_to_does_not_lack_room():
    made = _mapped(FIRST, coarse=32, coarse_per_image=20, detail=8, detail_per_image=30)
    assert made.info["landmarks"] < 100  # of 400 that several images see
    assert made.info["landmarks_left_out"] == 0


def test_the_head_follows_the_scene_and_not_the_number_of_images():
    def rows(views):
        return _mapped(views, coarse_per_image=60).head_options["landmarks"]

    one_room = rows(FIRST)
    assert rows(np.arange(1, 19, 0.5)) < 1.25 * one_room
    assert 1.7 * one_room < rows(FIRST + SECOND) < 2.3 * one_room


def test_an_update_keeps_the_heads_landmarks_and_adds_what_new_images_lack():
    first = _mapped(FIRST, coarse_per_image=60)
    before = first.variables["params"]["points"]
    updated = _mapped(SECOND, known=first, coarse_per_image=60)
    after = updated.variables["params"]["points"]
    distance = np.linalg.norm(before[:, None] - after[None], axis=2).min(axis=1)
    assert (distance < 1e-6).mean() > 0.95
    assert np.isfinite(_both_rooms(updated)).all()
    again = _mapped(np.array(FIRST) + 0.5, known=first, coarse_per_image=60)
    assert again.head_options["landmarks"] < 1.25 * len(before)


def test_images_that_see_hardly_any_landmark_are_named():
    # Three lone views of the second room: nothing there is seen three times in its own place.
    made = _mapped((*FIRST, SECOND[0]))
    assert made.info["few_landmarks"] == [f"view-{SECOND[0]}"]
    assert "1 of 19 images see fewer than 30 landmarks" in describe(made, 1, "map")


def test_images_that_were_given_and_not_used_are_told():
    config = with_changes(
        features={"name": "world", "options": {}},
        max_frames=12,
        landmarks={"coarse": 64, "detail": 64, "capacity": 2048, "min_similarity": 0.7},
    )
    made = map_scene(WorldSource(FIRST), config)
    assert "18 images have poses; config.max_frames takes more" in describe(made, 1, "map")
    assert "config.max_frames" not in describe(_mapped(FIRST), 1, "map")


@pytest.mark.parametrize("room", [0, 30, 60, 100, 1000])
def test_room_that_is_there_admits_what_images_ask_for_first(room):
    rng = np.random.default_rng(room)
    sure, claim = rng.random(100) < 0.2, rng.permutation(100)
    kept = admitted(claim, sure, 10, room)
    assert kept[sure].all()
    assert kept[claim < 10].all()
    needed = (sure | (claim < 10)).sum()
    assert max(needed, min(room, 100) - 1) <= kept.sum() <= max(needed, room)
    others = claim[~sure]
    assert others[kept[~sure]].max() < others[~kept[~sure]].min(initial=100)


def test_with_a_depth_camera_one_view_makes_a_landmark():
    """Two images that share nothing: each place is found again, and without depth neither is."""
    views = (FIRST[0], SECOND[0])
    made = _mapped(views, has_depth=True, min_views=1)
    errors = position_errors(made, np.array(views) + 0.25, min_inliers=12)
    assert (errors < 0.02).all()
    assert made.info["few_landmarks"] == []
    with pytest.raises(UserError, match="landmarks are seen in"):
        _mapped(views, has_depth=True, min_views=2)


def test_views_that_are_asked_for_follow_the_depth_camera():
    for source, has_depth, views in (
        ("both", True, 1),
        ("both", False, 2),
        ("estimated", True, 2),
        ("measured", True, 1),
    ):
        config = with_changes(points={"source": source})
        assert resolved(config, None, has_depth).landmarks.min_views == views
    kept = with_changes(landmarks={"min_views": 3})
    assert resolved(kept, None, True).landmarks.min_views == 3


def test_without_depth_two_views_make_a_landmark():
    """Two images of each room, from other places: queries between them are found."""
    views = (3.0, 8.0, SECOND_ROOM + 3.0, SECOND_ROOM + 8.0)
    made = _mapped(views, min_views=2, coarse=256)
    errors = position_errors(made, (5.5, SECOND_ROOM + 5.5), min_inliers=12)
    assert (errors < 0.02).all()
    with pytest.raises(UserError, match="landmarks are seen in 3 images"):
        _mapped(views, min_views=3, coarse=256)
