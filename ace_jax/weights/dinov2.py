"""DINOv2 weights in the layouts of the official hub, Hugging Face and timm.

All become the hub's names. The three libraries also interpolate position embeddings differently, so
the same weights are three functions: the layout decides which one is computed.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.errors import UserError
from ace_jax.models.vit import TRAINING_GRID, Interpolation, VisionTransformer, ViTConfig
from ace_jax.weights import layout
from ace_jax.weights.formats import WeightsFile

_OFFICIAL_HEAD_DIM = 64

# Hugging Face's names (left) to the hub's, in order; applied to each whole name.
_HUGGING_FACE = (
    (r"embeddings\.(cls_token|mask_token|register_tokens)", r"\1"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(.*)", r"patch_embed.proj.\1"),
    (r"encoder\.layer\.(\d+)\.(norm[12]\..*)", r"blocks.\1.\2"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.(.*)", r"blocks.\1.attn.\2"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(.*)", r"blocks.\1.attn.proj.\2"),
    (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"encoder\.layer\.(\d+)\.mlp\.weights_in\.(.*)", r"blocks.\1.mlp.w12.\2"),
    (r"encoder\.layer\.(\d+)\.mlp\.weights_out\.(.*)", r"blocks.\1.mlp.w3.\2"),
    (r"encoder\.layer\.(\d+)\.mlp\.(.*)", r"blocks.\1.mlp.\2"),
    (r"layernorm\.(.*)", r"norm.\1"),
)


def recognises(file: WeightsFile) -> bool:
    """Whether the file looks like a DINOv2 model of any layout."""
    return "blocks.0.ls1.gamma" in file.tensors or "embeddings.cls_token" in file.tensors


def convert(file: WeightsFile) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors under the hub's names, and the fields of `ViTConfig`.

    Raises:
        UserError: a Hugging Face configuration that is not of a DINOv2 model.
    """
    if "embeddings.cls_token" in file.tensors:
        return _from_hugging_face(file)
    state = dict(file.tensors)
    # The hub's files have a mask token, timm's have not; nothing else tells small ones apart.
    if "mask_token" not in state:
        state = _from_timm(state)
        rule = "antialias"
    else:
        rule = "antialias" if "register_tokens" in state else "offset"
    state.pop("mask_token", None)  # used in training only
    return state, _config(state, rule)


def build(
    state: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> tuple[VisionTransformer, layout.Params]:
    """The module and its parameters; strict.

    Raises:
        UserError: names or shapes do not fit the configuration.
    """
    vit = VisionTransformer(ViTConfig(**config))
    patch = vit.config.patch
    params = layout.to_flax(
        state, lambda: vit.init(jax.random.key(0), jnp.zeros((1, patch, patch, 3))), "DINOv2"
    )
    return vit, params


def _config(
    state: Mapping[str, np.ndarray], rule: Interpolation, heads: int | None = None
) -> dict[str, Any]:
    """Read from the shapes; the official models' heads are 64 wide."""
    dim = state["cls_token"].shape[-1] if "cls_token" in state else 0
    blocks = {match[1] for name in state if (match := re.match(r"blocks\.(\d+)\.", name))}
    registers = state["register_tokens"].shape[1] if "register_tokens" in state else 0
    config = ViTConfig(
        dim=dim,
        depth=len(blocks),
        heads=heads or max(1, dim // _OFFICIAL_HEAD_DIM),
        ffn="swiglu" if "blocks.0.mlp.w12.weight" in state else "mlp",
        registers=registers,
        interpolation=rule,
        patch=state["patch_embed.proj.weight"].shape[-1]
        if "patch_embed.proj.weight" in state
        else 14,
    )
    return dataclasses.asdict(config)


def _from_hugging_face(file: WeightsFile) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if file.extra.get("model_type") not in ("dinov2", "dinov2_with_registers"):
        raise UserError(
            f"{file.path} has Hugging Face's names, but no config.json of a DINOv2 model "
            "is beside it; give the model's folder"
        )
    state = {}
    for name, tensor in file.tensors.items():
        for pattern, replacement in _HUGGING_FACE:
            if re.fullmatch(pattern, name):
                name = re.sub(pattern, replacement, name)
                break
        state[name] = tensor
    # Three products here, one in the hub's: rows of q, k, v below each other.
    for index in range(len(file.tensors)):
        for leaf in ("weight", "bias"):
            parts = [f"blocks.{index}.attn.{part}.{leaf}" for part in ("query", "key", "value")]
            if all(part in state for part in parts):
                joined = np.concatenate([state.pop(part) for part in parts])
                state[f"blocks.{index}.attn.qkv.{leaf}"] = joined
    state.pop("mask_token", None)
    rule = "antialias" if "register_tokens" in state else "size"
    return state, _config(state, rule, file.extra.get("num_attention_heads"))


def _from_timm(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    state = dict(state)
    if "reg_token" in state:
        state["register_tokens"] = state.pop("reg_token")
    positions = state.get("pos_embed")
    if positions is not None and positions.shape[1:2] == (TRAINING_GRID**2,):
        # timm has added the class token's position to the token itself.
        none = np.zeros((1, 1, positions.shape[-1]), positions.dtype)
        state["pos_embed"] = np.concatenate([none, positions], axis=1)
    # timm calls both kinds of feed-forward layer fc1 and fc2; SwiGLU's fc1 is gate and value.
    first, second = (state.get(f"blocks.0.mlp.{layer}.weight") for layer in ("fc1", "fc2"))
    if first is None or second is None or first.shape[0] != 2 * second.shape[1]:
        return state
    renamed = ((".mlp.fc1.", ".mlp.w12."), (".mlp.fc2.", ".mlp.w3."))
    for old, new in renamed:
        state = {name.replace(old, new): tensor for name, tensor in state.items()}
    return state
