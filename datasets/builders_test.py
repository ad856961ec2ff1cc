"""Tests of all builders: `tfds.testing.DatasetBuilderTestCase` on recordings of our own writers.

Run in an environment with TensorFlow and TensorFlow Datasets (`python -m pytest datasets`):
building needs both, reading the result neither.
"""

import importlib
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import ClassVar

try:
    import tensorflow_datasets as tfds

    Base = tfds.testing.DatasetBuilderTestCase
    WHY = ""
except ImportError as error:  # TFDS itself, TensorFlow, or what its testing module needs
    tfds, WHY = None, f"TensorFlow Datasets cannot be imported ({error})"
    Base = unittest.TestCase

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent / "tests"))  # the writers of dummy recordings

_READ = """
import importlib.machinery, sys
find = importlib.machinery.PathFinder.find_spec
def without_tensorflow(name, path=None, target=None):
    return None if name.partition(".")[0] == "tensorflow" else find(name, path, target)
importlib.machinery.PathFinder.find_spec = without_tensorflow
import numpy as np, tensorflow_datasets as tfds
from ace_jax.data.pipeline import Shard, frame_batches
from ace_jax.data.tfds_frames import TfdsTable
source = tfds.builder_from_directory(sys.argv[1]).as_data_source(split="train")
seen = []
for index in (0, 1):
    table = TfdsTable(source, (32, 24))
    for batch in frame_batches(table, batch_size=1, seed=3, shard=Shard(index, 2), epochs=1):
        assert batch["rgb"].shape == (1, 24, 32, 3) and batch["depth"].shape == (1, 24, 32)
        assert np.isfinite(batch["intrinsics"]).all()
        seen.append(int(batch["frame"][0]))
assert sorted(seen) == list(range(len(source))), seen
assert "tensorflow" not in sys.modules
print("read", len(seen))
"""


@unittest.skipIf(tfds is None, WHY)
class FrameBuilderTest(Base):
    """The subclass below sets the folder of a builder."""

    FOLDER: ClassVar[str]
    SKIP_CHECKSUMS = True  # data is fetched by `ace_jax.data download`, which has its own

    @classmethod
    def setUpClass(cls):
        sys.path.insert(0, str(_HERE))
        name = f"{cls.FOLDER}.{cls.FOLDER}_dataset_builder"
        cls.DATASET_CLASS = importlib.import_module(name).Builder
        cls._folder = tempfile.TemporaryDirectory()
        cls.EXAMPLE_DIR = cls._folder.name
        cls._dummy(Path(cls.EXAMPLE_DIR))
        super().setUpClass()

    @classmethod
    def _dummy(cls, root: Path) -> None:
        """Small recordings of which each split has one; fewer frames than the real set."""
        kind = cls.DATASET_CLASS.KIND
        if kind == "synthetic":
            cls.DATASET_CLASS.MAX_FRAMES = 2
            cls.DATASET_CLASS.SCENES = ("room0",)
            cls.SPLITS = {"train": 2}
            return
        from data_formats import WRITERS
        from data_scene import PlaneSource

        from ace_jax.data.export import export

        if kind == "7scenes":  # the official splits are lists of sequences
            for number in (1, 2):
                export(PlaneSource(5), root / f"7scenes/chess/seq-{number:02d}", "7scenes")
            (root / "7scenes/chess/TrainSplit.txt").write_text("sequence1\n")
            (root / "7scenes/chess/TestSplit.txt").write_text("sequence2\n")
        elif kind == "tum":
            export(PlaneSource(5), root / "tum/rgbd_dataset_freiburg1_xyz", "tum")
        else:
            WRITERS[kind](root)
        cls.SPLITS = {
            "7scenes": {"train": 5, "test": 5},
            "12scenes": {"train": 3, "test": 2},
            "cambridge": {"train": 3, "test": 2},
            "indoor6": {"train": 3, "test": 2},
            "rio10": {"train": 5, "test": 5},
        }.get(kind, {"train": 5})

    def test_read_without_tensorflow(self):
        """Built as array_record, read in a process that cannot import TensorFlow, in two shards."""
        builder = self.DATASET_CLASS(data_dir=self.tmp_dir, file_format="array_record")
        config = tfds.download.DownloadConfig(manual_dir=self.EXAMPLE_DIR)
        builder.download_and_prepare(download_config=config)
        result = subprocess.run(
            [sys.executable, "-c", _READ, builder.data_path],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(_HERE.parent)},
        )
        assert result.returncode == 0, result.stderr[-2000:]
        assert "read " in result.stdout


for _folder in sorted(path.parent.name for path in _HERE.glob("*/*_dataset_builder.py")):
    _name = f"{_folder.title().replace('_', '')}Test"
    globals()[_name] = type(_name, (FrameBuilderTest,), {"FOLDER": _folder, "__module__": __name__})
del Base, FrameBuilderTest  # no tests of their own
