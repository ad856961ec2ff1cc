"""The example of an HTTP service: what it answers, and what a client cannot do to it."""

import concurrent.futures
import contextlib
import http.client
import importlib.util
import io
import itertools
import json
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
import types
import zlib

import numpy as np
import pytest
from PIL import Image
from repository import REPO

WIDTH, HEIGHT = 32, 24
ASKED = "/locate?fx=30&fy=30&cx=15.5&cy=11.5"
_FILE = REPO / "examples" / "http_service.py"


def _module() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("http_service", _FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = _module()


class _Relocalizer:
    """Stands where the image's first pixel says; waits as long as it is told to."""

    def __init__(self) -> None:
        self.info = {"width": WIDTH, "height": HEIGHT}
        self.go = threading.Event()
        self.go.set()
        self.started = threading.Semaphore(0)

    def __call__(self, image, intrinsics):
        self.started.release()
        assert self.go.wait(30)
        if image[0, 0, 0] == 255:
            raise RuntimeError("a defect")
        pose = np.eye(4)
        pose[:3, 3] = image[0, 0]
        return types.SimpleNamespace(success=True, world_from_camera=pose, num_inliers=7)


@contextlib.contextmanager
def _service(relocalizer=None, **options):
    options = {"seconds": 60.0} | options  # a busy machine is no slow client
    service = example.Service(relocalizer or _Relocalizer(), "127.0.0.1", 0, **options)
    thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        service.server_close()
        thread.join()


def _photo(colour=(1, 2, 3), size=(WIDTH, HEIGHT), kind="PNG", mode="RGB", **options) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).convert(mode).save(file, kind, **options)
    return file.getvalue()


def _png_that_claims(width: int, height: int) -> bytes:
    """A PNG file of 74 bytes or so, and no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 20)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def _ask(service, method, path, body=None, headers=()):
    connection = http.client.HTTPConnection("127.0.0.1", service.server_port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def _stuck(service, sent: bytes) -> socket.socket:
    """A client that sends so much and then nothing."""
    connection = socket.create_connection(("127.0.0.1", service.server_port), timeout=30)
    connection.sendall(sent)
    return connection


def test_answers():
    with _service() as service:
        status, answer = _ask(service, "POST", ASKED, _photo())
        assert status == 200
        assert answer["success"]
        assert answer["inliers"] == 7
        assert np.array(answer["world_from_camera"])[:3, 3].tolist() == [1, 2, 3]
        assert _ask(service, "GET", "/") == (200, {"width": WIDTH, "height": HEIGHT})
        assert _ask(service, "GET", "/health") == (200, {"status": "ok"})
        for kind, mode in (("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGBA"), ("PNG", "P")):
            assert _ask(service, "POST", ASKED, _photo(kind=kind, mode=mode))[0] == 200


def test_pixels_are_those_of_the_file():
    """Intrinsics are of stored pixels, so that a note about the camera's turn changes nothing."""
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    body = _photo(kind="JPEG", exif=exif)
    assert example.read_image(body, WIDTH, HEIGHT).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("path", "body", "status", "line"),
    [
        ("/elsewhere", b"x", 404, "POST an image to /locate"),
        ("/locate", _photo(), 400, "fx="),
        (ASKED + "&fx=0", b"no image", 400, "no PNG or JPEG"),
        (ASKED.replace("fx=30", "fx=-1"), _photo(), 400, "positive"),
        (ASKED.replace("fx=30", "fx=nan"), _photo(), 400, "finite"),
        (ASKED, b"", 413, "bytes at most"),
        (ASKED, b"x" * (3 * WIDTH * HEIGHT + 1_000_001), 413, "bytes at most"),
        (ASKED, b"\xff\xd8\xff\xe0 broken", 400, "damaged"),
        (ASKED, _photo()[:-30], 400, "damaged"),
        (ASKED, _photo(size=(4, 4)), 400, "32 x 24 pixels, not 4 x 4"),
        (ASKED, _photo(size=(HEIGHT, WIDTH)), 400, "32 x 24 pixels, not 24 x 32"),
        (ASKED, _png_that_claims(60_000, 60_000), 400, "32 x 24 pixels"),
        (ASKED, _png_that_claims(2**31 - 1, 2**31 - 1), 400, "32 x 24 pixels"),
        (ASKED, _png_that_claims(0, 0), 400, "damaged"),
        (ASKED, _png_that_claims(WIDTH, HEIGHT), 400, "damaged"),
        (ASKED, _photo((255, 0, 0)), 500, "its log has more"),
    ],
    ids=itertools.count(),
)
def test_every_mistake_is_answered(path, body, status, line):
    with _service() as service:
        told = _ask(service, "POST", path, body)
        assert told[0] == status
        assert line in told[1]["error"]
        assert _ask(service, "POST", ASKED, _photo())[0] == 200  # and the service goes on


