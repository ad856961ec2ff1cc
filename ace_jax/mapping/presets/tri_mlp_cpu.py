"""ACE-SLAM's TriMLP on XFeat features with measured depth, sized for two CPU cores."""

from ml_collections import ConfigDict

from ace_jax.mapping.config import with_changes


def get_config() -> ConfigDict:
    """The configuration."""
    return with_changes(
        features={"name": "xfeat_dense", "options": {"image_size": (640, 480)}},
        head={"name": "tri_mlp", "options": {"width": 256, "layers": 4, "cells": 24, "gain": 8.0}},
        points={"source": "measured"},
        buffer={"patches_per_image": 4800},
        training={
            "steps": 1000,
            "batch": 2048,
            "loss": "coordinate_nll",
            "learning_rate": 1e-2,
        },
    )
