"""TFDS builder of Replica; see README.md."""

import tensorflow_datasets as tfds

from ace_jax.data.tfds_frames import FrameBuilder


class Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder):
    """Replica: rendered RGB-D trajectories through eight rooms, NICE-SLAM's edition."""

    VERSION = tfds.core.Version("1.0.0")
    KIND = "replica"
    SCENES = (*(f"room{i}" for i in range(3)), *(f"office{i}" for i in range(5)))
