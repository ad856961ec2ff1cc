"""The weights folder, and how weight files are found in it."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ace_jax.errors import UserError
from ace_jax.runtime import cache_dir

ENVIRONMENT_VARIABLE = "ACE_JAX_WEIGHTS"


def weights_folder(weights_dir: Path | str | None = None) -> Path:
    """The folder given, else $ACE_JAX_WEIGHTS, else `weights` in the cache folder."""
    chosen = weights_dir or os.environ.get(ENVIRONMENT_VARIABLE)
    return Path(chosen).expanduser() if chosen else cache_dir() / "weights"


def find(
    file_names: Sequence[str], weights_dir: Path | str | None = None, remedy: str = ""
) -> Path:
    """The first of `file_names` that is in the weights folder.

    Args:
        file_names: candidates in order of preference.
        weights_dir: see `weights_folder`; may also be the file itself.
        remedy: what to do if there is none, appended to the message.

    Raises:
        UserError: none of them is there.
    """
    folder = weights_folder(weights_dir)
    if found := present(file_names, folder):
        return found
    raise UserError(
        f"no weights: looked for {' or '.join(file_names)} in {folder}; "
        + (remedy or f"pass --weights_dir or set {ENVIRONMENT_VARIABLE} to the folder that has it")
    )


def present(file_names: Sequence[str], folder: Path) -> Path | None:
    """The first of `file_names` that is in a folder, or the folder if it is a file; None: none."""
    paths = (folder, *(folder / name for name in file_names))
    return next((path for path in paths if path.is_file()), None)


def checksum(state: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, shapes and float32 values: equal for equal weights in any file format."""
    digest = hashlib.sha256()
    for name in sorted(state):
        array = np.ascontiguousarray(state[name], np.float32)
        digest.update(f"{name}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
