"""Compiled programs that are kept whole: found again, never wrong, never in the way."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from repository import REPO

from ace_jax import executables, programs, runtime
from ace_jax.geometry.camera import Camera
from ace_jax.programs import in_threads, program

X = np.arange(5.0, dtype=np.float32)
_EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "traced",
    "/jax/core/compile/backend_compile_duration": "compiled",
}
_seen: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, *_, **__: _seen.append(_EVENTS[name]) if name in _EVENTS else None
)


def wave(x, factor=2.0, *, power=1):
    return {"wave": jnp.sin(x) * factor**power, "first": x[0]}


def seen_by(camera, x):
    return camera.pixels(x, x)


@pytest.fixture
def folder(monkeypatch, tmp_path) -> Path:
    """Where executables are kept; tests otherwise keep none."""
    monkeypatch.setattr(programs, "_PACKAGES", ("ace_jax", wave.__module__))
    monkeypatch.setattr(programs, "store", lambda: tmp_path / "kept")
    return tmp_path / "kept"


def fresh(function=wave, **options):
    """As in another process: nothing is known but what is on disk."""
    jax.clear_caches()
    _seen.clear()
    return program(function, **options)


def kept(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*") if path.is_file()]


def test_what_the_user_says_of_fusions_stays(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=true")
    assert executables._options.__wrapped__() == {}


def test_a_compiler_without_the_flag_is_told_nothing(monkeypatch):
    """XLA refuses what it does not know."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setattr(executables, "_WITHOUT_FUSIONS", {"xla_no_such_flag": False})
    assert executables._options.__wrapped__() == {}


def test_a_second_process_neither_traces_nor_compiles(folder):
    first = fresh(static_argnames="power")(X, 3.0, power=2)
    assert {"traced", "compiled"} <= set(_seen)
    second = fresh(static_argnames="power")(X, 3.0, power=2)
    assert _seen == []
    np.testing.assert_array_equal(first["wave"], second["wave"])
    np.testing.assert_allclose(second["wave"], np.sin(X) * 9.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("args", "options"),
    [
        ((X[:4],), {}),
        ((X.astype(np.int32),), {}),
        ((X, 3), {}),
        ((X, np.float32(3.0)), {}),
        ((X,), {"power": 3}),
        ((X, 2.0), {}),
    ],
)
def test_another_call_is_another_program(folder, args, options):
    fresh(static_argnames="power")(X)
    found = fresh(static_argnames="power")(*args, **options)
    expected = jax.jit(wave, static_argnames="power")(*args, **options)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
        assert found[name].dtype == expected[name].dtype
        assert found[name].weak_type == expected[name].weak_type
    assert len(kept(folder)) == 2


def test_values_are_not_part_of_a_program(folder):
    wider = fresh()
    for factor in (2.0, 5.0):
        np.testing.assert_allclose(wider(X, factor)["wave"], np.sin(X) * factor, rtol=1e-6)
    camera = Camera(2.0, 3.0, 4.0, 5.0, 64, 48)
    pixels = fresh(seen_by)
    for cx in (4.0, 7.0):
        np.testing.assert_allclose(pixels(camera.replace(cx=cx), X)[0], 2.0 * X + cx)
    assert len(kept(folder)) == 2
    pixels(camera.replace(width=65), X)  # the size is static
    assert pixels._cache_size() == 2


def test_other_code_finds_what_it_compiles_to_all_the_same(folder, monkeypatch):
    fresh()(X)
    monkeypatch.setattr(programs, "_code", lambda: "code-of-tomorrow")
    fresh()(X)
    assert "traced" in _seen
    assert "compiled" not in _seen
    fresh()(X)
    assert _seen == []


def test_old_revisions_are_forgotten(folder, monkeypatch):
    for day in range(8):
        monkeypatch.setattr(programs, "_code", lambda day=day: f"code-{day}")
        fresh()(X)
    assert len(list(folder.glob("code-*"))) <= executables.KEPT_REVISIONS
    assert (folder / "code-7").is_dir()


