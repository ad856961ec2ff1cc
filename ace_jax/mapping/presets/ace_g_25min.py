"""ACE-G, 25 minutes: as the five-minute preset with more patches and steps."""

from ml_collections import ConfigDict

from ace_jax.mapping.presets import ace_g_5min


def get_config() -> ConfigDict:
    """The configuration."""
    config = ace_g_5min.get_config()
    config.buffer.patches = 8_000_000
    config.training.steps = 4000
    config.training.batch = 51_200
    return config
