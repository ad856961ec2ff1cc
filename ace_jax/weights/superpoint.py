"""SuperPoint weights: the published PyTorch file uses the network's own names."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.models.superpoint import SuperPoint
from ace_jax.weights import layout
from ace_jax.weights.formats import WeightsFile


def recognises(file: WeightsFile) -> bool:
    """Whether the file looks like SuperPoint."""
    return "convDb.weight" in file.tensors


def convert(file: WeightsFile) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors as they are; the network has no options."""
    return dict(file.tensors), {}


def build(
    state: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> tuple[SuperPoint, layout.Params]:
    """The module and its parameters; strict."""
    del config
    module = SuperPoint()
    params = layout.to_flax(
        state, lambda: module.init(jax.random.key(0), jnp.zeros((1, 8, 8))), "SuperPoint"
    )
    return module, params
