"""ScanNet: RGB-D scans of rooms, as SensReader exports them."""

from typing import ClassVar

import tensorflow_datasets as tfds

from ace_jax.data.tfds_frames import FrameBuilder

_SCANS = tuple(f"scene{scene:04d}_{scan:02d}" for scene in range(807) for scan in range(10))


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """Frames with intrinsics, poses and depth; see README.md."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "python -m ace_jax.data download scannet (says which form to sign)"
    )
    TITLE = "ScanNet: RGB-D scans of rooms, as SensReader exports them."
    HOMEPAGE = "http://www.scan-net.org/"
    HAS_DEPTH = True
    SPLITS: ClassVar[dict[str, tuple[str, ...]]] = {
        "train": tuple(f"scannet/{scan}" for scan in _SCANS)
    }
