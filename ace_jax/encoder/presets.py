"""The presets of encoder pre-training: `cpu`, `windows`, `smoke`."""

import ml_collections

from ace_jax.encoder import config as settings
from ace_jax.errors import UserError


def get_config(variant: str = "cpu") -> ml_collections.ConfigDict:
    """The configuration of a preset.

    Raises:
        UserError: there is no such preset.
    """
    presets = {"cpu": cpu, "windows": windows, "smoke": smoke}
    if variant not in presets:
        raise UserError(f"no preset {variant!r} of the encoder; there are {', '.join(presets)}")
    return presets[variant]()


def cpu() -> ml_collections.ConfigDict:
    """Minutes of one core, rendering included: a dense network on gradient histograms."""
    return settings.base()


def windows() -> ml_collections.ConfigDict:
    """The same with convolutions on grey windows."""
    config = cpu()
    config.network.update(inputs="windows", widths=(8, 24))
    return config


def smoke() -> ml_collections.ConfigDict:
    """A minute, rendering included: that everything runs, not that it learns much."""
    config = cpu()
    config.steps = 60
    config.image_size = (160, 120)
    config.points, config.pairs = 100, 2
    config.network.widths = (64,)
    views = {"mapping": 3, "held_out": 0, "query": 3}
    for source in (config.sources.rooms, config.validation.source):
        source.update(image_size=(200, 150), count=2)
        source.views.update(views)
    config.optimizer.warmup = 10
    config.validation.update(every=30, pairs=2, points=100)
    return config
