"""The cache folder, the compilation cache, and the memory in use."""

import errno
import hashlib
import os
import platform
import sys
from pathlib import Path

from absl import logging

CACHE_ENV = "ACE_JAX_CACHE"
_JAX_MIN_COMPILE_SECONDS = 1.0  # JAX's default
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

    The first call of a function of this package that is compiled does it, see `programs`; again, it
    changes nothing. What the user chose stays: a folder (`JAX_COMPILATION_CACHE_DIR`), no cache
    (`JAX_ENABLE_COMPILATION_CACHE=0`), which programs are worth a file.

    Returns:
        The folder in use; None if there is none on this machine's disks, with a warning if it
        cannot be written.
    """
    import jax  # here, because `cache_dir` must not cost the import of JAX

    config = jax.config
    if not config.jax_enable_compilation_cache:
        return None
    if not config.jax_compilation_cache_dir:
        folder = cache_dir() / "xla" / _machine()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            logging.log_first_n(
                logging.WARNING,
                "no cache of compiled programs: cannot write %s (%s); set %s to another folder",
                1,
                folder,
                error.strerror,
                CACHE_ENV,
            )
            return None
        config.update("jax_compilation_cache_dir", str(folder))
    if config.jax_persistent_cache_min_compile_time_secs == _JAX_MIN_COMPILE_SECONDS:
        config.update("jax_persistent_cache_min_compile_time_secs", _MIN_COMPILE_SECONDS)
    chosen = config.jax_compilation_cache_dir
    return None if "://" in chosen else Path(chosen)


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
