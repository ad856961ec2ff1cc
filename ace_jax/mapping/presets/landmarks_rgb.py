"""The default from images and poses alone, also where there is depth: points are triangulated."""

from ml_collections import ConfigDict

from ace_jax.mapping.config import with_changes


def get_config() -> ConfigDict:
    """The configuration."""
    return with_changes(points={"source": "estimated"})
