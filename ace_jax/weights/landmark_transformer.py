"""Weights of the landmark transformer, as `ace_jax.pretrain` writes them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.errors import UserError
from ace_jax.models.landmark_transformer import EXTRA, LandmarkTransformer
from ace_jax.weights import layout
from ace_jax.weights.formats import WeightsFile
from ace_jax.weights.limits import number


def recognises(file: WeightsFile) -> bool:
    """Whether the file looks like a landmark transformer."""
    return "attention.0.query" in file.tensors


def convert(file: WeightsFile) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Refuses: without our metadata nothing says what the shapes do not.

    Raises:
        UserError: always.
    """
    raise UserError(f"{file.path} lacks the metadata that ace_jax.pretrain writes; export it again")


def build(
    state: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> tuple[LandmarkTransformer, dict[str, Any]]:
    """The transformer and its variables; strict.

    Raises:
        UserError: tensors do not fit the configuration.
    """
    dim_in = int(number(config, "dim_in"))
    module = LandmarkTransformer(
        dim=int(number(config, "dim")),
        blocks=int(number(config, "blocks")),
        mlp_ratio=float(number(config, "mlp_ratio")),
        tau=float(number(config, "tau")),
        steady=bool(config.get("steady", False)),
        context=int(config.get("context", 0)),
        candidates=int(config.get("candidates", 8)),
    )
    params = layout.to_flax(
        state,
        lambda: module.init(
            jax.random.key(0), jnp.zeros((1, dim_in)), jnp.zeros((1, dim_in + EXTRA))
        ),
        "a landmark transformer",
    )
    return module, {"params": params}
