"""Downloads that resume, are verified, and get their final name only when complete."""

import contextlib
import dataclasses
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ace_jax.errors import UserError
from ace_jax.progress import ProgressBar

_ATTEMPTS = 4
_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 20
_LOCAL = ("localhost", "127.0.0.1", "::1")
OFFLINE_ENV = "ACE_JAX_OFFLINE"


@dataclasses.dataclass(frozen=True)
class Remote:
    """A published file.

    Attributes:
        name: of what it is, for messages.
        url: where it is; https.
        file: its name here.
        size: bytes; 0 where unknown.
        sha256: of the file; "" where unknown.
    """

    name: str
    url: str
    file: str
    size: int = 0
    sha256: str = ""


class Unavailable(UserError):
    """A source does not give the file; another one may.

    Attributes:
        reason: without what to do.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason


class _Retry(Exception):
    """The connection broke; what has come is kept.

    Attributes:
        answered: whether there was a connection at all.
    """

    def __init__(self, reason: str, answered: bool = True) -> None:
        super().__init__(reason)
        self.answered = answered


def offline() -> bool:
    """Whether the user has said by $ACE_JAX_OFFLINE that nothing may be fetched."""
    return os.environ.get(OFFLINE_ENV, "") not in ("", "0")


def require_online(what: str) -> None:
    """Refuses to fetch `what` offline.

    Raises:
        UserError: the user has forbidden it.
    """
    if offline():
        raise UserError(f"{what} is not fetched, as {OFFLINE_ENV} is set; unset it to fetch")


@contextlib.contextmanager
def alone_with(part: Path) -> Iterator[None]:
    """Waits while another process fetches the same file: both would write one partial file.

    Where files cannot be locked (Windows, some network file systems), nothing is waited for.

    Args:
        part: the partial file.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(part, "ab") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it has its final name, or was removed
                if part.stat().st_size == 0:
                    part.unlink()


class _SameSecurity(urllib.request.HTTPRedirectHandler):
    """Redirects stay encrypted."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        _require_secure(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_secure(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
        raise UserError(f"{url} is not an https address")


def fetch(
    remote: Remote,
    folder: Path,
    *,
    progress: bool = True,
    wait: float = 1.0,
    patient: bool = True,
) -> Path:
    """Fetches a published file.

    A broken download leaves `<file>.part`, with which the next one goes on. Bytes are checked
    against the size and sha256 before the file gets its name.

    Args:
        remote: the file.
        folder: where to; created if absent.
        progress: show a bar on stderr.
        wait: seconds before the first repetition; doubled for each further one.
        patient: repeat where there is no connection at all; not if there is another source.

    Returns:
        The file. An existing complete one is not fetched again.

    Raises:
        Unavailable: no network, refused by the server, or the wrong bytes came.
        UserError: offline, not enough space, or no right to write there.
    """
    _require_secure(remote.url)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if is_complete(folder / remote.file, remote):
            return folder / remote.file
        require_online(remote.name)
        with alone_with(folder / f"{remote.file}.part"):
            return _fetched(remote, folder, progress, wait, patient)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error


def _fetched(remote: Remote, folder: Path, progress: bool, wait: float, patient: bool) -> Path:
    target, part = folder / remote.file, folder / f"{remote.file}.part"
    if is_complete(target, remote):  # another process has just brought it
        return target
    if shutil.disk_usage(folder).free < remote.size:
        raise UserError(f"{folder} has not the {remote.size / 1e6:.0f} MB that {remote.name} is")
    for attempt in range(_ATTEMPTS):
        try:
            _fetch(remote, part, progress)
            break
        except _Retry as error:
            if attempt + 1 == _ATTEMPTS or not (patient or error.answered):
                raise Unavailable(
                    f"{remote.url} broke off: {error}",
                    f"run the same command to go on, or put the file into {folder} yourself",
                ) from error
            time.sleep(wait * 2**attempt)
    if not is_complete(part, remote):
        part.unlink()
        raise Unavailable(
            f"{remote.url} gave other bytes than the published {remote.name} (size or sha256)",
            "nothing was kept",
        )
    os.replace(part, target)
    return target


def is_complete(path: Path, remote: Remote) -> bool:
    """Whether a file is there and has the size and sha256 that are known."""
    if not path.is_file() or (remote.size and path.stat().st_size != remote.size):
        return False
    if not remote.sha256:
        return True
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == remote.sha256


def _fetch(remote: Remote, part: Path, progress: bool) -> None:
    """Brings `part` to the server's length, or raises `_Retry` when the connection breaks."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(remote.url, headers={"User-Agent": "ace_jax"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    opener = urllib.request.build_opener(_SameSecurity())
    try:
        response = opener.open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to fetch, or `part` is of another file
            if not is_complete(part, remote):
                part.unlink()
                raise _Retry("the partial file was of another version") from error
            return
        if error.code >= 500:
            raise _Retry(f"the server answers {error.code}") from error
        raise Unavailable(
            f"{remote.url}: the server answers {error.code} {error.reason}",
            f"if it has moved, put the file into {part.parent} yourself",
        ) from error
    except (urllib.error.URLError, TimeoutError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise _Retry(f"no connection ({reason})", answered=False) from error
    resumed = response.status == 206
    start = have if resumed else 0
    with response, _bar(remote, response, start, progress) as bar:
        expected = _length(response)
        with open(part, "ab" if resumed else "wb") as file:
            got = 0
            while True:
                try:
                    chunk = response.read(_CHUNK)
                except (OSError, http.client.HTTPException) as error:
                    raise _Retry(str(error) or "the connection was closed") from error
                if not chunk:
                    break
                file.write(chunk)
                got += len(chunk)
                bar.show(start + got)
        if expected is not None and got < expected:
            raise _Retry(f"{got} of {expected} bytes came")


def _length(response: http.client.HTTPResponse) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _bar(
    remote: Remote, response: http.client.HTTPResponse, start: int, shown: bool
) -> ProgressBar:
    length = _length(response)
    return ProgressBar(
        remote.size or (None if length is None else start + length),
        remote.file,
        initial=start,
        unit="B",
        scaled=True,
        shown=shown,
    )
