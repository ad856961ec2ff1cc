"""TFDS builder of TUM RGB-D; see README.md."""

import tensorflow_datasets as tfds

from ace_jax.data.catalogue import DATA_SETS
from ace_jax.data.tfds_frames import FrameBuilder


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """TUM RGB-D: handheld Kinect sequences with motion capture."""

    VERSION = tfds.core.Version("1.0.0")
    KIND = "tum"
    SCENES = tuple(f"rgbd_dataset_{part.name}" for part in DATA_SETS["tum"].parts)
