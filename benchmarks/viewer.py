"""Overhead of the live view: SLAM with and without it, alternating in one process.

  python benchmarks/viewer.py --seq NAME --data_root DIR [--frames 150] [--rounds 3] [--docs FILE]

A round is a run without and a run with `--rerun FILE.rrd`, in alternating order; the table has the
medians over the rounds, and their ratio. Both kinds of run give the same trajectory.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from machine import stamp
from markdown import publish, table

from ace_jax import errors
from ace_jax.data.registry import open_sequence
from ace_jax.errors import UserError
from ace_jax.runtime import enable_compilation_cache
from ace_jax.slam.reporting.live_view import SlamView
from ace_jax.slam.run import SystemOptions, create_system, run
from ace_jax.viewer.live import LiveView

_SEQ = flags.DEFINE_string("seq", "synthetic/room0", "the recording")
_DATA_ROOT = flags.DEFINE_string("data_root", "data", "folder of recordings")
_FRAMES = flags.DEFINE_integer("frames", 150, "of the recording")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "pairs of runs")
_DOCS = flags.DEFINE_string("docs", None, "put the table into this file")


def main(_: Sequence[str]) -> None:
    """Measures and prints."""
    enable_compilation_cache()
    where = stamp()
    source = open_sequence(_SEQ.value, _DATA_ROOT.value, max_frames=_FRAMES.value)
    runs: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    trajectories = set()
    with tempfile.TemporaryDirectory() as folder:
        _one(source, Path(folder), False)  # compiles
        for i in range(_ROUNDS.value):
            for shown in (False, True) if i % 2 else (True, False):
                figures, trajectory = _one(source, Path(folder), shown)
                runs[shown].append(figures)
                trajectories.add(trajectory)
    if len(trajectories) > 1:
        raise UserError("the view changed the trajectory")
    rows = []
    for name in runs[False][0]:
        without, with_view = (
            statistics.median(figures[name] for figures in runs[shown]) for shown in (False, True)
        )
        ratio = f"{with_view / without:.2f}" if without else ""
        rows.append((name, f"{without:.1f}", f"{with_view:.1f}", ratio))
    text = table(("", "without", "with --rerun", "ratio"), rows)
    text += (
        f"\n\n{_SEQ.value}, {_FRAMES.value} frames, medians of {_ROUNDS.value} runs each, in "
        f"turns. {where}. The trajectories are equal."
    )
    publish("viewer", text, _DOCS.value)


def _one(source, folder: Path, shown: bool) -> tuple[dict[str, float], str]:
    """Figures of one run, and its trajectory."""
    system = create_system(source, SystemOptions())
    view = LiveView(str(folder / "x.rrd"), source.name) if shown else None
    used = time.process_time()
    result = run(source, system, folder, view=None if view is None else SlamView(view))
    used = time.process_time() - used
    dropped = 0
    if view is not None:
        view.close()
        dropped = view.dropped
    metrics = result.metrics
    figures = {
        "ms a frame, median": metrics["ms_p50"],
        "ms a frame, 95 %": metrics["ms_p95"],
        "ms a frame, mean": 1e3 / metrics["fps"],
        "core-ms a frame, the run's process": 1e3 * used / metrics["frames"],
        "frames not shown": dropped,
    }
    return figures, (folder / "trajectory_live.tum").read_text()


if __name__ == "__main__":
    errors.run(main)
