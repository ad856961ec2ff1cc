"""Replica: rendered RGB-D trajectories through eight rooms, NICE-SLAM's edition."""

from typing import ClassVar

import tensorflow_datasets as tfds

from ace_jax.data.tfds_frames import FrameBuilder

_SCENES = (*(f"room{i}" for i in range(3)), *(f"office{i}" for i in range(5)))


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """Frames with intrinsics, poses and depth; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "python -m ace_jax.data download replica --data_root DATA"
    TITLE = "Replica: rendered RGB-D trajectories through eight rooms, NICE-SLAM's edition."
    HOMEPAGE = "https://github.com/cvg/nice-slam"
    HAS_DEPTH = True
    SPLITS: ClassVar[dict[str, tuple[str, ...]]] = {
        "train": tuple(f"replica/{scene}" for scene in _SCENES)
    }
