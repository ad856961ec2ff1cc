"""TUM RGB-D: handheld Kinect sequences with motion capture."""

from typing import ClassVar

import tensorflow_datasets as tfds

from ace_jax.data.catalogue import DATA_SETS
from ace_jax.data.tfds_frames import FrameBuilder

_SEQUENCES = tuple(part.name for part in DATA_SETS["tum"].parts)


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """Frames with intrinsics, poses and depth; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "python -m ace_jax.data download tum/freiburg1_xyz --data_root DATA"
    )
    TITLE = "TUM RGB-D: handheld Kinect sequences with motion capture."
    HOMEPAGE = "https://cvg.cit.tum.de/data/datasets/rgbd-dataset"
    HAS_DEPTH = True
    SPLITS: ClassVar[dict[str, tuple[str, ...]]] = {
        "train": tuple(f"tum/rgbd_dataset_{sequence}" for sequence in _SEQUENCES)
    }
