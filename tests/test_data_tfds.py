"""What the TFDS builders share, without TFDS; the builders' own tests are in datasets/."""

import ast

import numpy as np
import pytest
from data_formats import WRITERS
from data_scene import CAMERA, plane_depth, pose, texture
from repository import REPO

from ace_jax.data.pipeline import FrameTable, Shard, frame_batches
from ace_jax.data.registry import open_sequence
from ace_jax.data.tfds_frames import UNITS_PER_METRE, FrameBuilder, TfdsTable

FOLDERS = sorted(path.parent for path in (REPO / "datasets").glob("*/*_dataset_builder.py"))


class Folders(FrameBuilder):
    KIND = "scannet"
    MAX_FRAMES = 2


NAMES = ("folder/absent", "scannet/scene0000_00", "indoor6/scene1:test")


def test_every_folder_is_complete():
    assert {path.name for path in FOLDERS} >= {"seven_scenes", "scannet", "procedural_rooms"}
    assert len(FOLDERS) == 9
    assert not (REPO / "datasets/__init__.py").exists()  # it would shadow Hugging Face's package
    for folder in FOLDERS:
        names = {path.name for path in folder.iterdir()}
        assert {f"{folder.name}_dataset_builder.py", "README.md"} <= names
        assert "CITATIONS.bib" in names or folder.name == "procedural_rooms"
        builder = ast.parse((folder / f"{folder.name}_dataset_builder.py").read_text())
        (found,) = [node for node in builder.body if isinstance(node, ast.ClassDef)]
        assert found.name == "Builder"
        assert folder.name in (folder / "README.md").read_text()


def test_examples_and_back(tmp_path):
    for kind in ("scannet", "indoor6"):
        WRITERS[kind](tmp_path)
    examples = dict(Folders()._generate_examples(tmp_path, NAMES))
    assert list(examples) == [
        *(f"scannet/scene0000_00#{i:06d}" for i in range(2)),
        *(f"indoor6/scene1:test#{i:06d}" for i in range(2)),
    ]
    stored = list(examples.values())
    assert stored[0]["depth"].dtype == np.uint16
    assert not stored[2]["depth"].any()
    assert np.isnan(stored[2]["world_from_camera"]).all()  # its pose is lost
    table = TfdsTable(stored[:2], (64, 48))
    first = FrameTable([open_sequence("scannet/scene0000_00", tmp_path)])[1]
    example = table[1]
    np.testing.assert_array_equal(example["rgb"], first["rgb"])
    np.testing.assert_allclose(example["depth"], first["depth"], atol=0.51 / UNITS_PER_METRE)
    np.testing.assert_array_equal(example["intrinsics"], first["intrinsics"])
    np.testing.assert_allclose(example["world_from_camera"], pose(1), atol=1e-5)
    known = example["depth"] > 0
    assert np.abs(example["depth"] - plane_depth(CAMERA, pose(1)))[known].max() < 0.05
    assert np.abs(example["rgb"].astype(int) - texture(CAMERA, pose(1))).mean() < 8


def test_stored_examples_are_shuffled_and_sharded(tmp_path):
    pytest.importorskip("grain", reason="the pipeline is grain's (extra pretrain)")
    WRITERS["scannet"](tmp_path)
    examples = Folders()._generate_examples(tmp_path, ("scannet/scene0000_00",))
    table = TfdsTable([example for _, example in examples], (32, 24))
    seen = [
        int(batch["frame"][0])
        for index in range(2)
        for batch in frame_batches(table, batch_size=1, seed=0, epochs=1, shard=Shard(index, 2))
    ]
    assert sorted(seen) == [0, 1]