def test_heads_that_make_no_sense():
    head = "POST {} HTTP/1.1\r\nHost: x\r\n{}\r\n"
    for path, lines, status in (
        (ASKED, "", b"411"),
        (ASKED, "Content-Length: -5\r\n", b"411"),
        (ASKED, f"Content-Length: {10**30}\r\n", b"413"),
        (ASKED, f"Content-Length: {10**9}\r\nExpect: 100-continue\r\n", b"413"),
        (ASKED, "Transfer-Encoding: chunked\r\n", b"411"),
    ):
        with _service() as service, _stuck(service, head.format(path, lines).encode()) as client:
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1000).split()[1] == status


def test_a_picture_that_is_too_large_is_not_decoded():
    """8000 x 8000 pixels: less than 400 kB in the file, 192 MB and more in memory."""
    code = f"""
        import io, resource, sys
        sys.path.insert(0, {str(_FILE.parent)!r})
        import http_service
        from PIL import Image
        file = io.BytesIO()
        Image.new("L", (8000, 8000)).save(file, "PNG", compress_level=1)
        body = file.getvalue()
        assert len(body) < 400_000
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            http_service.read_image(body, {WIDTH}, {HEIGHT})
        except http_service.BadRequest as error:
            print(error)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120
    )
    line, megabytes = done.stdout.splitlines() or pytest.fail(done.stderr)
    assert "not 8000 x 8000" in line
    assert int(megabytes) < 20  # the 64 MB of grey before it cannot hide the 192 of RGB


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /loc", f"POST {ASKED} HTTP/1.1\r\nContent-Length: 500\r\n\r\nsome".encode()],
    ids=["nothing", "part of the head", "part of the body"],
)
def test_a_stuck_upload_ends(sent):
    with _service(seconds=0.3) as service:
        start = time.monotonic()
        with _stuck(service, sent) as client:
            answer = client.makefile("rb").read()
        assert 0.2 < time.monotonic() - start < 15
        assert (answer.split()[1] == b"408") if sent.endswith(b"some") else not answer


def test_a_slow_upload_ends():
    """A byte now and then keeps a timeout of single reads away for ever."""
    with _service(seconds=0.4) as service:
        head = f"POST {ASKED} HTTP/1.1\r\nContent-Length: 500\r\n\r\n"
        with _stuck(service, head.encode()) as client:
            client.settimeout(0.05)
            start, answer = time.monotonic(), b""
            while not answer and time.monotonic() - start < 15:
                with contextlib.suppress(TimeoutError):
                    client.sendall(b"x")
                    answer = client.recv(1000)
            assert answer.split()[1] == b"408"


def test_a_full_queue_is_503_and_health_answers_meanwhile():
    relocalizer = _Relocalizer()
    relocalizer.go.clear()
    with (
        _service(relocalizer, waiting=2) as service,
        concurrent.futures.ThreadPoolExecutor(20) as pool,
    ):
        first = pool.submit(_ask, service, "POST", ASKED, _photo())
        assert relocalizer.started.acquire(timeout=30)
        others = [pool.submit(_ask, service, "POST", ASKED, _photo()) for _ in range(8)]
        done = concurrent.futures.as_completed(others, 30)
        refused = [future.result()[0] for future in itertools.islice(done, 6)]
        assert refused == [503] * 6
        assert _ask(service, "GET", "/health")[0] == 200
        relocalizer.go.set()
        assert first.result()[0] == 200
        assert sorted(future.result()[0] for future in others) == [200] * 2 + [503] * 6
        assert _ask(service, "POST", ASKED, _photo())[0] == 200


def test_fifty_at_once_are_all_answered():
    with _service() as service, concurrent.futures.ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(_ask, service, "POST", ASKED, _photo()) for _ in range(50)]
        statuses = {future.result()[0] for future in asked}  # a reset would raise
    assert 200 in statuses
    assert statuses <= {200, 503}


def test_more_connections_than_threads_are_refused_in_words():
    with _service(connections=3) as service, contextlib.ExitStack() as stack:
        stuck = [stack.enter_context(_stuck(service, b"POST /loc")) for _ in range(3)]
        assert _ask(service, "GET", "/health")[0] == 503
        for client in stuck:
            client.close()
        deadline = time.monotonic() + 15
        while _ask(service, "GET", "/health")[0] == 503 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert _ask(service, "GET", "/health")[0] == 200


def test_clients_that_leave_are_no_errors(capfd):
    with _service() as service:
        head = f"POST {ASKED} HTTP/1.1\r\nContent-Length: 500\r\n\r\nsome".encode()
        for _ in range(3):
            client = _stuck(service, head)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()  # with a reset
        assert _ask(service, "POST", ASKED, _photo())[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_requests_leave_no_thread():
    with _service() as service:
        before = threading.active_count()
        for _ in range(200):
            assert _ask(service, "GET", "/health")[0] == 200
        deadline = time.monotonic() + 15
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert threading.active_count() <= before
