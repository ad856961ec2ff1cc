"""Nothing is sent or fetched unless the user asks for a download; imports start nothing at all."""

import textwrap
import urllib.request

import pytest
from commands import run_python
from network_guard import no_network

from ace_jax.errors import UserError
from ace_jax.features import registry

# Every way out goes through these: a connection, and the look-up of a name.
_GUARD = textwrap.dedent("""
    import socket

    def refuse(*arguments, **_):
        raise SystemExit(f"a connection was tried: {arguments[1:]}")

    for name in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        setattr(socket, name, lambda *a, **k: refuse(None, *a))
""")

_EVERYTHING = _GUARD + textwrap.dedent("""
    import importlib, pkgutil, sys
    from absl import flags
    for name in ("resource", "fcntl", "termios", "pwd", "grp"):  # POSIX has them
        sys.modules[name] = None
    import ace_jax

    count = 0
    known = set(flags.FLAGS)
    for module in pkgutil.walk_packages(ace_jax.__path__, "ace_jax."):
        importlib.import_module(module.name)
        count += 1
        for name in set(flags.FLAGS) - known:  # commands define flags of the same names
            delattr(flags.FLAGS, name)
    print(count)
""")


def test_importing_every_module_touches_no_network_and_no_device_and_needs_no_posix():
    # No device of this name can be started: whatever asks for one at import fails.
    done = run_python("-c", _EVERYTHING, JAX_PLATFORMS="nowhere")
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 150


def test_missing_weights_are_not_fetched(tmp_path):
    with no_network(), pytest.raises(UserError, match="superpoint"):
        registry.create("superpoint", tmp_path)


def test_the_guards_work():
    with no_network(), pytest.raises(AssertionError, match="a connection was tried"):
        urllib.request.urlopen("http://127.0.0.1")
    done = run_python("-c", _GUARD + "import urllib.request as r; r.urlopen('http://127.0.0.1')")
    assert done.returncode == 1
    assert "a connection was tried" in done.stderr
