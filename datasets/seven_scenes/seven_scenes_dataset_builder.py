"""7-Scenes: RGB-D sequences of seven rooms with KinectFusion poses."""

from typing import ClassVar

import tensorflow_datasets as tfds

from ace_jax.data.tfds_frames import FrameBuilder

_SCENES = ("chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs")


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """Frames with intrinsics, poses and depth; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "python -m ace_jax.data download 7scenes/chess --data_root DATA"
    TITLE = "7-Scenes: RGB-D sequences of seven rooms with KinectFusion poses."
    HOMEPAGE = "https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes/"
    HAS_DEPTH = True
    SPLITS: ClassVar[dict[str, tuple[str, ...]]] = {
        split: tuple(f"7scenes/{scene}:{split}" for scene in _SCENES) for split in ("train", "test")
    }
