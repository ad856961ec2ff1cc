"""Check images: kept out of mapping, judged by the map, carried along in the file."""

import dataclasses

import numpy as np
import pytest
from mapping_world import FEATURES, SECOND_ROOM, WorldExtractor, WorldSource, register

from ace_jax.localization.scene_map import load_map, save_map
from ace_jax.mapping import checks
from ace_jax.mapping.config import with_changes
from ace_jax.mapping.images import mapping_image
from ace_jax.mapping.pipeline import describe, map_scene

pytestmark = pytest.mark.usefixtures("world_features")
FIRST = tuple(np.arange(1, 17, 1.0))
SECOND = tuple(SECOND_ROOM + np.arange(1, 17, 1.0))


def _config(images=2):
    return with_changes(
        features={"name": "world", "options": {}},
        checks={"images": images, "features": FEATURES},
        landmarks={"coarse": 512, "detail": 512, "capacity": 1024, "min_similarity": 0.7},
    )


@pytest.fixture(scope="module")
def first():
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        return map_scene(WorldSource(FIRST), _config())


def _images(views):
    source = WorldSource(views)
    return [mapping_image(source[i], i, WorldExtractor(), False) for i in range(len(views))]


def test_frames_are_held_out_evenly_and_only_where_there_are_many():
    mapping, kept_out = checks.hold_out(range(100, 200), 4)
    assert kept_out == [112, 137, 162, 187]
    assert sorted([*mapping, *kept_out]) == list(range(100, 200))
    assert checks.hold_out(range(31), 4) == (list(range(31)), [])
    assert checks.hold_out(range(31), 0) == (list(range(31)), [])


def test_checks_come_back_from_a_map_file(first, tmp_path):
    some = [*checks.checks_of(_images((3.0, 4.0)), 150), *checks.checks_of(_images((5.0,)), 40)]
    carrying = dataclasses.replace(first, extra=checks.arrays_of(some))
    save_map(tmp_path / "map", carrying, half=True)
    back = checks.carried_by(load_map(tmp_path / "map"))
    assert [len(check.uv) for check in back] == [150] * 3
    assert back[2].mask.sum() == 40
    assert back[0].camera == some[0].camera
    for old, new in zip(some, back, strict=True):
        rows = len(old.uv)
        np.testing.assert_array_equal(new.descriptors[:rows], old.descriptors)
        np.testing.assert_array_equal(new.uv[:rows], old.uv)
        np.testing.assert_array_equal(new.camera_from_world, old.camera_from_world)
    without = dataclasses.replace(first, extra={})
    assert checks.carried_by(without) == []
    assert checks.judge(without, WorldExtractor(), []) is None


def test_the_most_reliable_features_are_taken():
    image = _images((3.0,))[0]
    scores = np.linspace(0.1, 1.0, len(image.uv)).astype(np.float32)
    mask = np.arange(len(image.uv)) < len(image.uv) - 10  # the highest scores are padding
    (check,) = checks.checks_of([dataclasses.replace(image, scores=scores, mask=mask)], 5)
    np.testing.assert_array_equal(check.uv, image.uv[mask][::-1][:5])


def test_thinning_is_even():
    assert checks.thinned(range(10), 4) == [0, 3, 6, 9]
    assert checks.thinned(range(3), 4) == [0, 1, 2]


def test_an_update_shows_accuracy_on_old_and_new_images_before_and_after(first, tmp_path):
    assert first.info["mapping_images"] == 14
    found = first.info["checks"]["images"]
    assert found["before"] is None
    assert found["after"]["within_5cm_5deg"] == 100.0
    assert "2 images kept out of mapping: 100 % within" in describe(first, 1, "map")
    save_map(tmp_path / "map", first, half=True)
    updated = map_scene(WorldSource(SECOND), _config(), known=load_map(tmp_path / "map"))
    earlier, new = (updated.info["checks"][k] for k in ("earlier images", "new images"))
    assert earlier["before"]["within_5cm_5deg"] == 100.0
    assert earlier["after"]["within_5cm_5deg"] == 100.0
    assert new["before"]["registered"] == 0
    assert new["after"]["within_5cm_5deg"] == 100.0
    assert "0 % within 5 cm/5 deg, median no pose -> 100 %" in describe(updated, 1, "map")
    assert len(checks.carried_by(updated)) == 4


def test_forgetting_would_be_seen(first):
    elsewhere = dict(first.variables["params"])
    elsewhere["points"] = np.random.default_rng(0).permutation(elsewhere["points"])
    broken = dataclasses.replace(first, variables={"params": elsewhere})
    figures = checks.judge(broken, WorldExtractor(), checks.carried_by(first))
    assert figures["registered"] == 0
    assert np.isinf(figures["median_translation_m"])
