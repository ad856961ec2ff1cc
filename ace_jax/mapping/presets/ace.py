"""ACE with its own settings (Brachmann et al., CVPR 2023): 8M patches, 16 passes, batch 5120."""

from ml_collections import ConfigDict

from ace_jax.mapping.config import with_changes


def get_config() -> ConfigDict:
    """The configuration."""
    return with_changes(
        features={"name": "ace", "options": {}},
        max_frames=100_000,
        checks={"images": 0, "features": 0},
        head={"name": "homogeneous_mlp", "options": {"width": 512, "blocks": 1}},
        points={"source": "none"},
        buffer={"patches": 8_000_000, "patches_per_image": 1024},
        augmentation={"enabled": True, "size_step": 8, "feature_options": {"short_side": None}},
        training={
            "steps": 25_000,
            "batch": 5120,
            "loss": "dynamic_tanh",
            "learning_rate": 5e-3,
            "schedule": "one_cycle",
            "warmup": 0.04,
            "weight_decay": 0.01,
            "clip": 0.0,
        },
    )
