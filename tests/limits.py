"""Limits of the machine, set for a while."""

import contextlib
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: writing more fails as on a full disk."""
    resource = pytest.importorskip("resource")  # POSIX alone has it
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
