"""The default: landmark attention on keypoints; no training, a pose to millimetres.

python -m ace_jax.mapping --seq 7scenes/redkitchen/seq-01 --frames 0:600:6 --out MAP
"""

from ml_collections import ConfigDict

from ace_jax.mapping.config import base


def get_config() -> ConfigDict:
    """The configuration."""
    return base()
