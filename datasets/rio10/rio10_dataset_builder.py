"""TFDS builder of RIO10; see README.md."""

import tensorflow_datasets as tfds

from ace_jax.data.tfds_frames import FrameBuilder


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """RIO10: ten rooms that change between recordings. Test is the validation sequence."""

    VERSION = tfds.core.Version("1.0.0")
    KIND = "rio10"
    SCENES = tuple(f"scene{number:02d}" for number in range(1, 11))
    SPLITS = ("train", "test")
