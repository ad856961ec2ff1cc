"""TFDS builder of the procedural rooms; see README.md."""

import tensorflow_datasets as tfds

from ace_jax.data.tfds_frames import FrameBuilder


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """Procedural rooms of ace_jax, rendered when the data set is built."""

    VERSION = tfds.core.Version("1.0.0")
    KIND = "synthetic"
    SCENES = ("room0", "room1", "room2")
