"""A code of landmarks under a transformer of our own pre-training, on two cores.

Needs config.code.weights, the transformer.safetensors of `python -m ace_jax.pretrain`.
"""

from ml_collections import ConfigDict

from ace_jax.mapping.config import with_changes


def get_config() -> ConfigDict:
    """The configuration."""
    return with_changes(
        features={"name": "xfeat_dense", "options": {"image_size": (640, 480)}},
        head={"name": "landmark_transformer", "options": {}},
        code={"weights": "transformer.safetensors", "size": 4096},
        buffer={"patches": 500_000, "patches_per_image": 4800},
        training={"steps": 200, "batch": 1024, "learning_rate": 3e-4},
    )
