"""Reads PyTorch checkpoints without PyTorch and without executing code from them.

Both formats of `torch.save`: the zip archive (since 1.6) and the older single stream. The pickle in
them is interpreted (`pickle_reader`) with a short list of allowed names; anything else, a malicious
call above all, is refused. Devices are ignored: tensors saved from a GPU are read like any other.
"""

import collections
import math
import struct
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ace_jax.errors import UserError
from ace_jax.pickle_reader import PickleError, PickleReader

_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MAX_PICKLE = 64 << 20  # bytes
_MAX_DEPTH = 50
_MAX_ITEMS = 200_000  # the largest checkpoints have some thousands
_MAX_AMPLIFICATION = 8  # bytes of tensors (shared storages counted each time) per byte of file


class _Refused(Exception):
    pass


def read_torch(path: Path | str) -> Any:
    """What `torch.save` wrote: dictionaries, lists and plain values, tensors as NumPy arrays.

    Arrays are read-only; tensors that shared memory in torch share it here.

    Raises:
        UserError: not such a file, truncated, corrupt, or with anything in it that is not plain
            data. Nothing in the file is executed in any case.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            head = file.read(64)
        if head.startswith(b"PK"):
            return _read_zip(path)
        if head[:1] == b"\x80":
            return _read_legacy(path)
        raise _Refused(_what_it_is(head))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    # The last five: what zipfile raises on damaged or encrypted archives.
    except (
        _Refused,
        PickleError,
        zipfile.BadZipFile,
        RuntimeError,
        ValueError,
        EOFError,
        struct.error,
    ) as error:
        raise UserError(f"{path} is not a readable PyTorch checkpoint: {error}") from error


def _what_it_is(head: bytes) -> str:
    if not head:
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; fetch the file itself with `git lfs pull`"
    if head.lstrip()[:1] == b"<":
        return "it is a web page; the download went wrong"
    if head[8:9] == b"{":
        return "it looks like a safetensors file; name it .safetensors"
    return "it begins with neither a zip archive nor a pickle"


# The zip format: `NAME/data.pkl` beside `NAME/data/KEY`, one raw storage each.


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        # torch stores without compression; compressed entries, or more bytes than the file has,
        # are how a small file fills the memory.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            raise _Refused("it is compressed, which PyTorch never does")
        if sum(entry.file_size for entry in entries.values()) > path.stat().st_size:
            raise _Refused("its entries overlap")
        pickles = [name for name in entries if name.endswith("data.pkl")]
        if len(pickles) != 1:
            raise _Refused("it holds no data.pkl")
        prefix = pickles[0].removesuffix("data.pkl")
        if entries[pickles[0]].file_size > _MAX_PICKLE:
            raise _Refused("its pickle is too large")
        if f"{prefix}constants.pkl" in entries:
            raise _Refused("it is a TorchScript program, not a checkpoint; load and save its state")
        order = f"{prefix}byteorder"
        if order in entries and archive.read(order) != b"little":
            raise _Refused("it was written on a big-endian machine")
        storages: dict[str, np.ndarray] = {}

        def load_persistent(pid: Any) -> np.ndarray:
            dtype, key, count = _storage_id(pid)
            if key not in storages:
                name = f"{prefix}data/{key}"
                if name not in entries:
                    raise _Refused("a tensor's bytes are missing")
                storages[key] = np.frombuffer(archive.read(name), np.uint8)
            return _as_dtype(storages[key], dtype, count)

        tensors = _Tensors(path.stat().st_size)
        reader = PickleReader(archive.read(pickles[0]), tensors.find_global, load_persistent)
        return tensors.finish(reader.load()[0])


# The older format: pickles of a magic number, a version and the byte order, then the pickle of the
# object, then that of the storages' keys, then each storage as its count and its raw bytes.


def _read_legacy(path: Path) -> Any:
    data = np.fromfile(path, np.uint8)
    views: list[_Pending] = []
    pending: dict[str, _Pending] = {}

    def load_persistent(pid: Any) -> _Pending:
        dtype, key, count = _storage_id(pid)
        if pid[5:] not in ((), (None,)):
            raise _Refused("it has views of storages, of a PyTorch before 0.4")
        if pending.setdefault(key, _Pending(key, dtype, count)) != _Pending(key, dtype, count):
            raise _Refused("it gives one storage two types")
        views.append(pending[key])
        return pending[key]

    tensors = _Tensors(data.size)
    reader = PickleReader(data.data, tensors.find_global, load_persistent)
    magic, position = reader.load()
    if magic != _LEGACY_MAGIC:
        raise _Refused("it is a pickle, but not one that PyTorch wrote")
    version, position = reader.load(position)
    system, position = reader.load(position)
    if version != _LEGACY_PROTOCOL or not isinstance(system, dict):
        raise _Refused(f"its format version is {version}, not {_LEGACY_PROTOCOL}")
    if system.get("little_endian") is not True:
        raise _Refused("it was written on a big-endian machine")
    result, position = reader.load(position)
    keys, position = reader.load(position)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(pending):
        raise _Refused("its list of storages does not fit its tensors")
    storages = {}
    for key in keys:
        storage = pending[key]
        count = int.from_bytes(data[position : position + 8].tobytes(), "little", signed=True)
        size = storage.count * storage.dtype.itemsize
        if count != storage.count or position + 8 + size > data.size:
            raise _Refused("a tensor's bytes are missing")
        storages[key] = data[position + 8 : position + 8 + size].view(storage.dtype)
        position += 8 + size
    return tensors.finish(result, storages)


class _Pending(collections.namedtuple("_Pending", "key dtype count")):
    """A storage of the older format, whose bytes come after the pickle."""


def _storage_id(pid: Any) -> tuple[np.dtype, str, int]:
    """The parts of ("storage", type, key, device, count, ...), checked."""
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
        raise _Refused("it holds something that is not a tensor")
    _, kind, key, _, count = pid[:5]
    if not isinstance(kind, _StorageType) or not isinstance(key, str):
        raise _Refused("it holds a storage of an unknown type")
    if not isinstance(count, int) or count < 0:
        raise _Refused("a tensor has a negative size")
    return kind.dtype, key, count


def _as_dtype(raw: np.ndarray, dtype: np.dtype, count: int) -> np.ndarray:
    if raw.size < count * dtype.itemsize:
        raise _Refused("a tensor's bytes are missing")
    return raw[: count * dtype.itemsize].view(dtype)


class _StorageType(collections.namedtuple("_StorageType", "dtype")):
    """What `torch.FloatStorage` and the like stand for."""


class _Tensor:
    """A tensor whose storage is known, or will be when the pickle has been read."""

    def __init__(self, storage: Any, offset: int, size: tuple, stride: tuple) -> None:
        numbers = (offset, *size, *stride)
        if any(not isinstance(n, int) or n < 0 for n in numbers) or len(size) != len(stride):
            raise _Refused("a tensor has a negative size")
        if isinstance(storage, _Pending):
            self.dtype, count = storage.dtype, storage.count
        elif isinstance(storage, np.ndarray):
            self.dtype, count = storage.dtype, storage.size
        else:
            raise _Refused("a tensor has no storage")
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        # More elements than the storage has means that they overlap: memory from nothing.
        if 0 not in size and (last >= count or math.prod(size) > count):
            raise _Refused("a tensor reaches past its storage")
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    @property
    def nbytes(self) -> int:
        return math.prod(self.size) * self.dtype.itemsize

    def array(self, storages: dict[str, np.ndarray]) -> np.ndarray:
        storage = self.storage
        if isinstance(storage, _Pending):
            storage = storages[storage.key]
        if 0 in self.size:
            return np.zeros(self.size, self.dtype)
        steps = [s * self.dtype.itemsize for s in self.stride]
        return np.lib.stride_tricks.as_strided(
            storage[self.offset :], self.size, steps, writeable=False
        )


class _Tensors:
    """The allowed names, and the tensors that were made through them."""

    def __init__(self, file_size: int) -> None:
        self._left = _MAX_AMPLIFICATION * file_size
        self._allowed = {
            ("collections", "OrderedDict"): self._ordered_dict,
            ("torch._utils", "_rebuild_tensor_v2"): self._rebuild,
            ("torch._utils", "_rebuild_tensor"): self._rebuild,
            ("torch._utils", "_rebuild_parameter"): self._parameter,
            ("torch", "Size"): self._size,
        }

    def find_global(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _StorageType(_DTYPES[name])
        if (module, name) not in self._allowed:
            raise _Refused(f"it asks to run {module}.{name}, which is not allowed")
        return self._allowed[module, name]

    @staticmethod
    def _ordered_dict(*items: Any) -> dict:
        """Old pickles give the items as a list of pairs."""
        if items and not (len(items) == 1 and isinstance(items[0], list)):
            raise _Refused("a dictionary is malformed")
        pairs = items[0] if items else []
        if any(not isinstance(pair, tuple | list) or len(pair) != 2 for pair in pairs):
            raise _Refused("a dictionary is malformed")
        return {key: value for key, value in pairs}

    @staticmethod
    def _parameter(data: Any = None, *_: Any) -> Any:
        return data

    @staticmethod
    def _size(dims: Any = ()) -> tuple:
        return tuple(dims)

    def _rebuild(
        self, storage: Any = None, offset: Any = 0, size: Any = (), stride: Any = (), *_: Any
    ) -> _Tensor:
        if not (isinstance(size, tuple) and isinstance(stride, tuple)):
            raise _Refused("a tensor has no size")
        tensor = _Tensor(storage, offset, size, stride)
        self._left -= tensor.nbytes
        if self._left < 0:
            raise _Refused("its tensors are much larger than the file")
        return tensor

    def finish(self, result: Any, storages: dict[str, np.ndarray] | None = None) -> Any:
        """Replaces the tensors in nested containers by arrays."""
        items = 0

        def resolve(value: Any, depth: int) -> Any:
            nonlocal items
            items += 1
            # References make a short pickle arbitrarily large once they are followed.
            if depth > _MAX_DEPTH or items > _MAX_ITEMS:
                raise _Refused("it is nested too deeply")
            if isinstance(value, _Tensor):
                return value.array(storages or {})
            if isinstance(value, dict):
                return {key: resolve(item, depth + 1) for key, item in value.items()}
            if isinstance(value, _StorageType | _Pending | np.ndarray) or callable(value):
                raise _Refused("it holds something that is not plain data")
            if isinstance(value, list | tuple):
                return type(value)(resolve(item, depth + 1) for item in value)
            return value

        return resolve(result, 0)
