"""Weights of map-code transformers, and map codes, in files: the released ones and our own."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.errors import UserError
from ace_jax.models.map_code_transformer import MapCodeTransformer, from_released_head
from ace_jax.models.scene_coordinates import HomogeneousDecode
from ace_jax.weights import safetensors_io
from ace_jax.weights.layout import to_checkpoint, to_flax
from ace_jax.weights.store import checksum
from ace_jax.weights.torch_reader import read_torch

_KEY = "ace_jax_transformer"
_FIELDS = ("dim", "blocks", "heads", "code_dim", "mlp_ratio", "final_layers", "final_ratio")


def transformer_options(head: MapCodeTransformer) -> dict:
    """The head's options as plain values, for map and weight files."""
    options = {name: getattr(head, name) for name in _FIELDS}
    decode = {k: getattr(head.decode, k) for k in ("beta", "max_inv_scale", "min_inv_scale")}
    return options | {"decode": decode}


def save_transformer(path: Path | str, head: MapCodeTransformer, params: dict, dim_in: int) -> None:
    """Writes a transformer's weights under the released names, with its configuration."""
    meta = {**transformer_options(head), "dim_in": dim_in}
    safetensors_io.write(path, to_checkpoint(params), {_KEY: json.dumps(meta)})


def load_transformer(path: Path | str) -> tuple[MapCodeTransformer, dict, str, int]:
    """Reads a transformer: a file of `save_transformer`, or the released PyTorch checkpoint.

    Returns:
        The module, its parameters, their checksum, and the feature length that it takes.

    Raises:
        UserError: no such file, or not such a transformer.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no file {path} with a map-code transformer's weights")
    if path.suffix == ".safetensors":
        state, metadata = safetensors_io.read(path)
        if _KEY not in metadata:
            raise UserError(f"{path} holds no map-code transformer")
        options = json.loads(metadata[_KEY])
        dim_in = options.pop("dim_in")
        head = MapCodeTransformer(
            **options | {"decode": HomogeneousDecode(**options.pop("decode"))}
        )
        code = jnp.zeros((1, head.code_dim or head.dim))
        features = jnp.zeros((1, dim_in))
        params = to_flax(state, lambda: head.init(jax.random.key(0), features, code), str(path))
        return head, params, checksum(state), dim_in
    state = read_torch(path)
    extra = state.get("_extra_state") if isinstance(state, dict) else None
    if not isinstance(extra, dict) or "_head_config_dict" not in extra:
        raise UserError(f"{path} is not a released ACE-G head (it has no configuration in it)")
    tensors = {name: x for name, x in state.items() if name != "_extra_state"}
    config = extra["_head_config_dict"]
    head, variables = from_released_head(tensors, config)
    return head, variables["params"], checksum(tensors), int(config["dim_in"])


def load_released_code(path: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """A released map: its code (M, C) and its scene mean (3,), metres.

    Raises:
        UserError: not such a file.
    """
    state = read_torch(path)
    if not isinstance(state, dict) or not {"map_embeddings", "mean"} <= state.keys():
        raise UserError(f"{path} is not a released ACE-G map (map_embeddings, mean)")
    code = np.asarray(state["map_embeddings"], np.float32)
    return code, np.asarray(state["mean"], np.float32).reshape(3)
