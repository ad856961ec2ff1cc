"""Weights of the ACE family: ACE's encoder and heads, ACE-G's transformer and map codes."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.errors import UserError
from ace_jax.models.ace_encoder import AceEncoder
from ace_jax.models.map_code_transformer import MapCodeTransformer
from ace_jax.models.scene_coordinate_heads import HomogeneousMLP
from ace_jax.models.scene_coordinates import BUFFERS, HomogeneousDecode
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


def build_head(
    state: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> tuple[HomogeneousMLP, dict]:
    """The head and its variables; strict.

    Args:
        state: name to tensor, as upstream saves it (1x1 convolutions, 16-bit constants, mean).
        config: nothing.

    Raises:
        UserError: not the state dict of such a head.
    """
    del config
    weights = {k: v[..., 0, 0] if v.ndim == 4 else v for k, v in state.items() if k not in BUFFERS}
    if "fc1.weight" not in weights or "res3_conv1.weight" not in weights:
        raise UserError("these weights are not those of an ACE head (no fc1, no res3_conv1)")
    head = HomogeneousMLP(
        width=weights["fc1.weight"].shape[0],
        blocks=sum(name.endswith("c0.weight") for name in weights),
        decode=_decode(state),
    )
    features = jnp.zeros((1, weights["res3_conv1.weight"].shape[1]))
    params = layout.to_flax(weights, lambda: head.init(jax.random.key(0), features), "an ACE head")
    mean = np.asarray(state.get("mean", np.zeros(3)), np.float32).reshape(3)
    return head, {"params": params, "scene": {"mean": jnp.asarray(mean)}}


def _decode(state: Mapping[str, np.ndarray]) -> HomogeneousDecode:
    """The rounded constants of the file, not the exact ones: they reproduce its outputs."""
    names = ("beta", "h_beta"), ("max_inv_scale",) * 2, ("min_inv_scale",) * 2
    return HomogeneousDecode(
        **{field: float(np.ravel(state[name])[0]) for field, name in names if name in state}
    )


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
) -> tuple[MapCodeTransformer, dict]:
    """The transformer and its variables; strict.

    Args:
        state: the checkpoint's tensors, 16-bit buffers included (without `_extra_state`).
        config: the dictionary `_head_config_dict` of its `_extra_state`.

    Returns:
        The module, and its variables with a zero scene mean: the mean belongs to the map.

    Raises:
        UserError: the checkpoint is another kind of head, or its tensors do not fit its
            configuration.
    """
    for field in ("use_homogeneous", "use_uncertainty", "use_final_layer_norm"):
        if not config.get(field, True):
            raise UserError(f"this head has {field}=False; such a head cannot be a map-code head")
    head = MapCodeTransformer(
        dim=int(number(config, "dim_emb")),
        blocks=int(number(config, "num_blocks")),
        heads=int(number(config, "num_attention_heads")),
        code_dim=config.get("dim_map_emb"),
        mlp_ratio=float(number(config, "mlp_ratio", 4.0)),
        final_layers=int(number(config, "final_mlp_layers", 2)),
        final_ratio=float(number(config, "final_mlp_ratio", 1.0)),
        decode=_decode(state),
    )
    sizes = (1, int(number(config, "dim_in"))), (1, head.code_dim or head.dim)
    params = layout.to_flax(
        {name: tensor for name, tensor in state.items() if name not in BUFFERS},
        lambda: head.init(jax.random.key(0), *(jnp.zeros(size) for size in sizes)),
        "a map-code transformer",
    )
    return head, {"params": params, "scene": {"mean": jnp.zeros(3)}}


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
