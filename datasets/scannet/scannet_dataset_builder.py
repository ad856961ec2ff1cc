"""TFDS builder of ScanNet; see README.md."""

import tensorflow_datasets as tfds

from ace_jax.data.tfds_frames import FrameBuilder


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """ScanNet: RGB-D scans of rooms, as SensReader exports them."""

    VERSION = tfds.core.Version("1.0.0")
    KIND = "scannet"
    SCENES = tuple(f"scene{scene:04d}_{scan:02d}" for scene in range(807) for scan in range(10))
