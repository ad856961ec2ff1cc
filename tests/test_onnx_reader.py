"""The ONNX reader on real and on hostile bytes."""

import numpy as np
import pytest

from ace_jax.errors import UserError
from ace_jax.weights.onnx_reader import read_initializers


def _field(number, payload):
    length, varint = len(payload), b""
    while length >= 0x80:
        varint += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + varint + bytes([length]) + payload


def _model(*tensors):
    return _field(7, b"".join(_field(5, tensor) for tensor in tensors))


def _tensor(name=b"w", kind=1, dims=(2, 3), data=bytes(24)):
    head = b"".join(bytes([1 << 3, d]) for d in dims) + bytes([2 << 3, kind])
    return head + _field(8, name) + _field(9, data)


def test_reads_a_tensor(tmp_path):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = tmp_path / "m.onnx"
    path.write_bytes(_model(_tensor(data=values.tobytes())))
    np.testing.assert_array_equal(read_initializers(path)["w"], values)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 40,
        _model(_tensor())[:-5],
        _model(_tensor(dims=(200, 100))),  # more elements than bytes
        _model(_tensor(kind=8)),  # strings
        _model(_tensor() + bytes([14 << 3, 1])),  # stored in another file
        bytes([7 << 3, 1]),  # a number where a message belongs
        bytes([7 << 3 | 3]),  # a group
    ],
)
def test_malformed_files_are_one_line(tmp_path, content):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a readable ONNX file"):
        read_initializers(path)


def test_absent_file(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_initializers(tmp_path / "none.onnx")


def test_any_truncation_or_flipped_byte_is_an_error_or_data(shared_dir, tmp_path):
    data = (shared_dir / "weights/xfeat.onnx").read_bytes()
    assert len(read_initializers(shared_dir / "weights/xfeat.onnx")) > 50
    rng = np.random.default_rng(0)
    path = tmp_path / "m.onnx"
    for _ in range(30):
        damaged = bytearray(data[: rng.integers(1, len(data))])
        damaged[rng.integers(len(damaged))] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(UserError):
            read_initializers(path)
