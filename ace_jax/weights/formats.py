"""Reads weight files of any format into named tensors; the format is detected from the content."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from ace_jax.errors import UserError
from ace_jax.weights import safetensors_io
from ace_jax.weights.onnx_reader import read_initializers
from ace_jax.weights.torch_reader import read_torch

# Keys under which training scripts wrap a state dictionary.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


@dataclasses.dataclass(frozen=True)
class WeightsFile:
    """What a file holds, as it is.

    Attributes:
        path: the file, or the folder of a Hugging Face model.
        format: "safetensors", "torch", "onnx" or "hugging face".
        tensors: by name, in the file's dtypes and layouts.
        extra: what else there is: a Hugging Face model's configuration, or the plain values beside
            the tensors of a PyTorch file.
        metadata: of a safetensors file.
    """

    path: Path
    format: str
    tensors: dict[str, np.ndarray]
    extra: dict[str, Any]
    metadata: dict[str, str]


def read(path: Path | str) -> WeightsFile:
    """Reads a file of weights; nothing in it is executed.

    Raises:
        UserError: it cannot be read, or holds no named tensors.
    """
    path = Path(path)
    if path.is_dir():
        return _read_hugging_face(path)
    try:
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if head[8:9] == b"{" or path.suffix == ".safetensors":
        tensors, metadata = safetensors_io.read(path)
        return WeightsFile(path, "safetensors", tensors, {}, metadata)
    if head[:1] == b"\x08" or path.suffix == ".onnx":  # an ONNX model begins with its version
        return WeightsFile(path, "onnx", read_initializers(path), {}, {})
    return _from_torch(path, read_torch(path))


def _from_torch(path: Path, content: Any) -> WeightsFile:
    if isinstance(content, dict):
        for wrapper in _WRAPPERS:
            if isinstance(content.get(wrapper), dict):
                content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise UserError(f"{path} holds no named tensors")
    tensors = {name: value for name, value in content.items() if isinstance(value, np.ndarray)}
    extra = {name: value for name, value in content.items() if name not in tensors}
    return WeightsFile(path, "torch", tensors, extra, {})


def _read_hugging_face(folder: Path) -> WeightsFile:
    weights, config = folder / "model.safetensors", folder / "config.json"
    for file in (weights, config):
        if not file.is_file():
            raise UserError(
                f"{folder} is no Hugging Face model: it has no {file.name} "
                "(needed are model.safetensors and config.json)"
            )
    try:
        extra = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {config}: {error}") from error
    if not isinstance(extra, dict):
        raise UserError(f"{config} holds no configuration")
    tensors, metadata = safetensors_io.read(weights)
    return WeightsFile(folder, "hugging face", tensors, extra, metadata)
