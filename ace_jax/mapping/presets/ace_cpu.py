"""ACE's head and loss on XFeat features, sized for two CPU cores (five minutes)."""

from ml_collections import ConfigDict

from ace_jax.mapping.config import with_changes


def get_config() -> ConfigDict:
    """The configuration."""
    return with_changes(
        features={"name": "xfeat_dense", "options": {"image_size": (640, 480)}},
        head={"name": "homogeneous_mlp", "options": {"width": 512, "blocks": 1, "gain": 8.0}},
        points={"source": "none"},
        buffer={"patches": 300_000, "patches_per_image": 2048},
        augmentation={"enabled": True},
        training={
            "steps": 1800,
            "batch": 1024,
            "loss": "dynamic_tanh",
            "learning_rate": 3e-3,
            "schedule": "one_cycle",
            "warmup": 0.04,
            "weight_decay": 0.01,
            "clip": 0.0,
        },
    )
