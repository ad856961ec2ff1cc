"""Downloads against a server on this machine that misbehaves on demand."""

import concurrent.futures
import dataclasses
import hashlib
import http.server

import pytest
from local_server import serving

from ace_jax.errors import UserError
from ace_jax.weights import catalogue, checkpoint
from ace_jax.weights.catalogue import Entry
from ace_jax.weights.download import download

DATA = bytes(range(256)) * 4000  # 1 MB


class _Server(http.server.BaseHTTPRequestHandler):
    """Serves DATA with ranges; `plan` says for each request how to misbehave."""

    plan: list
    ranges: list

    def do_GET(self):
        step = self.plan.pop(0) if self.plan else None
        header = self.headers.get("Range")
        self.ranges.append(header)
        if isinstance(step, int) and step >= 300:
            self.send_response(step)
            if step in (301, 302):
                self.send_header("Location", "http://example.invalid/other")
            self.end_headers()
            return
        start = int(header[6:-1]) if header and step != "no ranges" else 0
        if start >= len(DATA):
            self.send_response(416)
            self.end_headers()
            return
        body = DATA[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if step == "corrupt":
            body = bytes([body[0] ^ 1]) + body[1:]
        if isinstance(step, int):  # break off after so many bytes
            body = body[:step]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def _online(monkeypatch):
    monkeypatch.delenv("ACE_JAX_OFFLINE")


@pytest.fixture
def server():
    handler = type("Handler", (_Server,), {"plan": [], "ranges": []})
    with serving(handler) as address:
        handler.entry = Entry(
            name="thing",
            family="xfeat",
            file="thing.pt",
            url=f"{address}/thing.pt",
            licence="none",
            what="",
            sha256=hashlib.sha256(DATA).hexdigest(),
            size=len(DATA),
        )
        yield handler


def _download(server, folder, **changes):
    entry = dataclasses.replace(server.entry, **changes)
    return download(entry, folder, progress=False, wait=0.0)


def test_complete_download_is_not_fetched_again(server, tmp_path):
    path = _download(server, tmp_path / "new")
    assert path.read_bytes() == DATA
    assert [p.name for p in path.parent.iterdir()] == ["thing.pt"]
    _download(server, tmp_path / "new")
    assert len(server.ranges) == 1


def test_broken_connections_are_resumed(server, tmp_path):
    server.plan += [200, 150]
    # Bytes below 300 break off; the status codes are above.
    assert _download(server, tmp_path).read_bytes() == DATA
    assert server.ranges == [None, "bytes=200-", "bytes=350-"]


def test_a_later_run_goes_on_where_the_first_broke_off(server, tmp_path):
    server.plan += [100, 50, 50, 50]
    with pytest.raises(UserError, match=r"broke off: .* run the same command to go on"):
        _download(server, tmp_path)
    assert not (tmp_path / "thing.pt").exists()
    assert (tmp_path / "thing.pt.part").stat().st_size == 250
    assert _download(server, tmp_path).read_bytes() == DATA
    assert server.ranges[-1] == "bytes=250-"


def test_server_without_ranges_starts_over(server, tmp_path):
    server.plan += [100, "no ranges"]
    assert _download(server, tmp_path).read_bytes() == DATA


def test_server_errors_are_repeated_and_refusals_are_told(server, tmp_path):
    server.plan += [503]
    assert _download(server, tmp_path / "a").read_bytes() == DATA
    server.plan += [404]
    with pytest.raises(UserError, match="answers 404"):
        _download(server, tmp_path / "b")


def test_corrupt_bytes_are_not_kept(server, tmp_path):
    server.plan += ["corrupt"]
    with pytest.raises(UserError, match="other bytes than the published"):
        _download(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_partial_file_of_another_version_is_dropped(server, tmp_path):
    (tmp_path / "thing.pt.part").write_bytes(b"x" * (len(DATA) + 5))
    assert _download(server, tmp_path).read_bytes() == DATA
    assert server.ranges[1] is None


def test_without_known_checksum_the_length_counts(server, tmp_path):
    server.plan += [100]
    assert _download(server, tmp_path, sha256="", size=0).read_bytes() == DATA


def test_no_network(tmp_path, server):
    with pytest.raises(UserError, match=r"no connection .*put the file into"):
        _download(server, tmp_path, url="http://127.0.0.1:9/thing.pt")


def test_only_encrypted_addresses_and_redirects(server, tmp_path):
    with pytest.raises(UserError, match="not an https address"):
        _download(server, tmp_path, url="http://example.invalid/thing.pt")
    server.plan += [302]
    with pytest.raises(UserError, match=r"example\.invalid/other is not an https"):
        _download(server, tmp_path)


def test_full_disk_and_unwritable_folder(server, tmp_path):
    with pytest.raises(UserError, match="has not the"):
        _download(server, tmp_path, size=10**18)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to"):
        _download(server, tmp_path / "file" / "folder")


def test_two_at_once_fetch_it_once(server, tmp_path):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: _download(server, tmp_path), range(2)))
    assert all(path.read_bytes() == DATA for path in paths)
    assert server.ranges == [None]


@pytest.fixture
def first_use(server, monkeypatch, tmp_path):
    """Asks for the published file as an extractor does that needs it."""
    monkeypatch.setenv("ACE_JAX_CACHE", str(tmp_path))
    monkeypatch.delenv("ACE_JAX_WEIGHTS", raising=False)

    def ask(weights_dir=None, **changes):
        entry = dataclasses.replace(server.entry, **changes)
        monkeypatch.setitem(catalogue.ENTRIES, "thing", entry)
        return checkpoint.find("thing", "xfeat", weights_dir)

    return ask


def test_first_use_fetches_and_says_so_in_one_line(server, first_use, tmp_path, capsys):
    path = first_use(what="a thing", licence="MIT")
    assert path == tmp_path / "weights" / "thing.pt"
    assert path.read_bytes() == DATA
    line = capsys.readouterr().err.splitlines()[0]
    for part in ("fetching thing", "a thing", "MIT", "1.0 MB", server.entry.url, str(path.parent)):
        assert part in line
    assert first_use() == path
    assert len(server.ranges) == 1
    assert capsys.readouterr().err == ""


def test_the_user_can_say_no(server, first_use, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"looked for .*thing\.pt in .*weights download thing"):
        first_use(weights_dir=tmp_path / "mine")
    monkeypatch.setenv("ACE_JAX_OFFLINE", "1")
    with pytest.raises(UserError, match=r"ACE_JAX_OFFLINE is set, it is not fetched"):
        first_use()
    with pytest.raises(UserError, match=r"ACE_JAX_OFFLINE is set; unset it to fetch"):
        _download(server, tmp_path)
    assert server.ranges == []
    monkeypatch.setenv("ACE_JAX_OFFLINE", "0")
    assert first_use().read_bytes() == DATA


def test_what_is_offline_is_found_nevertheless(server, first_use, monkeypatch, tmp_path):
    _download(server, tmp_path / "weights")
    monkeypatch.setenv("ACE_JAX_OFFLINE", "1")
    assert first_use() == tmp_path / "weights" / "thing.pt"


def test_without_a_checksum_nothing_is_fetched_unasked(server, first_use):
    with pytest.raises(UserError, match="weights download thing"):
        first_use(sha256="")
    assert server.ranges == []
