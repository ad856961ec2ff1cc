"""TFDS builder of 7-Scenes; see README.md."""

import tensorflow_datasets as tfds

from ace_jax.data.tfds_frames import FrameBuilder


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """7-Scenes: RGB-D sequences of seven rooms with KinectFusion poses."""

    VERSION = tfds.core.Version("1.0.0")
    KIND = "7scenes"
    SCENES = ("chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs")
    SPLITS = ("train", "test")
