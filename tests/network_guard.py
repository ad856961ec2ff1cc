"""Nothing may leave this machine while a test runs."""

import contextlib
import socket
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def no_network() -> Iterator[None]:
    """Every way out, a connection or the look-up of a name, is an error meanwhile."""

    def refuse(*arguments, **_):
        raise AssertionError(f"a connection was tried: {arguments[1:]}")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, refuse)
        for name in ("getaddrinfo", "gethostbyname", "create_connection"):
            patch.setattr(socket, name, lambda *a, **k: refuse(None, *a))
        yield
