"""The cache folder and the cache of compiled programs."""

import os
import subprocess
import sys

from ace_jax import runtime

_COMPILE = """
import jax, jax.numpy as jnp
from ace_jax import runtime
print(runtime.enable_compilation_cache())
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: jnp.sin(x) + 1)(jnp.ones(7)).block_until_ready()
"""


def test_cache_dir_is_the_chosen_one(monkeypatch, tmp_path):
    monkeypatch.setenv(runtime.CACHE_ENV, str(tmp_path / "mine"))
    assert runtime.cache_dir() == tmp_path / "mine"
    assert not (tmp_path / "mine").exists()


def test_cache_dir_default_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.delenv(runtime.CACHE_ENV, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert runtime.cache_dir() == tmp_path / "ace_jax"


def _compile(cache) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
    env[runtime.CACHE_ENV] = str(cache)
    return subprocess.run(
        [sys.executable, "-c", _COMPILE], env=env, capture_output=True, text=True, check=True
    )


def test_compiled_programs_are_kept(tmp_path):
    _compile(tmp_path)
    assert list((tmp_path / "xla").rglob("*-cache"))


def test_unwritable_cache_is_a_warning(tmp_path):
    (tmp_path / "xla").write_text("a file where the folder should be")
    done = _compile(tmp_path)
    assert done.stdout.strip() == "None"
    assert "set ACE_JAX_CACHE" in done.stderr
