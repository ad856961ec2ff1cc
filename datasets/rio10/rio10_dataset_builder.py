"""RIO10: ten rooms that change between recordings. Test is the validation sequence."""

from typing import ClassVar

import tensorflow_datasets as tfds

from ace_jax.data.tfds_frames import FrameBuilder

_SCENES = tuple(f"scene{number:02d}" for number in range(1, 11))


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """Frames with intrinsics, poses and depth; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "python -m ace_jax.data download rio10 (says which form to fill in)"
    )
    TITLE = "RIO10: ten rooms that change between recordings. Test is the validation sequence."
    HOMEPAGE = "https://github.com/WaldJohannaU/RIO10"
    HAS_DEPTH = True
    SPLITS: ClassVar[dict[str, tuple[str, ...]]] = {
        split: tuple(f"rio10/{scene}:{split}" for scene in _SCENES) for split in ("train", "test")
    }
