"""Files that are complete or absent."""

import errno
import json
import os
import time

import numpy as np
import pytest

from ace_jax.files import ABANDONED, replacing, write_json


def test_the_file_appears_when_the_block_succeeds(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert temporary.suffix == ".txt"
        assert not target.exists()
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_killed_writers_left_is_removed_later(tmp_path):
    old, new, other = (tmp_path / name for name in (".a.123-45.txt", ".a.124-45.txt", ".b.123.txt"))
    for path in (old, new, other):
        path.write_text("half")
    long_ago = time.time() - ABANDONED - 1
    for path in (old, other):
        os.utime(path, (long_ago, long_ago))
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", new.name, other.name}


def test_writers_of_one_file_do_not_meet(tmp_path):
    target = tmp_path / "a.txt"
    with replacing(target) as first:
        first.write_text("first")
        with replacing(target) as second:
            second.write_text("second")
            assert first != second
        assert first.read_text() == "first"
        assert target.read_text() == "second"
    assert target.read_text() == "first"
    assert list(tmp_path.iterdir()) == [target]


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    target, done = tmp_path / "a.txt", []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor):
        name = os.readlink(f"/proc/self/fd/{descriptor}") if os.path.isdir("/proc/self") else "?"
        done.append(("flush", os.path.basename(name), target.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(("name",)), replace(a, b)))
    with replacing(target) as temporary:
        temporary.write_text("new")
    assert done == [("flush", temporary.name, False), ("name",), ("flush", tmp_path.name, True)]


@pytest.mark.parametrize(("number", "raised"), [(errno.ENOSPC, True), (errno.EINVAL, False)])
def test_a_disk_that_is_full_when_flushed_leaves_the_old_file(
    tmp_path, monkeypatch, number, raised
):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def refuse(_):
        raise OSError(number, os.strerror(number))

    def write():
        with replacing(target) as temporary:
            temporary.write_text("new")

    monkeypatch.setattr(os, "fsync", refuse)
    if raised:
        with pytest.raises(OSError, match="No space"):
            write()
    else:
        write()
    assert target.read_text() == ("old" if raised else "new")
    assert list(tmp_path.iterdir()) == [target]


def test_json_has_no_numbers_that_json_does_not_know(tmp_path):
    write_json(
        tmp_path / "m.json",
        {"nan": np.float32("nan"), "inf": float("inf"), "n": np.int64(3), "a": np.eye(2)},
    )
    text = (tmp_path / "m.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "nan": None,
        "inf": None,
        "n": 3,
        "a": [[1.0, 0.0], [0.0, 1.0]],
    }
