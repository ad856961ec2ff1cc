"""SLAM's tables: accuracy, heads and features, speed, installation.

  python benchmarks/slam.py [--tables accuracy,heads,speed,install] [--data_root DIR] [--quick]

Every number comes from `python -m ace_jax.slam`, run as a user runs it, one process a row and seed,
on `--cores` cores; the tables are printed as Markdown and, with `--docs docs/slam-figures.md`, put
into that file's `<!-- table: NAME -->` blocks. A run that fails, such as for a recording that is
not there, says why in its row.

All tables with three seeds are 54 runs and an installation; `--quick` takes one seed and 60 frames
and says nothing about accuracy. Long paths and real time are in `slam_stress.py`.

Protocol: constants were chosen on redkitchen 0-499 and the synthetic rooms, so redkitchen 0-799 is
partly and TUM entirely unseen. ATE is SE(3)-aligned and never scaled; a figure over several seeds
is `median (least-largest)`; a target is met if the worst seed meets it. Times are those of
`metrics.json`: every frame after the second, waiting for the decoder included.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags
from kitchen import SEQUENCE, SFM_POSES
from machine import REPO
from markdown import table
from slam_runs import (
    QUICK_FRAMES,
    Row,
    Runner,
    Runs,
    Target,
    figures,
    make_tables,
    quick,
    rows_table,
    say,
)

from ace_jax import errors

HEADS = ("landmark_attention", "tri_mlp", "homogeneous_mlp")
FEATURES = ("blobs", "xfeat_blobs", "sift")

_TABLES = flags.DEFINE_list("tables", ["accuracy", "heads", "speed", "install"], "which tables")


def _accuracy_rows() -> list[Row]:
    rooms = [
        Row(f"{room}{suffix}", f"synthetic/{room}{suffix}", target=Target(bound))
        for suffix, bound in (("", 0.3), ("-noisy", 0.8))
        for room in ("room0", "room1", "room2")
    ]
    bent = [Row(f"{room}-bent", f"synthetic/{room}-bent") for room in ("room0", "room1", "room2")]
    kitchen = [
        Row(
            f"redkitchen 0-799{', every third frame' if stride > 1 else ''}",
            SEQUENCE,
            frames=-(-800 // stride),
            stride=stride,
            poses=SFM_POSES,
            other="KinectFusion",
            target=Target(0.55, 0.7) if stride == 1 else Target(0.6, 0.75),
        )
        for stride in (1, 3)
    ]
    rpy = Row("TUM fr1_rpy, first 4 s", "tum/freiburg1_rpy", target=Target(2.2, coverage=0.98))
    return [*rooms, *bent, *kitchen, rpy]


def _head_rows() -> list[Row]:
    return [
        Row(
            f"{head}, {features}",
            SEQUENCE,
            frames=300,
            poses=SFM_POSES,
            head=head,
            features=features,
        )
        for head in HEADS
        for features in FEATURES
    ]


def accuracy(run: Runner) -> str:
    """Coverage and errors, against the other ground truth too where there are two."""

    def cells(runs: Runs) -> list[str]:
        row = runs.row
        return [
            str(runs.metrics[0]["frames"]),
            figures(runs.values("coverage"), 1, 100),
            figures(runs.values("ate_rmse_m"), 2, 100),
            figures(runs.values("ate_live_rmse_m"), 2, 100),
            figures(runs.values("ate_max_m"), 2, 100),
            f"{figures(runs.other_ate(), 2, 100)} ({row.other})" if row.other else "",
            str(row.target or ""),
            "-" if quick() or not row.target else "yes" if row.target.met(runs) else "**no**",
        ]

    header = ["recording", "frames", "coverage %", "ATE RMSE cm", "live", "max"]
    header += ["against the other reference", "target", "met"]
    table = rows_table(header, _accuracy_rows(), run, cells)
    settings = {(m["head"], m["features"]) for row in _accuracy_rows() for m in run(row).metrics}
    return f"{table}\n\nDefault settings: {' or '.join(', '.join(s) for s in sorted(settings))}."


def heads(run: Runner) -> str:
    """Kinds of map and features on the same frames."""

    def cells(runs: Runs) -> list[str]:
        return [
            figures(runs.values("coverage"), 1, 100),
            figures(runs.values("ate_rmse_m"), 2, 100),
            figures(runs.values("ate_live_rmse_m"), 2, 100),
            figures(runs.values("ms_p50"), 1),
            figures(runs.values("ms_p95"), 1),
            figures(runs.values("map_bytes"), 2, 1e-6),
        ]

    header = ["head, features", "coverage %", "ATE RMSE cm", "live", "ms p50", "ms p95", "map MB"]
    return rows_table(header, _head_rows(), run, cells)


def speed(run: Runner) -> str:
    """Time per frame and stage, memory and map of the default settings."""
    rows = [
        row
        for row in _accuracy_rows()
        if row.label in ("room0", "room0-noisy") or "room" not in row.label
    ]

    def cells(runs: Runs) -> list[str]:
        return [
            figures(runs.values("fps"), 1),
            figures(runs.values("ms_p50"), 1),
            figures(runs.values("ms_p95"), 1),
            figures(runs.values("peak_memory_mb"), 0),
            figures(runs.values("map_bytes"), 2, 1e-6),
            figures(runs.values("recompilations"), 0),
        ]

    header = ["recording", "frames/s", "ms p50", "ms p95", "memory MiB", "map MB"]
    overall = rows_table([*header, "compiled after frame 2"], rows, run, cells)
    names = sorted({s for row in rows for m in run(row).metrics for s in m["stage_ms"]})

    def stage_cells(runs: Runs) -> list[str]:
        return [
            " / ".join(figures(runs.stage(name, p), 1) for p in ("p50", "p95")) for name in names
        ]

    stages = rows_table(["recording, ms p50 / p95", *names], rows, run, stage_cells)
    return f"{overall}\n\n{stages}\n\nA stage's figures are over the frames in which it ran."


def install(_: Runner) -> str:
    """Seconds from a clean Python to the finished default run; nothing cached."""
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clone, python = folder / "clone", folder / "venv/bin/python"
        environment = {
            key: value for key, value in os.environ.items() if key not in ("PYTHONPATH",)
        }
        environment |= {"ACE_JAX_CACHE": str(folder / "cache"), "PIP_NO_CACHE_DIR": "1"}
        environment |= {"XDG_CACHE_HOME": str(folder / "xdg")}
        flags_of_run = [f"--max_frames={QUICK_FRAMES}"] if quick() else []
        steps = [
            ("git clone", ["git", "clone", "--quiet", str(REPO), str(clone)], folder),
            ("python -m venv", [sys.executable, "-m", "venv", str(folder / "venv")], folder),
            ("pip install .", [str(python), "-m", "pip", "install", "--quiet", "."], clone),
            ("python -m ace_jax.slam", [str(python), "-m", "ace_jax.slam", *flags_of_run], clone),
        ]
        total = 0.0
        for name, command, where in steps:
            say(name)
            start = time.perf_counter()
            done = subprocess.run(
                command, cwd=where, env=environment, capture_output=True, text=True
            )
            seconds = time.perf_counter() - start
            total += seconds
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
                return f"`{name}` failed: {reason}"
            lines.append([f"`{name}`", f"{seconds:.0f}"])
    lines.append(["together", f"{total:.0f}"])
    return table(["step", "seconds"], lines)


TABLES: dict[str, Callable[[Runner], str]] = {
    "accuracy": accuracy,
    "heads": heads,
    "speed": speed,
    "install": install,
}


def main(_: Sequence[str]) -> None:
    """Makes the tables."""
    make_tables(TABLES, _TABLES.value)


if __name__ == "__main__":
    errors.run(main)
