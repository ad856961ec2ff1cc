"""The cache folder and the cache of compiled programs."""

import os
import subprocess
import sys

from ace_jax import programs, runtime

_COMPILE = """
import jax, jax.numpy as jnp
from ace_jax import programs, runtime
from ace_jax.features.selection import by_reliability
BEFORE
by_reliability(jnp.ones(7), jnp.ones((7, 2)), jnp.ones(7, bool)).block_until_ready()
print(runtime.enable_compilation_cache())
print(jax.config.jax_compilation_cache_dir)
print(jax.config.jax_persistent_cache_min_compile_time_secs)
"""


def test_cache_dir_is_the_chosen_one(monkeypatch, tmp_path):
    monkeypatch.setenv(runtime.CACHE_ENV, str(tmp_path / "mine"))
    assert runtime.cache_dir() == tmp_path / "mine"
    assert not (tmp_path / "mine").exists()


def test_cache_dir_default_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.delenv(runtime.CACHE_ENV, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert runtime.cache_dir() == tmp_path / "ace_jax"


def _compile(cache, before: str = "", **environment: str) -> subprocess.CompletedProcess:
    """Compiles a program of the library's in a process of its own, as a user's script does."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    env.pop(programs.KEEP_ENV, None)
    env |= {runtime.CACHE_ENV: str(cache), **environment}
    script = _COMPILE.replace("BEFORE", before)
    return subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
    )


def test_the_first_program_switches_the_cache_on(tmp_path):
    done = _compile(tmp_path, "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)")
    assert list((tmp_path / "xla").rglob("*-cache"))
    assert list((tmp_path / "xla").rglob("by_reliability-*"))
    folder, used, least = done.stdout.split()
    assert folder == used
    assert float(least) == 0.0  # what the user asked for
    assert done.stderr == ""


def test_a_program_before_it_does_not_switch_the_cache_off(tmp_path):
    _compile(tmp_path, "jax.jit(jnp.cos)(jnp.ones(3))")
    assert list((tmp_path / "xla").rglob("by_reliability-*"))


def test_unwritable_cache_is_a_warning(tmp_path):
    (tmp_path / "xla").write_text("a file where the folder should be")
    done = _compile(tmp_path)
    assert done.stdout.splitlines()[0] == "None"
    assert done.stderr.count("\n") == 1
    assert "set ACE_JAX_CACHE" in done.stderr


def test_a_cache_of_the_users_is_left_alone(tmp_path):
    theirs = tmp_path / "theirs"
    for choice in (
        {"JAX_COMPILATION_CACHE_DIR": str(theirs)},
        {"before": f"jax.config.update('jax_compilation_cache_dir', {str(theirs)!r})"},
    ):
        done = _compile(tmp_path / "ours", **choice)
        assert done.stdout.split()[:2] == [str(theirs)] * 2
        assert not (tmp_path / "ours").exists()
        assert list(theirs.rglob("by_reliability-*"))


def test_without_a_cache_nothing_is_written(tmp_path):
    done = _compile(tmp_path / "ours", JAX_ENABLE_COMPILATION_CACHE="0")
    assert done.stdout.split()[:2] == ["None", "None"]
    assert not (tmp_path / "ours").exists()
    _compile(tmp_path / "ours", **{programs.KEEP_ENV: "0"})
    assert not list((tmp_path / "ours").rglob("by_reliability-*"))
