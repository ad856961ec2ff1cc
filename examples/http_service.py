"""Where was this photo taken? A small HTTP service around an exported map, without ace_jax.

  python -m ace_jax.export kitchen.safetensors --out relocalizer
  python examples/http_service.py relocalizer --port 8000
  curl --data-binary @photo.jpg 'http://127.0.0.1:8000/locate?fx=525&fy=525&cx=319.5&cy=239.5'

The body is a PNG or JPEG without lens distortion, of the exported size; the answer is JSON. Needs
what the exported program needs: jax, flatbuffers, numpy, opencv-python-headless. For one building,
behind a proxy: it has no authentication, and answers one query at a time.
"""

import argparse
import json
import math
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np

MAX_BYTES = 50_000_000


class BadRequest(Exception):
    """What the client did wrong, in one line."""


def locate(relocalizer: Any, body: bytes, query: str) -> dict[str, Any]:
    """The answer to one photo.

    Raises:
        BadRequest: it is no image, of another size, or the intrinsics are missing.
    """
    given = parse_qs(query)
    try:
        intrinsics = [float(given[name][0]) for name in ("fx", "fy", "cx", "cy")]
    except (KeyError, ValueError) as error:
        raise BadRequest("give ?fx=...&fy=...&cx=...&cy=... in pixels") from error
    if not all(map(math.isfinite, intrinsics)) or min(intrinsics[:2]) <= 0:
        raise BadRequest("fx and fy must be positive, and all four finite")
    image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR) if body else None
    if image is None:
        raise BadRequest("the body is no PNG or JPEG")
    start = time.perf_counter()
    try:
        pose = relocalizer(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), intrinsics)
    except ValueError as error:
        raise BadRequest(str(error)) from error
    return {
        "success": pose.success,
        "world_from_camera": pose.world_from_camera.tolist() if pose.success else None,
        "inliers": pose.num_inliers,
        "milliseconds": round((time.perf_counter() - start) * 1e3, 1),
    }


def serve(relocalizer: Any, host: str, port: int) -> ThreadingHTTPServer:
    """The server, bound but not started: call its `serve_forever`."""
    busy = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            address = urlsplit(self.path)
            length = self.headers.get("Content-Length", "")
            if address.path != "/locate":
                self._answer(404, {"error": "POST an image to /locate"})
            elif not length.isdecimal() or int(length) > MAX_BYTES:
                self._answer(413, {"error": f"send Content-Length, {MAX_BYTES} bytes at most"})
            else:
                body = self.rfile.read(int(length))
                try:
                    with busy:
                        self._answer(200, locate(relocalizer, body, address.query))
                except BadRequest as error:
                    self._answer(400, {"error": str(error)})

        def do_GET(self) -> None:
            self._answer(200, relocalizer.info)

        def _answer(self, status: int, values: dict[str, Any]) -> None:
            data = json.dumps(values).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return ThreadingHTTPServer((host, port), Handler)


def main() -> None:
    """Serves until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="that python -m ace_jax.export wrote")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    sys.path.insert(0, arguments.folder)
    from relocalizer import Relocalizer

    relocalizer = Relocalizer()
    info = relocalizer.info
    # Compiled now, not at the first client's expense.
    relocalizer(np.zeros((info["height"], info["width"], 3), np.uint8), info["mapping_camera"])
    server = serve(relocalizer, arguments.host, arguments.port)
    print(f"http://{arguments.host}:{server.server_port}/locate", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
