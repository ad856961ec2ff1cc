"""Indoor-6: images of six rooms over days, with SfM poses."""

from typing import ClassVar

import tensorflow_datasets as tfds

from ace_jax.data.tfds_frames import FrameBuilder

_SCENES = tuple(f"scene{number}" for number in (1, 2, 3, 4, 5, 6))


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """Frames with intrinsics, poses; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "python -m ace_jax.data download indoor6 (says where to get it)"
    TITLE = "Indoor-6: images of six rooms over days, with SfM poses."
    HOMEPAGE = "https://github.com/microsoft/SceneLandmarkLocalization"
    HAS_DEPTH = False
    SPLITS: ClassVar[dict[str, tuple[str, ...]]] = {
        split: tuple(f"indoor6/{scene}:{split}" for scene in _SCENES) for split in ("train", "test")
    }
