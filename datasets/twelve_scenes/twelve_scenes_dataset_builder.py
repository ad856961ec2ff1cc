"""12-Scenes: RGB-D sequences of twelve rooms."""

from typing import ClassVar

import tensorflow_datasets as tfds

from ace_jax.data.tfds_frames import FrameBuilder

_SCENES = (
    *(f"apt1/{room}" for room in ("kitchen", "living")),
    *(f"apt2/{room}" for room in ("bed", "kitchen", "living", "luke")),
    *(f"office1/{room}" for room in ("gates362", "gates381", "lounge", "manolis")),
    *(f"office2/{room}" for room in ("5a", "5b")),
)


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """Frames with intrinsics, poses and depth; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "python -m ace_jax.data download 12scenes/apt1 --data_root DATA"
    TITLE = "12-Scenes: RGB-D sequences of twelve rooms."
    HOMEPAGE = "https://graphics.stanford.edu/projects/reloc/"
    HAS_DEPTH = True
    SPLITS: ClassVar[dict[str, tuple[str, ...]]] = {
        split: tuple(f"12scenes/{scene}:{split}" for scene in _SCENES)
        for split in ("train", "test")
    }
