"""Reads the weights (initializers) of an ONNX file, without the `onnx` package.

ONNX is a protobuf message; only the few fields that hold tensors are looked at, and every length
is checked against the bytes that are there. Field numbers are those of `onnx.proto`: ModelProto
graph = 7; GraphProto initializer = 5; TensorProto dims = 1, data_type = 2, float_data = 4,
int64_data = 7, name = 8, raw_data = 9, data_location = 14.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ace_jax.errors import UserError

_DTYPES = {1: np.dtype("<f4"), 7: np.dtype("<i8"), 10: np.dtype("<f2")}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class _Malformed(Exception):
    pass


def read_initializers(path: Path | str) -> dict[str, np.ndarray]:
    """Name to tensor (float32, float16 or int64) of every initializer in the file.

    Raises:
        UserError: the file is not an ONNX model, is truncated, or keeps its tensors elsewhere.
    """
    try:
        data = memoryview(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    try:
        graphs = [value for field, value in _fields(data) if field == 7]
        if len(graphs) != 1 or isinstance(graphs[0], int):
            raise _Malformed("it has no graph")
        tensors = [_tensor(value) for field, value in _fields(graphs[0]) if field == 5]
    except _Malformed as error:
        raise UserError(f"{path} is not a readable ONNX file: {error}") from error
    return dict(tensors)


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise _Malformed("it is truncated")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _Malformed("a number is too long")


def _fields(data: memoryview | int) -> Iterator[tuple[int, memoryview | int]]:
    """(field number, value) in file order; a length-delimited value is a view of its bytes."""
    if isinstance(data, int):
        raise _Malformed("a message was expected, a number found")
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield field, value
            continue
        if kind == _BYTES:
            length, position = _varint(data, position)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise _Malformed(f"field {field} has an unknown wire type")
        if length > len(data) - position:
            raise _Malformed("it is truncated")
        yield field, data[position : position + length]
        position += length


def _tensor(data: memoryview | int) -> tuple[str, np.ndarray]:
    dims: list[int] = []
    name, kind, raw = "", 0, memoryview(b"")
    for field, value in _fields(data):
        if field == 1:
            dims += [value] if isinstance(value, int) else list(_packed(value))
        elif field == 2 and isinstance(value, int):
            kind = value
        elif field == 14 and value == 1:
            raise _Malformed(f"tensor {name!r} is stored in another file")
        elif isinstance(value, int):
            continue
        elif field == 8:
            name = bytes(value).decode("utf-8", "replace")
        elif field in (4, 9):
            raw = value
        elif field == 7:
            raw = memoryview(np.array(list(_packed(value)), np.uint64).tobytes())
    if kind not in _DTYPES:
        raise _Malformed(f"tensor {name!r} has the unsupported type {kind}")
    dtype = _DTYPES[kind]
    if math.prod(dims) * dtype.itemsize != len(raw):
        raise _Malformed(f"tensor {name!r} has {len(raw)} bytes for shape {dims}")
    return name, np.frombuffer(raw, dtype).reshape(dims)


def _packed(data: memoryview) -> Iterator[int]:
    position = 0
    while position < len(data):
        value, position = _varint(data, position)
        yield value
