"""Atomic file writes: a file is either complete or absent."""

import contextlib
import errno
import json
import math
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_CANNOT_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.EROFS, errno.EBADF)  # some file systems
ABANDONED = 600.0  # seconds after which a temporary file belongs to nobody: writing takes a moment


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path to write to; it becomes `path` if the block succeeds.

    The folder is created, and what killed writers of this file left there is removed. If the block
    raises (Ctrl-C included), an older file at `path` stays as it was and the temporary one is
    removed. Its content is on the disk before it has its name, so that a power cut leaves the older
    or the newer file, whatever the file system does first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    temporary = temporary_beside(path)
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def tell_overwriting(result: Path, place: Path | str) -> None:
    """Says on stderr that an earlier run's results will be replaced, and when that was.

    Args:
        result: a file that an earlier run has left, if there was one.
        place: what is overwritten, for the message.
    """
    if result.is_file():
        then = time.strftime("%Y-%m-%d %H:%M", time.localtime(result.stat().st_mtime))
        print(f"{place} holds results of {then}, which are overwritten", file=sys.stderr)


def temporary_beside(path: Path) -> Path:
    """A hidden name in the folder of `path` that no other writer uses.

    Threads of one process may write the same file, and so may processes of equal number in
    containers that share a folder. The suffix stays last, as writers choose their format by it; the
    folder is the same, as a rename is atomic only within one file system.
    """
    return path.with_name(f".{path.stem}.{os.getpid()}-{secrets.randbits(32)}{path.suffix}")


def _flush(path: Path) -> None:
    """Waits until a file, or which names a folder holds, is on the disk.

    Raises:
        OSError: the disk is full or fails: some only say so now.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no folders; a file of another writer may be gone
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
    finally:
        os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    mine = re.compile(rf"\.{re.escape(path.stem)}\.\d+(-\d+)?{re.escape(path.suffix)}")
    for other in path.parent.glob(".*"):
        with contextlib.suppress(OSError):
            if mine.fullmatch(other.name) and time.time() - other.stat().st_mtime > ABANDONED:
                other.unlink()


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
