"""TFDS builder of Indoor-6; see README.md."""

import tensorflow_datasets as tfds

from ace_jax.data.tfds_frames import FrameBuilder


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """Indoor-6: images of six rooms over days, with SfM poses."""

    VERSION = tfds.core.Version("1.0.0")
    KIND = "indoor6"
    SCENES = tuple(f"scene{number}" for number in range(1, 7))
    SPLITS = ("train", "test")
    HAS_DEPTH = False
