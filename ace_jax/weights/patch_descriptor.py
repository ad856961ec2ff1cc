"""Weights of the descriptor network, as `ace_jax.encoder` writes them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.errors import UserError
from ace_jax.models.patch_descriptor import INPUTS, PatchDescriptor, input_shape
from ace_jax.weights import layout
from ace_jax.weights.formats import WeightsFile
from ace_jax.weights.limits import number


def recognises(file: WeightsFile) -> bool:
    """Whether the file looks like a descriptor network: never, its metadata say so."""
    del file
    return False


def convert(file: WeightsFile) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Refuses: without our metadata nothing says what the shapes do not.

    Raises:
        UserError: always.
    """
    raise UserError(f"{file.path} lacks the metadata that ace_jax.encoder writes; export it again")


def config_of(module: PatchDescriptor) -> dict[str, Any]:
    """What the shapes do not say."""
    return {
        "inputs": module.inputs,
        "octaves": module.octaves,
        "oriented": module.oriented,
        "dim": module.dim,
        "widths": list(module.widths),
    }


def build(
    state: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> tuple[PatchDescriptor, layout.Params]:
    """The module and its parameters; strict.

    Raises:
        UserError: tensors do not fit the configuration, or it is none.
    """
    widths = config.get("widths")
    if config.get("inputs") not in INPUTS or not isinstance(widths, list | tuple):
        raise UserError(f"inputs are {', '.join(INPUTS)}, and widths a list; get another file")
    octaves = int(number(config, "octaves"))
    if not 1 <= octaves <= 4:
        raise ValueError(f"{octaves} octaves, where 1 to 4 make sense")
    module = PatchDescriptor(
        inputs=str(config["inputs"]),
        octaves=octaves,
        oriented=bool(config.get("oriented", False)),
        dim=int(number(config, "dim")),
        widths=tuple(int(width) for width in widths),
    )
    params = layout.to_flax(
        state,
        lambda: module.init(jax.random.key(0), jnp.zeros((1, *input_shape(module)))),
        "a descriptor network",
    )
    return module, params
