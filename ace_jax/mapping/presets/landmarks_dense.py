"""Landmark attention on dense XFeat features, points by plane sweep, trained by the NLL."""

from ml_collections import ConfigDict

from ace_jax.mapping.config import with_changes


def get_config() -> ConfigDict:
    """The configuration."""
    return with_changes(
        features={"name": "xfeat_dense", "options": {"image_size": (640, 480)}},
        points={"source": "estimated"},
        buffer={"patches_per_image": 4800},
        rehearsal_patches=5000,
        training={
            "steps": 2000,
            "batch": 1024,
            "loss": "reprojection_nll",
            "learning_rate": 1e-3,
            "rate_factors": {
                "points": 3.0,
                "bias": 10.0,
                "log_tau": 10.0,
                "log_gain": 10.0,
                "log_floor": 10.0,
            },
        },
    )
