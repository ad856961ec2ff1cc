"""The patch buffer: what goes in, what comes out, in which order, and where it lives."""

from typing import ClassVar

import jax
import numpy as np
import pytest
from data_scene import PlaneSource
from ml_collections import ConfigDict

from ace_jax.features import registry
from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.mapping.config import base
from ace_jax.mapping.trained_map import fill_augmented
from ace_jax.slam.run import CompilationCounter
from ace_jax.training import patch_buffer
from ace_jax.training.patch_buffer import PatchBufferBuilder, PatchSampler

CAMERA = Camera(500.0, 510.0, 320.0, 240.0, 640, 480)
KEY = jax.random.key(0)


def _add(builder, image, key=KEY, rows=50, patches=20, mask=None, **changes):
    """Features that name their image and row, so that a batch can be checked."""
    features = np.stack([np.full(rows, image), np.arange(rows)], axis=1).astype(np.float32)
    pose = np.eye(4)
    pose[0, 3] = image
    fields = {
        "features": features,
        "uv": features * 2,
        "mask": np.ones(rows, bool) if mask is None else mask,
        "camera": CAMERA,
        "camera_from_world": pose,
        "frame": image // 2,
        "patches": patches,
    }
    return builder.add(jax.random.fold_in(key, image), **(fields | changes))


def _filled(images=5, capacity=1000, **options):
    builder = PatchBufferBuilder(2, capacity, **options)
    for image in range(images):
        _add(builder, image)
    return builder


