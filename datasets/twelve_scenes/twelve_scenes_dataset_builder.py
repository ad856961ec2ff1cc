"""TFDS builder of 12-Scenes; see README.md."""

import tensorflow_datasets as tfds

from ace_jax.data.tfds_frames import FrameBuilder


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """12-Scenes: RGB-D sequences of twelve rooms."""

    VERSION = tfds.core.Version("1.0.0")
    KIND = "12scenes"
    SCENES = (
        *(f"apt1/{room}" for room in ("kitchen", "living")),
        *(f"apt2/{room}" for room in ("bed", "kitchen", "living", "luke")),
        *(f"office1/{room}" for room in ("gates362", "gates381", "lounge", "manolis")),
        *(f"office2/{room}" for room in ("5a", "5b")),
    )
    SPLITS = ("train", "test")
