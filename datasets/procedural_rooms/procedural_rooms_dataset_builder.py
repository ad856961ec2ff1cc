"""ace_jax's own procedural rooms, rendered when the set is built."""

from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from ace_jax.data.tfds_frames import FrameBuilder

_ROOMS = ("room0", "room1", "room2")


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """Frames with intrinsics, poses and depth; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    TITLE = "ace_jax's own procedural rooms, rendered when the set is built."
    HOMEPAGE = ""
    HAS_DEPTH = True
    SPLITS: ClassVar[dict[str, tuple[str, ...]]] = {
        "train": tuple(f"synthetic/{room}" for room in _ROOMS)
    }

    def _root(self, dl_manager: Any) -> Path:
        return Path()  # nothing is read
