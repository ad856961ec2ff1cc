"""Reliability: faulty streams, killed processes, damaged files, long runs.

  python benchmarks/reliability.py [--tables faults,kills,files,soak] [--data_root DIR]
      [--docs docs/reliability.md]

`faults_real` and `faults_synthetic`: SLAM on streams with faults. `kills`: SIGKILL at any moment
of mapping, SLAM and pre-training. `files`: mutated files of every kind. `soak`: a long run.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import fault_runs
import soak_run
from absl import flags
from fuzzing import fuzz
from kitchen import SEQUENCE, SFM_POSES
from machine import stamp, use_cores
from markdown import asked, publish, table

from ace_jax import errors
from ace_jax.data.registry import open_sequence
from ace_jax.runtime import enable_compilation_cache
from ace_jax.synthetic.replay import ReplaySource, to_and_fro

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from data_formats import WRITERS
from file_fuzz import USES

_TABLES = flags.DEFINE_list("tables", ["faults_real", "faults_synthetic"], "which tables")
_DATA_ROOT = flags.DEFINE_string("data_root", "../shared/data", "folder with 7scenes/")
_WEIGHTS_DIR = flags.DEFINE_string("weights_dir", None, "folder with xfeat's weights")
_CORES = flags.DEFINE_integer("cores", 2, "processor cores to use", lower_bound=1)
_FRAMES = flags.DEFINE_integer("frames", 500, "of the recording, for the faults", lower_bound=200)
_FILES = flags.DEFINE_integer("files", 50_000, "how many mutated files to read")
_MINUTES = flags.DEFINE_float("minutes", 60.0, "after which no more files are mutated")
_KILLS = flags.DEFINE_integer("kills", 100, "how many SIGKILLs")
_SOAK = flags.DEFINE_integer("soak", 30_000, "frames of the long run")
_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose tables are replaced")


def _weights() -> str | None:
    beside = Path(_DATA_ROOT.value).parent / "weights"
    return _WEIGHTS_DIR.value or (str(beside) if beside.is_dir() else None)


def faults_real() -> str:
    """Faults of the stream of a real recording."""
    source = open_sequence(
        SEQUENCE,
        _DATA_ROOT.value,
        max_frames=_FRAMES.value,
        poses=str(Path(_DATA_ROOT.value) / SFM_POSES),
    )
    return table(fault_runs.HEADER, list(fault_runs.rows(source, _weights())))


def files() -> str:
    """Mutated files and recordings of every kind."""
    kinds = [*sorted(WRITERS), "archive", *USES]
    shared = Path(_DATA_ROOT.value).parent
    start = time.perf_counter()
    ends, problems = fuzz(
        _FILES.value,
        kinds,
        shared=shared if shared.is_dir() else None,
        seconds=60 * _MINUTES.value,
    )
    columns = ("read", "bad frames", "refused", "traceback")
    rows = [[kind, *(str(ends[kind, column]) for column in columns)] for kind in kinds]
    rows.append(["all", *(str(sum(ends[k, c] for k in kinds)) for c in columns)])
    for problem in problems[:40]:
        print(problem)
    return (
        f"{table(['kind', *columns], rows)}\n\n{sum(ends.values())} mutated files and recordings, "
        f"{time.perf_counter() - start:.0f} s; problems (tracebacks, hangs, crashes, more than "
        f"1 GiB, files written): {len(problems)}."
    )


def kills() -> str:
    """SIGKILL at random moments."""
    import kill_runs  # imports the tests' toy worlds

    return table(kill_runs.HEADER, list(kill_runs.rows(_KILLS.value)))


def faults_synthetic() -> str:
    """The same in a rendered room, with people who walk through it."""
    source = open_sequence("synthetic/room0", _DATA_ROOT.value)
    people = {"people walk, 40 %": open_sequence("synthetic/room0-movers40", _DATA_ROOT.value)}
    return table(fault_runs.HEADER, list(fault_runs.rows(source, _weights(), people)))


def soak() -> str:
    """A long path, and loops over the real recording."""
    length = _SOAK.value
    every = max(length // 15, 500)
    source = open_sequence(f"synthetic/corridor-replay{length}", _DATA_ROOT.value)
    samples = soak_run.soak(source, _weights(), every)
    text = f"synthetic/corridor, to and fro, {length} frames:\n\n"
    text += f"{table(soak_run.HEADER, [s.cells() for s in samples])}\n\n{soak_run.verdict(samples)}"
    kitchen = open_sequence(SEQUENCE, _DATA_ROOT.value)
    count = length // 3
    loops = ReplaySource(kitchen, to_and_fro(len(kitchen), count), "redkitchen, to and fro")
    samples = soak_run.soak(loops, _weights(), every)
    text += f"\n\nredkitchen, to and fro, {count} frames:\n\n"
    return text + (
        f"{table(soak_run.HEADER, [s.cells() for s in samples])}\n\n{soak_run.verdict(samples)}"
    )


TABLES: dict[str, Callable[[], str]] = {
    "files": files,
    "kills": kills,
    "soak": soak,
    "faults_real": faults_real,
    "faults_synthetic": faults_synthetic,
}


def main(_: Sequence[str]) -> None:
    """Makes the tables."""
    makers = asked(TABLES, _TABLES.value)
    use_cores(_CORES.value)
    enable_compilation_cache()
    where = stamp()
    for name, make in zip(_TABLES.value, makers, strict=True):
        publish(name, f"{make()}\n\n({where})", _DOCS.value)


if __name__ == "__main__":
    errors.run(main)
