"""Reads PyTorch checkpoints (zip format) without PyTorch and without running any of their code.

A checkpoint is a pickle beside raw tensor bytes. The pickle is interpreted with a list of five
allowed names; anything else in it, a malicious call above all, is refused. Devices are ignored:
tensors saved from a GPU are read like any other.
"""

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ace_jax.errors import UserError

_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


class _Refused(Exception):
    pass


def _tensor(storage: np.ndarray, offset: int, size: tuple, stride: tuple, *_: Any) -> np.ndarray:
    """torch._utils._rebuild_tensor_v2, with the bounds checked."""
    if any(n < 0 for n in (*size, *stride, offset)) or len(size) != len(stride):
        raise _Refused("a tensor has a negative size")
    if 0 in size:
        return np.zeros(size, storage.dtype)
    if offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) >= storage.size:
        raise _Refused("a tensor reaches past its storage")
    steps = [s * storage.itemsize for s in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False).copy()


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, prefix: str):
        super().__init__(io.BytesIO(archive.read(f"{prefix}data.pkl")))
        self._archive, self._prefix = archive, prefix

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise _Refused(f"it asks to run {module}.{name}, which is not allowed")

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise _Refused("it holds something that is not a tensor")
        data = np.frombuffer(self._archive.read(f"{self._prefix}data/{key}"), dtype)
        if data.size < count:
            raise _Refused("a tensor's bytes are missing")
        return data


def read_torch(path: Path | str) -> Any:
    """What `torch.save` wrote: dictionaries, lists and plain values, tensors as NumPy arrays.

    Raises:
        UserError: not such a file, truncated, of the format before PyTorch 1.6, or with anything
            in it that is not plain data.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            if len(pickles) != 1:
                raise _Refused("it holds no data.pkl")
            prefix = pickles[0].removesuffix("data.pkl")
            order = f"{prefix}byteorder"
            if order in archive.namelist() and archive.read(order) != b"little":
                raise _Refused("it was written on a big-endian machine")
            return _Unpickler(archive, prefix).load()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    # An interpreter of untrusted bytes can fail in any of these ways; the user's remedy is one.
    except (
        _Refused,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        KeyError,
        ValueError,
        TypeError,
        EOFError,
        IndexError,
        AttributeError,
    ) as error:
        raise UserError(f"{path} is not a readable PyTorch checkpoint: {error}") from error
