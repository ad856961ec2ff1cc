"""A small HTTP service that localizes photos in an exported map, without ace_jax.

  python -m ace_jax.export kitchen.safetensors --out relocalizer
  python examples/http_service.py relocalizer --port 8000
  curl --data-binary @photo.jpg 'http://127.0.0.1:8000/locate?fx=525&fy=525&cx=319.5&cy=239.5'
  curl http://127.0.0.1:8000/health

The body is a PNG or JPEG without lens distortion, of the exported size, its pixels in the order in
which the file has them; the answer is JSON. Needs pillow and what the exported program needs: jax,
flatbuffers, numpy, opencv-python-headless. For one building, behind a proxy: it has no
authentication and no encryption.

One query is computed at a time. A few more wait, and the next ones are answered with 503. What a
client can take is bounded: the size in an image's header is compared before anything is decoded, a
request must arrive within ten seconds, and so many connections are open at once.
"""

import argparse
import io
import json
import math
import select
import socket
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

SECONDS = 10.0  # from a connection to the last byte of its request
WAITING = 16  # queries, besides the one that is being computed
CONNECTIONS = 64
_EXTRA_BYTES = 1_000_000  # of a file beyond its pixels: thumbnail, colour profile, notes
_LINGER = 2.0  # seconds for a client to read why its request is refused
_MODES = ("RGB", "RGBA", "L", "P")  # eight bits a channel
_BUSY = (503, {"error": "busy; try again"})


class BadRequest(Exception):
    """What the client did wrong, in one line."""