def test_what_jax_has_kept_is_kept_whole_too(folder, monkeypatch, tmp_path):
    """XLA cannot write again what it has loaded."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path / "jax"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    compilation_cache.reset_cache()
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        jax.clear_caches()
        jax.jit(wave)(X)
        assert list((tmp_path / "jax").glob("jit_wave-*"))
        fresh()(X)
        assert len(kept(folder)) == 1
        np.testing.assert_allclose(fresh()(X)["wave"], np.sin(X) * 2.0, rtol=1e-6)
        assert _seen == []
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


@pytest.mark.parametrize("damage", [b"", b"not a program", None])
def test_a_damaged_file_is_compiled_again(folder, damage):
    fresh()(X)
    (file,) = kept(folder)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if damage is None else damage)
    np.testing.assert_allclose(fresh()(X)["wave"], np.sin(X) * 2.0, rtol=1e-6)


def test_a_folder_that_cannot_be_written_costs_a_line_and_no_answer(
    monkeypatch, tmp_path, capfd, caplog
):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(programs, "_PACKAGES", ("ace_jax", wave.__module__))
    monkeypatch.setattr(programs, "store", lambda: tmp_path / "file" / "kept")
    for _ in range(3):
        np.testing.assert_allclose(fresh()(X)["wave"], np.sin(X) * 2.0, rtol=1e-6)
    told = [r for r in caplog.records if "compiled programs are not kept" in r.getMessage()]
    assert len(told) + capfd.readouterr().err.count("compiled programs are not kept") == 1


def test_it_can_be_switched_off(monkeypatch):
    monkeypatch.setenv(programs.KEEP_ENV, "0")
    assert programs.store() is None
    np.testing.assert_allclose(fresh()(X)["wave"], np.sin(X) * 2.0, rtol=1e-6)
    monkeypatch.delenv(programs.KEEP_ENV)
    assert programs.store() is not None
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        assert programs.store() is None
    finally:
        jax.config.update("jax_enable_compilation_cache", True)


def test_functions_that_depend_on_more_than_their_arguments_are_not_kept(folder, monkeypatch):
    for factor in (2.0, 3.0):
        scaled = fresh(lambda x, factor=factor: x * factor)
        np.testing.assert_allclose(scaled(X), X * factor)
    monkeypatch.setattr(programs, "_PACKAGES", ("ace_jax",))
    fresh()(X)  # code that is not known, as another package's
    with_function = fresh(lambda x, of: of(x), static_argnames="of")
    np.testing.assert_allclose(with_function(X, jnp.sin), np.sin(X), rtol=1e-6)
    assert kept(folder) == []


def test_it_is_a_function_of_jax(folder):
    whole = fresh()
    np.testing.assert_allclose(jax.jit(lambda x: whole(x)["wave"])(X), whole(X)["wave"])
    np.testing.assert_allclose(
        jax.vmap(lambda x: whole(x)["wave"])(X[None]), whole(X)["wave"][None], rtol=1e-6
    )
    slope = jax.grad(lambda x: whole(x)["wave"].sum())(X)
    np.testing.assert_allclose(slope, 2.0 * np.cos(X), rtol=1e-6)
    with jax.enable_x64(True):
        assert whole(X.astype(np.float64))["wave"].dtype == np.float64
    with jax.disable_jit():
        np.testing.assert_allclose(whole(X)["wave"], np.sin(X) * 2.0, rtol=1e-6)
    assert whole.__name__ == "wave"


def test_donated_arguments(folder):
    add = fresh(lambda x, y: x + y, donate_argnums=0)
    state = jnp.asarray(X)
    np.testing.assert_allclose(add(state, X), 2 * X)
    assert state.is_deleted()


def test_jobs_run_in_threads():
    assert in_threads([lambda: 1, lambda: 2]) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        in_threads([lambda: 1, lambda: 1 / 0])


def test_the_library_compiles_in_one_way():
    """Whoever writes `jax.jit` forgets the cache; the exceptions hold no program of a command."""
    allowed = {
        "executables.py",
        "programs.py",
        "export/artifact.py",  # traced and written, not run
        "export/standalone.py",  # works without this package
    }
    root = REPO / "ace_jax"
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(r"(?<!`)\bjax\.jit\b(?!`)", path.read_text(encoding="utf-8"))
    }
    # Pre-training switches the cache on by itself, and places arrays on several devices.
    training = "pretrain/", "encoder/"
    assert {name for name in found if not name.startswith(training)} <= allowed


def test_an_executable_that_fails_is_not_used(folder, monkeypatch):
    fresh()(X)

    def fails(*_, **__):
        raise jax.errors.JaxRuntimeError("NOT_FOUND: Function not found")

    monkeypatch.setattr(executables, "load", lambda path: fails)
    again = fresh()
    for _ in range(2):
        np.testing.assert_allclose(again(X)["wave"], np.sin(X) * 2.0, rtol=1e-6)


_WITH_LAPACK = """
import sys, jax, numpy as np
traced = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, *_, **__: traced.append(name) if "trace" in name else None
)
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.depth_planes import fit_planes
from ace_jax.geometry.plane_registration import register
camera, pose = Camera(50.0, 50.0, 32.0, 24.0, 64, 48), np.eye(4, dtype=np.float32)[None]
planes = fit_planes(np.zeros((48, 64)), camera)
found = register(planes, planes[None], pose, camera, iterations=1)
print(np.asarray(found.success).tolist(), len(traced))
"""


def test_another_process_runs_what_calls_lapack(tmp_path):
    """Lowering gives XLA the addresses of LAPACK's functions; who only loads has to, too."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    env.pop(programs.KEEP_ENV, None)
    env[runtime.CACHE_ENV] = str(tmp_path)
    told = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", _WITH_LAPACK], env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        told.append(done.stdout.split())
    assert told[0][0] == told[1][0] == "[False]"
    assert int(told[0][1]) > 0
    assert int(told[1][1]) == 0
