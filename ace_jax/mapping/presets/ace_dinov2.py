"""ACE's head on DINOv2 features (ACE-DINOv2), the baseline of the ACE-G paper."""

from ml_collections import ConfigDict

from ace_jax.mapping.presets import ace


def get_config() -> ConfigDict:
    """The configuration."""
    config = ace.get_config()
    config.features = ConfigDict({"name": "dinov2_vitl14_reg", "options": {}})
    config.head.options = ConfigDict({"width": 768, "blocks": 1})
    config.buffer.patches = 4_000_000
    return config
