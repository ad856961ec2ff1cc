"""Files that are either complete or not there."""

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path to write to; it becomes `path` if the block succeeds.

    The folder is created. If the block raises (Ctrl-C included), an older file at `path` stays as
    it was and the temporary one is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers choose their format by it. Same folder: a rename is atomic
    # only within one file system.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, values: Mapping[str, Any]) -> None:
    """Writes JSON that every parser reads: NumPy scalars as numbers, NaN and infinities as null."""
    with replacing(path) as temporary:
        text = json.dumps(_plain(values), indent=2, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """JSON's own types, recursively; numbers that JSON does not have become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.bool_ | np.integer):
        return value.item()
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value