def read_image(body: bytes, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8 RGB pixels of a PNG or JPEG file.

    Raises:
        BadRequest: it is another kind of file, damaged, or its header says another size.
    """
    try:
        with Image.open(io.BytesIO(body), formats=("PNG", "JPEG")) as image:
            # A header can claim gigabytes; nothing is decoded yet.
            if image.size != (width, height):
                raise BadRequest(
                    f"this map takes images of {width} x {height} pixels, not "
                    f"{image.width} x {image.height}; export it with another --image_size"
                )
            if image.mode not in _MODES:
                raise BadRequest(f"send 8 bits a channel, RGB or grey, not {image.mode}")
            return np.array(image.convert("RGB"))
    except BadRequest:
        raise
    except Image.DecompressionBombError as error:
        raise BadRequest(f"this map takes images of {width} x {height} pixels") from error
    except Exception as error:  # a damaged file gives errors of many kinds
        raise BadRequest("the body is no PNG or JPEG, or a damaged one") from error


def read_intrinsics(query: str) -> list[float]:
    """fx, fy, cx, cy in pixels.

    Raises:
        BadRequest: one is missing or makes no sense.
    """
    given = parse_qs(query)
    try:
        intrinsics = [float(given[name][0]) for name in ("fx", "fy", "cx", "cy")]
    except (KeyError, ValueError) as error:
        raise BadRequest("give ?fx=...&fy=...&cx=...&cy=... in pixels") from error
    if not all(map(math.isfinite, intrinsics)) or min(intrinsics[:2]) <= 0:
        raise BadRequest("fx and fy must be positive, and all four finite")
    return intrinsics


class _Arriving(io.RawIOBase):
    """What comes through a socket until a deadline, after which reading raises TimeoutError.

    The socket's own timeout begins anew with each byte, so that a slow client would never meet it.
    """

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection, self._deadline = connection, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("too slow")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class Service(ThreadingHTTPServer):
    """The server, bound but not started: call its `serve_forever`.

    Args:
        relocalizer: of an exported map.
        host: to listen at.
        port: 0 for any.
        seconds: for a request to arrive.
        waiting: queries that may wait for the one that is being computed.
        connections: that may be open at once.
    """

    request_queue_size = 2 * CONNECTIONS  # the system resets what it has no place for
    daemon_threads = True

    def __init__(
        self,
        relocalizer: Any,
        host: str,
        port: int,
        seconds: float = SECONDS,
        waiting: int = WAITING,
        connections: int = CONNECTIONS,
    ) -> None:
        self.relocalizer, self.seconds = relocalizer, seconds
        self.size = relocalizer.info["width"], relocalizer.info["height"]
        self.max_bytes = 3 * self.size[0] * self.size[1] + _EXTRA_BYTES
        self.places = threading.BoundedSemaphore(1 + waiting)
        self.computing = threading.Lock()
        self._connections = threading.BoundedSemaphore(connections)
        super().__init__((host, port), _Handler)

    def locate(self, body: bytes, query: str) -> dict[str, Any]:
        """The answer to one photo.

        Raises:
            BadRequest: it is no image, of another size, or the intrinsics are missing.
        """
        intrinsics, image = read_intrinsics(query), read_image(body, *self.size)
        with self.computing:
            start = time.perf_counter()
            pose = self.relocalizer(image, intrinsics)
            seconds = time.perf_counter() - start
        return {
            "success": pose.success,
            "world_from_camera": pose.world_from_camera.tolist() if pose.success else None,
            "inliers": pose.num_inliers,
            "milliseconds": round(seconds * 1e3, 1),
        }

    def process_request(self, request: socket.socket, client_address: Any) -> None:
        """Gives a connection its thread, if there is one left."""
        if not self._connections.acquire(blocking=False):
            _refuse(request)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._connections.release()
            raise

    def process_request_thread(self, request: socket.socket, client_address: Any) -> None:
        """In the thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: socket.socket, client_address: Any) -> None:
        """A client that has gone is no error of the service."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One request; then the connection is closed."""

    server: Service
    protocol_version = "HTTP/1.1"  # for `Expect: 100-continue`, which curl sends with a photo

    def setup(self) -> None:
        super().setup()
        self._deadline = time.monotonic() + self.server.seconds
        self._left = 0  # bytes of the body that have not been read
        self.rfile.close()
        self.rfile = io.BufferedReader(_Arriving(self.connection, self._deadline))

    def do_POST(self) -> None:
        refusal = self._refusal()
        if refusal is not None:
            self._answer(*refusal)
            return
        try:
            body = self.rfile.read(self._left)
        except TimeoutError:
            self._answer(408, {"error": f"the request took over {self.server.seconds:g} s"})
            return
        complete, self._left = len(body) == self._left, 0
        if not complete:
            self._answer(400, {"error": "the body is shorter than its Content-Length"})
        elif not self.server.places.acquire(blocking=False):
            self._answer(*_BUSY)
        else:
            try:
                answer = 200, self.server.locate(body, urlsplit(self.path).query)
            except BadRequest as error:
                answer = 400, {"error": str(error)}
            except Exception:
                traceback.print_exc()
                answer = 500, {"error": "the service failed; its log has more"}
            finally:
                self.server.places.release()
            self._answer(*answer)

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/health":
            self._answer(200, {"status": "ok"})
        elif path == "/":
            self._answer(200, self.server.relocalizer.info)
        else:
            self._answer(404, {"error": "GET / or /health, or POST an image to /locate"})

    def handle_expect_100(self) -> bool:
        refusal = self._refusal()
        if refusal is None:
            return super().handle_expect_100()
        self._left = 0  # it was not sent
        self._answer(*refusal)
        return False

    def _refusal(self) -> tuple[int, dict[str, Any]] | None:
        """What is wrong with the head of a POST request; sets how long its body is."""
        length = self.headers.get("Content-Length", "")
        self._left = int(length) if length.isdecimal() and len(length) < 16 else 0
        if urlsplit(self.path).path != "/locate":
            return 404, {"error": "POST an image to /locate"}
        if not length.isdecimal():
            return 411, {"error": "send Content-Length"}
        if not self._left or self._left > self.server.max_bytes:
            return 413, {"error": f"send an image of {self.server.max_bytes} bytes at most"}
        return None

    def _answer(self, status: int, values: dict[str, Any]) -> None:
        data = json.dumps(values).encode()
        self.connection.settimeout(self.server.seconds)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        if status == 503:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()
        if self._left:
            self._discard()

    def _discard(self) -> None:
        """Reads what a refused client still sends: closing now would take the answer from it."""
        self.connection.shutdown(socket.SHUT_WR)
        end = min(self._deadline, time.monotonic() + _LINGER)
        rest = io.BufferedReader(_Arriving(self.connection, end))
        try:
            while rest.read1(1 << 16):
                pass
        except OSError:
            pass


def _refuse(connection: socket.socket) -> None:
    """Tells that all threads are taken, without waiting for anything."""
    status, values = _BUSY
    data = json.dumps(values)
    head = f"HTTP/1.1 {status} Service Unavailable\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(data)}\r\nConnection: close\r\nRetry-After: 1\r\n\r\n"
    try:
        connection.setblocking(False)
        connection.sendall((head + data).encode())  # fits into the buffer of a new connection
        connection.shutdown(socket.SHUT_WR)
        while select.select([connection], [], [], 0)[0] and connection.recv(1 << 16):
            pass
    except OSError:
        pass


def main() -> None:
    """Serves until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="the exported map, from python -m ace_jax.export")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    sys.path.insert(0, arguments.folder)
    from relocalizer import Relocalizer

    relocalizer = Relocalizer()
    info = relocalizer.info
    # Compiled now, not at the first client's expense.
    relocalizer(np.zeros((info["height"], info["width"], 3), np.uint8), info["mapping_camera"])
    service = Service(relocalizer, arguments.host, arguments.port)
    print(f"http://{arguments.host}:{service.server_port}/locate", flush=True)
    try:
        service.serve_forever()
    except KeyboardInterrupt:
        service.server_close()


if __name__ == "__main__":
    main()
