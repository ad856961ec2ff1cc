"""Checkpoints are read as data; code in them never runs."""

import io
import pickle
import random
import struct
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


def test_reads_the_older_format(shared_dir):
    state = read_torch(shared_dir / "golden/superpoint/superpoint_random.pth")
    assert len(state) == 24
    assert state["conv1a.weight"].shape == (64, 1, 3, 3)
    assert all(np.isfinite(tensor).all() and tensor.std() > 0 for tensor in state.values())


@pytest.mark.parametrize("size", [10, 300, -1000, -1])
def test_truncated_older_format_is_refused(tmp_path, shared_dir, size):
    whole = (shared_dir / "golden/superpoint/superpoint_random.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(whole[:size])
    with pytest.raises(UserError, match=r"truncated|bytes are missing"):
        read_torch(tmp_path / "x.pth")


def test_malicious_older_format_is_refused(tmp_path):
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
    system = pickle.dumps({"little_endian": True}, 2)
    for protocol in (2, 4):
        attack = pickle.dumps({"w": _Attack()}, protocol)
        (tmp_path / "bad.pth").write_bytes(magic + system + attack)
        with pytest.raises(UserError, match="asks to run"):
            read_torch(tmp_path / "bad.pth")


def test_pickle_tricks_are_refused(tmp_path):
    """Opcodes that make instances, extension codes, and attributes of what is no dictionary."""
    tricks = {
        "opcode": b"\x80\x02(i",  # INST
        "asks to run": b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00x\x85R.",
        "no function": b"\x80\x02}X\x01\x00\x00\x00x\x85R.",
        "dict was expected": b"\x80\x02]}b.",
        "empty stack": b"\x80\x02.",
        "unknown reference": b"\x80\x02h\x07.",
    }
    for line, payload in tricks.items():
        with pytest.raises(UserError, match=line):
            read_torch(_write(tmp_path / "x.pt", payload))


def test_references_that_grow_without_end_are_refused(tmp_path):
    """Forty lists, each holding the one before twice: 10^12 items when followed."""
    value = [1]
    for _ in range(40):
        value = [value, value]
    with pytest.raises(UserError, match="nested too deeply"):
        read_torch(_write(tmp_path / "x.pt", pickle.dumps(value, 2)))


def test_zip_bombs_are_refused(tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, 2))
        archive.writestr("a/data/0", bytes(10_000_000))
    with pytest.raises(UserError, match="compressed"):
        read_torch(path)
    # Two entries of the directory that are the same bytes of the file.
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, 2))
        archive.writestr("a/data/0", bytes(10_000))
        archive.filelist += [archive.filelist[-1]] * 2
        archive.NameToInfo = {}
    data = bytearray(path.read_bytes())
    for index, match in enumerate(list(_directory_names(data))[-2:]):
        data[match + 7] = ord(str(index + 1))
    path.write_bytes(data)
    with pytest.raises(UserError, match="overlap"):
        read_torch(path)


def _directory_names(data):
    position = 0
    while (position := data.find(b"PK\x01\x02", position)) >= 0:
        yield position + 46
        position += 1


def test_tensors_larger_than_the_file_are_refused(tmp_path):
    """One storage of 4 KB, a thousand tensors of all of it; and one with stride zero."""

    def storage():
        key, device = b"X\x01\x00\x00\x000", b"X\x03\x00\x00\x00cpu"
        kind = b"X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        return b"(" + kind + key + device + b"M\x00\x04tQ"

    def tensor(size, stride):
        call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage() + b"K\x00"
        return call + b"J" + struct.pack("<i", size) + b"\x85K" + bytes([stride]) + b"\x85tR"

    def write(pickled):
        path = tmp_path / "x.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", b"\x80\x02]" + pickled + b".")
            archive.writestr("a/data/0", np.arange(1024, dtype="<f4").tobytes())
        return path

    np.testing.assert_array_equal(
        read_torch(write(tensor(512, 2) + b"a"))[0], np.arange(0, 1024, 2)
    )
    with pytest.raises(UserError, match="past its storage"):
        read_torch(write(tensor(2**30, 0) + b"a"))
    with pytest.raises(UserError, match="larger than the file"):
        read_torch(write((tensor(1024, 1) + b"a") * 1000))


@pytest.mark.parametrize(
    ("head", "line"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "safetensors"),
        (b"", "empty"),
    ],
)
def test_other_files_are_recognized(tmp_path, head, line):
    (tmp_path / "x.pt").write_bytes(head)
    with pytest.raises(UserError, match=line):
        read_torch(tmp_path / "x.pt")


def test_damaged_bytes_never_crash(tmp_path, shared_dir):
    """Whatever happens to the pickle, the answer is data or one line."""
    source = zipfile.ZipFile(shared_dir / "golden/ace_g/tiny_map.pt")
    name = next(n for n in source.namelist() if n.endswith("data.pkl"))
    storages = {n: source.read(n) for n in source.namelist() if "/data/" in n}
    rng = random.Random(0)
    for _ in range(300):
        damaged = bytearray(source.read(name))
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
            archive.writestr(name, bytes(damaged))
            for key, data in storages.items():
                archive.writestr(key, data)
        try:
            read_torch(tmp_path / "x.pt")
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017
