"""Compiled programs kept on disk, so that a second process neither traces nor compiles them.

`program` is `jax.jit`, and what all functions of this package are compiled with: the first call
of any of them switches the cache of programs on (`runtime.enable_compilation_cache`). JAX's own
cache is asked with the lowered program, and to trace and lower functions takes longer than to load
what was compiled of them. So executables of functions at the top level of this package's modules
are kept under its code, the libraries' versions, the processor and the call's shapes as well.

Code that is replaced while it runs (a constant of a module that a test changes) is not part of
that; `ACE_JAX_PROGRAMS=0` keeps no executables.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import os
import sys
import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from ace_jax import executables
from ace_jax.runtime import enable_compilation_cache

KEEP_ENV = "ACE_JAX_PROGRAMS"
_PACKAGES = ("ace_jax",)  # whose code `_code` knows
_PLAIN = (bool, int, float)  # Python's numbers, which are traced as weakly typed scalars
_CACHE_SETTINGS = ("jax_compilation_cache", "jax_persistent_cache", "jax_enable_compilation_cache")


def program(
    function: Callable[..., Any] | None = None,
    *,
    static_argnums: int | Sequence[int] = (),
    static_argnames: str | Sequence[str] = (),
    donate_argnums: int | Sequence[int] = (),
    donate_argnames: str | Sequence[str] = (),
) -> Any:
    """A compiled function, or a decorator that makes one.

    Args:
        function: pure, as for `jax.jit`.
        static_argnums: arguments that are part of the program, given by position. They must be
            hashable, and tell by their `repr` all that the program depends on.
        static_argnames: the same, by name.
        donate_argnums: as for `jax.jit`; such programs are not kept whole.
        donate_argnames: the same.
    """
    options = {
        "static_argnums": (static_argnums,) if isinstance(static_argnums, int) else static_argnums,
        "static_argnames": static_argnames,
        "donate_argnums": donate_argnums,
        "donate_argnames": donate_argnames,
    }
    if function is None:
        return functools.partial(program, **options)
    return Program(function, **options)


def in_threads(jobs: Iterable[Callable[[], Any]]) -> list[Any]:
    """Runs jobs that mostly compile or load programs in threads: XLA works without Python's lock.

    Returns:
        Their results, in their order.

    Raises:
        Exception: the first job's that failed.
    """
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8), "compile") as pool:
        return [done.result() for done in [pool.submit(job) for job in jobs]]


class Program:
    """See `program`."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        # Given some argument numbers, even none, JAX does not look for those of the names.
        self._jit = jax.jit(function, **{k: x for k, x in options.items() if x != ()})
        names = options["static_argnames"]
        self._static = {names} if isinstance(names, str) else set(names)
        self._static_at = set(options["static_argnums"])
        if self._static:
            order = inspect.signature(function).parameters
            self._static_at |= {i for i, name in enumerate(order) if name in self._static}
        self._donates = not (options["donate_argnums"] == options["donate_argnames"] == ())
        self._ready: dict[Hashable, Callable[..., Any]] = {}
        self._lock = threading.Lock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._donates or not _plain_settings():
            _switch_on()
            return self._jit(*args, **kwargs)
        dynamic, named, static = args, kwargs, ()
        if self._static_at:
            dynamic = tuple(x for i, x in enumerate(args) if i not in self._static_at)
            named = {name: x for name, x in kwargs.items() if name not in self._static}
            static = (
                tuple((i, x) for i, x in enumerate(args) if i in self._static_at),
                tuple((n, x) for n, x in sorted(kwargs.items()) if n in self._static),
            )
        leaves, tree = jax.tree.flatten((dynamic, named))
        kinds = tuple(map(_kind, leaves))
        key = (static, tree, kinds)
        ready = self._ready.get(key)
        if ready is None:
            _switch_on()
            if None in kinds:
                return self._jit(*args, **kwargs)
            with self._lock:
                ready = self._ready.get(key)
                if ready is None:
                    ready = self._ready[key] = self._compiled(key, args, kwargs)
            if ready is not self._jit:
                try:
                    return ready(*dynamic, **named)
                except Exception as error:  # what was loaded is not what it seemed
                    logging.info("%s is compiled anew: %s", self.__name__, error)
                    ready = self._ready[key] = self._jit
        if ready is self._jit:
            return ready(*args, **kwargs)
        return ready(*dynamic, **named)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """As `jax.jit` has it."""
        return self._jit.lower(*args, **kwargs)

    def _cache_size(self) -> int:
        """How many programs there are, see `jax.jit`."""
        return self._jit._cache_size() + sum(x is not self._jit for x in self._ready.values())

    def _compiled(self, key: tuple, args: tuple, kwargs: dict[str, Any]) -> Callable[..., Any]:
        """The executable for a call: loaded or compiled and kept; else what `jax.jit` makes."""
        folder = store()
        if folder is None or not self._is_known() or not all(map(_tells_all, key[0])):
            return self._jit
        name = f"{self.__module__}.{self.__qualname__}"
        called = executables.digest(name, repr(key), _tracer(), executables.compiler())
        index = folder / _code() / called
        with contextlib.suppress(OSError, UnicodeDecodeError):
            loaded = executables.load(folder / index.read_text())
            if loaded is not None:
                return loaded
        lowered = self._jit.lower(*args, **kwargs)
        signature = str((lowered.in_tree, lowered.out_tree, lowered.in_avals, lowered.out_info))
        content = executables.digest(lowered.as_text(), signature, executables.compiler())
        file = f"{self.__name__}-{content}"
        loaded = executables.load(folder / file)
        if loaded is None:
            loaded, new = executables.compile_lowered(lowered)
            if not (new and executables.save(folder / file, loaded)):
                return loaded
        executables.write_whole(index, lambda path: path.write_text(file))
        return loaded

    def _is_known(self) -> bool:
        """Whether the function depends on nothing but this package's code and its arguments."""
        if self.__module__.partition(".")[0] not in _PACKAGES:
            return False
        found = getattr(sys.modules.get(self.__module__), self.__qualname__, None)
        return found is self or found is self._function


