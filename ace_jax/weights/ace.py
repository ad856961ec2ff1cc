"""Weights of the ACE family: ACE's encoder and heads, ACE-G's transformer and map codes."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.errors import UserError
from ace_jax.models.ace_encoder import AceEncoder
from ace_jax.models.map_code_transformer import from_released_head
from ace_jax.models.scene_coordinate_heads import from_ace_head
from ace_jax.weights import layout
from ace_jax.weights.formats import WeightsFile
from ace_jax.weights.limits import number

_EXTRA = "_extra_state"  # ACE-G's head keeps its own configuration there


def recognises_encoder(file: WeightsFile) -> bool:
    """Whether the file looks like ACE's encoder."""
    return any(name.endswith("res2_conv3.weight") for name in file.tensors)


def convert_encoder(file: WeightsFile) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The encoder's tensors; `features` in the configuration is the width of its output."""
    state = {name.removeprefix("encoder."): tensor for name, tensor in file.tensors.items()}
    last = state.get("res2_conv3.weight")
    return state, {"features": 512 if last is None else int(last.shape[0])}


def build_encoder(
    state: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> tuple[AceEncoder, layout.Params]:
    """The encoder and its parameters; strict."""
    module = AceEncoder(features=int(number(config, "features", 512)))
    params = layout.to_flax(
        state, lambda: module.init(jax.random.key(0), jnp.zeros((1, 16, 16))), "ACE's encoder"
    )
    return module, params


def recognises_head(file: WeightsFile) -> bool:
    """Whether the file looks like a head that ACE has trained for a scene."""
    return "res3_conv1.weight" in file.tensors


def convert_head(file: WeightsFile) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The head's tensors and buffers as they are; its shape says everything else."""
    return dict(file.tensors), {}


def build_head(state: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> tuple[Any, Any]:
    """The head and its variables; strict."""
    del config
    return from_ace_head(state)


def recognises_transformer(file: WeightsFile) -> bool:
    """Whether the file looks like ACE-G's scene-agnostic transformer."""
    return "in_mlp.fcs.0.weight" in file.tensors


def convert_transformer(file: WeightsFile) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors, and the configuration that the file itself holds.

    Raises:
        UserError: the file lacks its configuration.
    """
    extra = file.extra.get(_EXTRA)
    config = extra.get("_head_config_dict") if isinstance(extra, Mapping) else None
    if not isinstance(config, Mapping):
        raise UserError(f"{file.path} lacks the head's configuration ({_EXTRA})")
    return dict(file.tensors), dict(config)


def build_transformer(
    state: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> tuple[Any, Any]:
    """The transformer and its variables; strict."""
    return from_released_head(state, config)


def recognises_map(file: WeightsFile) -> bool:
    """Whether the file looks like a map of ACE-G."""
    return "map_embeddings" in file.tensors


def convert_map(file: WeightsFile) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The map code (M, C) as `map_embeddings` and the mean camera centre (3,) as `mean`."""
    return dict(file.tensors), {}


def build_map(
    state: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> tuple[None, dict[str, np.ndarray]]:
    """The two arrays, checked.

    Raises:
        UserError: another name or shape.
    """
    del config
    shapes = {name: np.shape(tensor) for name, tensor in state.items()}
    if set(shapes) != {"map_embeddings", "mean"} or len(shapes["map_embeddings"]) != 2:
        raise UserError(f"not a map of ACE-G: it holds {shapes}")
    if shapes["mean"] != (3,):
        raise UserError(f"not a map of ACE-G: mean has shape {shapes['mean']}, expected (3,)")
    return None, dict(state)
