"""ACE-G, five minutes: a map code under the frozen, pre-trained transformer."""

from ml_collections import ConfigDict

from ace_jax.mapping.config import with_changes


def get_config() -> ConfigDict:
    """The configuration."""
    return with_changes(
        features={"name": "dinov2_vitl14_reg", "options": {"normalization": "ace_g"}},
        max_frames=100_000,
        checks={"images": 0, "features": 0},
        head={"name": "map_code_transformer", "options": {}},
        code={"weights": "ace_g", "size": 4096},
        points={"source": "none"},
        buffer={"patches": 4_000_000, "patches_per_image": 1024},
        augmentation={"enabled": True, "size_step": 14, "feature_options": {"short_side": None}},
        training={
            "steps": 1000,
            "batch": 40_960,
            "loss": "reprojection_nll",
            "prior_depth": 0.1,
            "learning_rate": 2e-3,
            "schedule": "one_cycle",
            "warmup": 0.3,
            "divide": 5.0,
            "final_divide": 1000.0,
            "weight_decay": 0.01,
            "clip": 0.0,
            "dropout": 0.1,
        },
    )
