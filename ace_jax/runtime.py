"""The cache folder, the compilation cache, and the memory in use."""

import hashlib
import os
import platform
import sys
from pathlib import Path

from absl import logging

CACHE_ENV = "ACE_JAX_CACHE"
_MIN_COMPILE_SECONDS = 0.2  # what compiles faster is not worth a file


def cache_dir() -> Path:
    """The folder for rendered rooms, fetched weights and compiled programs; not created here.

    Returns:
        `$ACE_JAX_CACHE` if set, else `ace_jax` under `$XDG_CACHE_HOME` (`~/.cache`).
    """
    chosen = os.environ.get(CACHE_ENV)
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "ace_jax"


def enable_compilation_cache() -> Path | None:
    """Keeps compiled programs on disk, so that a second run starts in seconds.

    Call it once, before the first compilation. A cache that the user chose by
    `JAX_COMPILATION_CACHE_DIR` is left alone.

    Returns:
        The folder in use; None, with a warning, if it cannot be written.
    """
    import jax  # here, because `cache_dir` must not cost the import of JAX

    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = Path(chosen) if chosen else cache_dir() / "xla" / _machine()
    if not chosen:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            logging.warning(
                "no cache of compiled programs: cannot write %s (%s); set %s to another folder",
                folder,
                error.strerror,
                CACHE_ENV,
            )
            return None
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _MIN_COMPILE_SECONDS)
    return folder


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process so far, MiB; None where it is not known (Windows)."""
    try:
        import resource  # POSIX alone has it
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)  # bytes there, else KiB


def processor() -> str:
    """The processor's name, for reports."""
    return (
        _cpuinfo("model name").partition(":")[2].strip()
        or platform.processor()
        or platform.machine()
    )


def _machine() -> str:
    """A short name of this processor: programs compiled for another one may crash here.

    Home folders are shared between machines (clusters, containers), instruction sets are not.
    """
    kind = _cpuinfo("flags", "Features") or platform.processor()
    return hashlib.sha256(f"{platform.machine()} {kind}".encode()).hexdigest()[:12]


def _cpuinfo(*names: str) -> str:
    """The line of one of these names that Linux has for the first processor; "" elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(names)), "")