def _check(batch):
    image, row = np.asarray(batch.features).T
    np.testing.assert_array_equal(batch.uv[:, 1], 2 * row)
    np.testing.assert_array_equal(batch.camera_from_world[:, 0, 3], image)
    np.testing.assert_array_equal(batch.frame, image.astype(int) // 2)
    np.testing.assert_array_equal(batch.camera.fy, np.full(len(image), 510.0))


def test_batches_hold_every_patch_once_an_epoch():
    buffer = _filled().finish()
    assert buffer.count == 100
    sampler = PatchSampler(buffer, KEY, 25)
    orders = []
    for epoch in range(2):
        batches = [sampler(4 * epoch + i) for i in range(4)]
        for batch in batches:
            _check(batch)
        seen = np.concatenate([np.asarray(batch.features) for batch in batches])
        assert len(np.unique(seen, axis=0)) == 100
        orders.append(seen)
    assert (orders[0] != orders[1]).any()


def test_a_step_gives_the_same_batch_however_it_is_reached():
    sampler = PatchSampler(_filled().finish(), KEY, 30)
    ahead = [sampler(step) for step in range(8)]
    fresh = PatchSampler(_filled().finish(), KEY, 30)
    np.testing.assert_array_equal(fresh(7).features, ahead[7].features)
    np.testing.assert_array_equal(fresh(2).features, ahead[2].features)
    other = PatchSampler(_filled().finish(), jax.random.key(1), 30)
    assert (np.asarray(other(2).features) != np.asarray(ahead[2].features)).any()


def test_masked_and_not_finite_rows_never_enter():
    builder = PatchBufferBuilder(2, 1000)
    mask = np.arange(50) % 2 == 0
    features = np.stack([np.zeros(50), np.arange(50)], axis=1).astype(np.float32)
    features[10] = np.nan
    assert _add(builder, 0, mask=mask, features=features, patches=100) == 24
    assert _add(builder, 1, mask=np.zeros(50, bool)) == 0
    _add(builder, 2)
    batch = PatchSampler(builder.finish(), KEY, 44)(0)
    rows = np.asarray(batch.uv)[np.asarray(batch.frame) == 0]
    assert len(rows) == 24
    assert not (rows[:, 1] / 2 % 2).any()
    # The empty image left no row in the tables.
    np.testing.assert_array_equal(np.unique(batch.camera_from_world[:, 0, 3]), [0, 2])


def test_capacity_is_kept_and_the_last_image_is_cut():
    builder = _filled(images=2, capacity=47)
    assert not builder.full
    assert _add(builder, 2) == 7
    assert builder.full
    assert _add(builder, 3) == 0
    batch = PatchSampler(builder.finish(), KEY, 1000)(3)
    assert batch.features.shape == (47, 2)
    _check(batch)


def test_bytes_bound_the_count_with_a_message(caplog):
    row = 2 * 2 + 8 + 12 + 4
    builder = PatchBufferBuilder(2, 1000, max_bytes=10 * row)
    assert builder.capacity == 10
    assert "cut" in caplog.text


class _Accelerator:
    platform = "gpu"

    def memory_stats(self):
        return {"bytes_limit": 1000, "bytes_in_use": 500}


def test_spills_to_host_memory_with_a_message(caplog):
    builder = _filled(device=_Accelerator())
    assert builder.on_host
    assert "host memory" in caplog.text
    spilled = builder.finish()
    assert spilled.on_host
    kept = _filled().finish()
    for step in (0, 3, 9):
        a, b = PatchSampler(spilled, KEY, 25)(step), PatchSampler(kept, KEY, 25)(step)
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_free_memory_is_plausible():
    assert 1e8 < patch_buffer.free_host_bytes() < 1e14


def test_nothing_is_compiled_for_an_image_of_its_own_size_and_mask():
    builder = PatchBufferBuilder(2, 4000)
    rng = np.random.default_rng(0)
    with CompilationCounter() as compilations:
        for image in range(12):
            rows = 40 + 7 * image
            mask = rng.random(rows) < 0.8
            _add(builder, image, rows=rows, mask=mask, patches=30)
            if image == 1:
                compilations.reset()
    assert builder.count == 12 * 30
    assert compilations.count == 0


class _Cells:
    """As many features as an image has cells of 8 pixels."""

    name, dim, max_features, weights_checksum = "cells", 4, 0, ""
    sizes: ClassVar[set] = set()

    def __init__(self, image_size=None):
        """Takes the options that the configuration gives."""

    def extract(self, rgb):
        self.sizes.add(rgb.shape)
        rows, columns = (side // 8 for side in rgb.shape[:2])
        v, u = np.mgrid[:rows, :columns].reshape(2, -1) * 8.0 + 3.5
        ones = np.ones(rows * columns, np.float32)
        return Features(np.c_[u, v], np.c_[u, v, u, v] / 100, ones, ones > 0, 0 * ones)


def test_augmented_images_of_any_size_compile_nothing(monkeypatch):
    monkeypatch.setitem(registry._EXTRACTORS, "cells", _Cells)
    config = base()
    config.features.name = "cells"
    config.features.options = ConfigDict()
    config.augmentation.update(enabled=True, short_side=96, size_step=1)
    config.buffer.update(patches=640, patches_per_image=64)
    _Cells.sizes.clear()
    counts = []
    with CompilationCounter() as compilations:
        fill_augmented(
            PlaneSource(5),
            range(5),
            config,
            None,
            lambda *_: counts.append(compilations.count),  # before each image
        )
    assert len(_Cells.sizes) > 7
    assert len(counts) >= 10
    assert counts[-1] == counts[2]


def test_targets_come_with_their_patches_and_are_nan_without():
    builder = PatchBufferBuilder(2, 100)
    points = np.repeat(np.arange(50.0)[:, None], 3, axis=1)
    _add(builder, 0, target=points)
    _add(builder, 1)
    batch = PatchSampler(builder.finish(), KEY, 40)(0)
    first = np.asarray(batch.features)[:, 0] == 0
    np.testing.assert_array_equal(
        np.asarray(batch.target)[first, 2], np.asarray(batch.features)[first, 1]
    )
    assert np.isnan(np.asarray(batch.target)[~first]).all()


def test_an_empty_buffer_is_an_error():
    with pytest.raises(ValueError, match="no patch"):
        PatchBufferBuilder(2, 10).finish()
