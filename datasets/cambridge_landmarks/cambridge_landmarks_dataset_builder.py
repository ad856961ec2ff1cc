"""Cambridge Landmarks: outdoor images with SfM poses."""

from typing import ClassVar

import tensorflow_datasets as tfds

from ace_jax.data.tfds_frames import FrameBuilder

_SCENES = ("GreatCourt", "KingsCollege", "OldHospital", "ShopFacade", "StMarysChurch")


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """Frames with intrinsics, poses; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "python -m ace_jax.data download cambridge --data_root DATA"
    TITLE = "Cambridge Landmarks: outdoor images with SfM poses."
    HOMEPAGE = "https://www.repository.cam.ac.uk/handle/1810/251342"
    HAS_DEPTH = False
    SPLITS: ClassVar[dict[str, tuple[str, ...]]] = {
        split: tuple(f"cambridge/{scene}:{split}" for scene in _SCENES)
        for split in ("train", "test")
    }
