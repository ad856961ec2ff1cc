"""Executables on disk: named by what they depend on, loaded, compiled and written as a whole.

Used by `programs`.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import pickle
import secrets
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from ace_jax.files import replacing

LOADED = "/ace_jax/program_loaded"  # an event of `jax.monitoring`, with its seconds
KEPT_REVISIONS = 4  # of the package, by whose code executables are found
_WITHOUT_FUSIONS = {"xla_cpu_use_fusion_emitters": False}
_hit = threading.local()


def digest(*parts: str) -> str:
    """A name for what these texts tell, 32 letters long."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


@functools.cache
def compiler() -> str:
    """What an executable depends on beside the lowered program and the processor."""
    first = jax.devices()[0]
    return repr(
        [
            *(importlib.metadata.version(name) for name in ("jax", "jaxlib")),
            first.client.platform_version,
            first.device_kind,
            jax.device_count(),
            os.environ.get("XLA_FLAGS"),
            os.environ.get("LIBTPU_INIT_ARGS"),
            _options(),
        ]
    )


@functools.cache
def _options() -> dict[str, Any]:
    """On CPUs XLA compiles a quarter faster without its fusion emitters; programs run as fast."""
    said = os.environ.get("XLA_FLAGS", "")
    if jax.default_backend() != "cpu" or any(flag in said for flag in _WITHOUT_FUSIONS):
        return {}
    try:
        jax.jit(lambda x: x + 1).lower(0.0).compile(compiler_options=_WITHOUT_FUSIONS)
    except Exception:  # another version of XLA knows no such option
        return {}
    return _WITHOUT_FUSIONS


def compile_lowered(lowered: Any) -> tuple[Any, bool]:
    """The executable of a lowered function, and whether XLA has made it now.

    What JAX's cache gives cannot be written again: XLA for CPUs then misses functions.
    """
    with _cache_hits() as hits:
        compiled = lowered.compile(compiler_options=_options())
    if not hits:
        return compiled, True
    # An option that changes what XLA prints when it is debugged: the cache has nothing under it.
    unique = {"xla_debug_buffer_assignment_show_max": 1000 + secrets.randbelow(1 << 20)}
    try:
        with _cache_hits() as hits:
            return lowered.compile(compiler_options=_options() | unique), not hits
    except Exception:  # a device that knows no such option
        return compiled, False


def load(path: Path) -> Callable[..., Any] | None:
    """The executable of a file; None: there is none, or it is damaged."""
    from jax.experimental import serialize_executable

    start = time.perf_counter()
    try:
        content = zlib.decompress(path.read_bytes())
        if b"lapack_" in content:
            _prepare_lapack()
        loaded = serialize_executable.deserialize_and_load(
            *pickle.loads(content), execution_devices=jax.devices()[:1]
        )
        jax.monitoring.record_event_duration_secs(LOADED, time.perf_counter() - start)
        return loaded
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever a damaged or foreign file is read as
        logging.info("the compiled program %s cannot be loaded: %s", path, error)
        return None


@functools.cache
def _prepare_lapack() -> None:
    """Gives XLA for CPUs the addresses of LAPACK's functions, as lowering does: calls crash else.

    Raises:
        AttributeError: another version of JAX does it otherwise.
    """
    from jaxlib import lapack

    lapack.prepare_lapack_call("potrf_ffi", np.dtype(np.float32))


def save(path: Path, compiled: Any) -> bool:
    """Keeps an executable; tells whether that was possible."""
    from jax.experimental import serialize_executable

    try:
        content = zlib.compress(pickle.dumps(serialize_executable.serialize(compiled)), 1)
    except (ValueError, TypeError, NotImplementedError, RuntimeError, pickle.PicklingError):
        return False
    return write_whole(path, lambda temporary: temporary.write_bytes(content))


def write_whole(path: Path, write: Callable[[Path], Any]) -> bool:
    """Writes a file as a whole; tells whether that was possible."""
    try:
        if not path.parent.is_dir():
            _drop_old_revisions(path.parent.parent)
        with replacing(path) as temporary:
            write(temporary)
    except OSError as error:
        logging.log_first_n(
            logging.WARNING,
            "compiled programs are not kept: cannot write %s (%s)",
            1,
            path.parent,
            error.strerror,
        )
        return False
    return True


def _drop_old_revisions(folder: Path) -> None:
    """Forgets by which calls earlier code found its executables, the latest revisions apart."""
    with contextlib.suppress(OSError):
        known = sorted(folder.glob("code-*"), key=lambda path: path.stat().st_mtime)
        for old in known[: 1 - KEPT_REVISIONS]:
            shutil.rmtree(old, ignore_errors=True)


def note(event: str, **_: Any) -> None:
    """Listens to `jax.monitoring`: `compile_lowered` has to know what JAX's cache gave."""
    if event == "/jax/compilation_cache/cache_hits":
        _hit.count = getattr(_hit, "count", 0) + 1


@contextlib.contextmanager
def _cache_hits() -> Iterator[list[int]]:
    """Collects whether JAX's cache had what this thread compiled meanwhile."""
    before, hits = getattr(_hit, "count", 0), []
    yield hits
    if (now := getattr(_hit, "count", 0)) > before:
        hits.append(now - before)
