"""A web server on loopback for the tests of downloads."""

import contextlib
import http.server
import threading
from collections.abc import Iterator


class Files(http.server.BaseHTTPRequestHandler):
    """Serves `files` by path, from any byte on; `breaks` tells after how many bytes to break off.

    `asked` is what was asked for. Each user makes a class of its own, see `of`.
    """

    files: dict[str, bytes]
    breaks: list[int]
    asked: list[str]

    @classmethod
    def of(cls, files: dict[str, bytes] | None = None) -> type["Files"]:
        return type("Handler", (cls,), {"files": files or {}, "breaks": [], "asked": []})

    def do_GET(self) -> None:
        self.asked.append(self.path)
        data = self.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        header = self.headers.get("Range")
        start = int(header[6:-1]) if header else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = start + self.breaks.pop() if self.breaks else len(data)
        self.wfile.write(data[start:end])

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serves with `handler`, on a thread of its own; the address, without a slash at the end."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()
