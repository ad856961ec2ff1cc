"""Reads and writes safetensors files with metadata; errors are one line."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ace_jax.errors import UserError
from ace_jax.files import replacing


def read(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        UserError: it cannot be read, is truncated, or is of another format.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}") from error


def write(path: Path | str, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file; it appears under its name only when it is complete."""
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(save(contiguous, metadata=dict(metadata)))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
