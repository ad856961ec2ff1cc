"""TFDS builder of Cambridge Landmarks; see README.md."""

import tensorflow_datasets as tfds

from ace_jax.data.tfds_frames import FrameBuilder


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """Cambridge Landmarks: outdoor images with SfM poses."""

    VERSION = tfds.core.Version("1.0.0")
    KIND = "cambridge"
    SCENES = ("GreatCourt", "KingsCollege", "OldHospital", "ShopFacade", "StMarysChurch")
    SPLITS = ("train", "test")
    HAS_DEPTH = False