def store() -> Path | None:
    """The folder of whole executables; None: none are kept."""
    if os.environ.get(KEEP_ENV) == "0" or not jax.config.jax_enable_compilation_cache:
        return None
    # Other backends have not been tried, and a wrong executable is worse than a slow start.
    tried = jax.default_backend() == "cpu" and jax.process_count() == 1
    return _switch_on() if tried else None


@functools.cache
def _switch_on() -> Path | None:
    jax.monitoring.register_event_listener(executables.note)
    folder = enable_compilation_cache()
    return None if folder is None else folder / "ace_jax"


def _kind(leaf: Any) -> Hashable:
    """What a program knows of an argument; None: it is for `jax.jit` to decide."""
    if type(leaf) is np.ndarray:
        return leaf.shape, leaf.dtype
    if type(leaf) in _PLAIN:
        return type(leaf)
    if isinstance(leaf, np.generic):
        return (), leaf.dtype
    if not isinstance(leaf, jax.Array) or isinstance(leaf, jax.core.Tracer):
        return None
    if not _is_usual(leaf.sharding):
        return None
    # As an array of the host, unless it is of a Python number's type.
    return (leaf.shape, leaf.dtype, True) if leaf.aval.weak_type else (leaf.shape, leaf.dtype)


@functools.lru_cache(maxsize=64)
def _is_usual(sharding: Any) -> bool:
    """Whether arrays are where programs put them unless they are told otherwise."""
    device = jax.devices()[0]
    return (
        isinstance(sharding, jax.sharding.SingleDeviceSharding)
        and sharding.device_set == {device}
        and sharding.memory_kind in (None, device.default_memory().kind)
    )


def _plain_settings() -> bool:
    """Whether programs run as usual: compiled, on the first device."""
    config = jax.config
    return not (
        config.jax_disable_jit
        or config.jax_debug_nans
        or config.jax_debug_infs
        or config.jax_default_device is not None
        or config.jax_enable_x64
        or config.jax_default_matmul_precision is not None
    )


def _tells_all(pairs: tuple) -> bool:
    """Whether static arguments are values of Python or of this package, whose code is known."""
    return all(
        type(x).__module__.partition(".")[0] in ("builtins", "ace_jax") and " at 0x" not in repr(x)
        for _, x in pairs
    )


@functools.cache
def _tracer() -> str:
    """What a lowered program depends on beside the code of this package and the arguments."""
    settings = {
        name: str(value)
        for name, value in jax.config.values.items()
        if not name.startswith(_CACHE_SETTINGS)
    }
    libraries = [importlib.metadata.version(name) for name in ("flax", "jaxlie", "numpy")]
    return repr([sys.version_info[:2], libraries, sorted(settings.items())])


@functools.cache
def _code() -> str:
    """A name for the package's code as it is on disk."""
    root, found = Path(__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode())
        found.update(path.read_bytes())
    return f"code-{found.hexdigest()[:16]}"
