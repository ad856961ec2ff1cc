"""The default in a map of at most 1 MB: 4096 landmarks instead of up to 16384."""

from ml_collections import ConfigDict

from ace_jax.mapping.config import with_changes


def get_config() -> ConfigDict:
    """The configuration."""
    return with_changes(
        checks={"images": 3, "features": 256},
        landmarks={
            "coarse": 4096,
            "coarse_per_image": 0,
            "detail": 1024,
            "detail_per_image": 0,
        },
    )
