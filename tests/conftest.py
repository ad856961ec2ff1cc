"""What all tests share: real recordings, a cache of compiled programs, stated precisions."""

import gc
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import pytest
from products import refuse_unstated
from repository import REPO

from ace_jax import programs, runtime

# Most of the suite's time is compilation, and most programs do not change between two runs. XLA
# compiles tests' programs as it does kept ones, see `programs`; it aborts where a version of it
# does not know a flag.
if tuple(map(int, jax.lib.__version__.split(".")[:2])) < (0, 11):
    os.environ.setdefault(
        "XLA_FLAGS",
        "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
    )
runtime.enable_compilation_cache()
# LLVM without optimization compiles up to four times faster, and most programs run a few times on
# small arrays; files that are marked `optimized` have them compiled as users do. Processes that
# tests start inherit it.
QUICK_ENV = "JAX_DISABLE_MOST_OPTIMIZATIONS"
QUICK = os.environ.setdefault(QUICK_ENV, "1") == "1"
jax.config.update("jax_disable_most_optimizations", QUICK)
# Programs that say from which lines their operations come take longer to write down.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
jax.config.update(
    "jax_traceback_in_locations_limit", int(os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"])
)
# Tracing makes a great many objects that stay; looking through them again and again takes time.
gc.set_threshold(50_000, 20, 50)
# Tests replace code and constants while they run, which only JAX's own cache takes notice of.
os.environ[programs.KEEP_ENV] = "0"
refuse_unstated()
# Tests have the weights that the machine has; those of downloads fetch from this machine alone.
os.environ["ACE_JAX_OFFLINE"] = "1"


MOST_PROCESSES = 4  # each takes up to 3 GB


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite, if no path, number of processes or debugger is asked for, is shared."""
    given = vars(config.option)
    if (
        config.args_source is pytest.Config.ArgsSource.TESTPATHS
        and given.get("numprocesses", 1) is None  # pytest-xdist is there, and this is no worker
        and not hasattr(config, "workerinput")
        and not (given["usepdb"] or given["collectonly"] or given["keyword"])
    ):
        config.option.numprocesses = min(os.cpu_count() or 1, MOST_PROCESSES)
        config.option.dist = "loadfile"


# What no machine of a CI has: real recordings and weights, ROS 2; and what is no test there, such
# as the method `test_session` of TensorFlow's test case.
MAY_BE_SKIPPED = (
    r"no shared data|no xfeat.onnx|no /\S+$|ROS 2 is not installed|the host compares|Not a test\.$"
)


def unexpected_skips(reasons: Iterable[str]) -> list[str]:
    """The reasons for which a test must not be skipped where everything is installed."""
    return sorted({reason for reason in reasons if not re.search(MAY_BE_SKIPPED, reason)})


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With ACE_JAX_NO_SKIPS the tests fail if one was skipped that need not be."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("ACE_JAX_NO_SKIPS"):
        return
    skipped = (report.longrepr for report in reporter.stats.get("skipped", []))
    wrong = unexpected_skips(why[2] if isinstance(why, tuple) else str(why) for why in skipped)
    for reason in wrong:
        reporter.write_line(f"must not be skipped: {reason}", red=True)
    if wrong and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real recordings, weights and oracle values; `ACE_JAX_SHARED`, default `../shared`."""
    folder = Path(os.environ.get("ACE_JAX_SHARED") or REPO.parent / "shared").resolve()
    if not (folder / "golden").is_dir():
        pytest.skip(f"no shared data in {folder} (set ACE_JAX_SHARED)")
    return folder


@pytest.fixture
def world_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """The features of `mapping_world` are known by their name."""
    from mapping_world import register

    register(monkeypatch)


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of SLAM draw no trajectory and write no report: most of the time of a short one."""
    from ace_jax.slam.reporting import outputs, results

    monkeypatch.setattr(outputs, "plot_trajectory", lambda *_, **__: None)
    monkeypatch.setattr(results, "write_report", lambda *_: None)


@pytest.fixture(scope="module", autouse=True)
def _optimized(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compiles the programs of a file with `pytestmark = pytest.mark.optimized` as users do."""
    if request.node.get_closest_marker("optimized") is None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(QUICK_ENV, "0")
        jax.config.update("jax_disable_most_optimizations", False)
        yield
        jax.config.update("jax_disable_most_optimizations", QUICK)


# Linux gives a process 65,530 memory maps, of which XLA takes about six for each program, and
# aborts without more. All tests together compile more programs than that.
MOST_MEMORY_MAPS = 20_000


@pytest.fixture(scope="module", autouse=True)
def _bounded_memory_maps() -> Iterator[None]:
    """Forgets compiled programs after a file of tests, if there are many."""
    yield
    maps = Path("/proc/self/maps")
    if maps.is_file() and maps.read_bytes().count(b"\n") > MOST_MEMORY_MAPS:
        jax.clear_caches()
        gc.collect()
