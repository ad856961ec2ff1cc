"""Checkpoints are read as data; code in them never runs."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from ace_jax.errors import UserError
from ace_jax.weights.torch_reader import read_torch


def test_reads_a_map_code_saved_with_gradients(shared_dir):
    code = read_torch(shared_dir / "golden/ace_g/tiny_map.pt")
    assert code["map_embeddings"].shape == (37, 48)
    expected = np.load(shared_dir / "golden/ace_g/head_io.npz")
    np.testing.assert_array_equal(code["map_embeddings"], expected["map_embeddings"])
    np.testing.assert_array_equal(code["mean"], expected["mean"])


class _Attack:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


def _write(path, payload):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
    return path


def test_malicious_pickle_is_refused(tmp_path):
    path = _write(tmp_path / "bad.pt", pickle.dumps({"w": _Attack()}, protocol=2))
    with pytest.raises(UserError, match="asks to run"):
        read_torch(path)


@pytest.mark.parametrize("kind", ["not a zip", "no pickle", "empty", "truncated", "absent"])
def test_unreadable_file_is_one_line(tmp_path, shared_dir, kind):
    path = tmp_path / "x.pt"
    if kind == "not a zip":
        path.write_bytes(b"hello")
    elif kind == "no pickle":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a", b"b")
    elif kind == "empty":
        _write(path, b"")
    elif kind == "truncated":
        whole = (shared_dir / "golden/ace_g/tiny_map.pt").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=str(path)):
        read_torch(path)


def test_tensor_past_its_storage_is_refused(tmp_path, shared_dir):
    source = zipfile.ZipFile(shared_dir / "golden/ace_g/tiny_map.pt")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in source.namelist():
            data = source.read(name)
            archive.writestr(name, data[:8] if "/data/" in name else data)
    (tmp_path / "short.pt").write_bytes(out.getvalue())
    with pytest.raises(UserError, match="bytes are missing"):
        read_torch(tmp_path / "short.pt")
