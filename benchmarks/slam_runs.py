"""Runs of `python -m ace_jax.slam` for the benchmarks: rows, seeds, figures, where measured.

Every number comes from the command, run as a user runs it, one process a row and seed, on `--cores`
cores. A run that fails, such as for a recording that is not there, says why in its row.
"""

import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from absl import flags
from history_file import History, save
from machine import python, revision, stamp, use_cores
from markdown import asked, publish, table

from ace_jax import errors
from ace_jax.data.frame import FrameSource
from ace_jax.data.registry import open_sequence
from ace_jax.evaluation.files import read_trajectory
from ace_jax.evaluation.trajectory import NoOverlap, Trajectory, compare

QUICK_FRAMES = 60
FALSE_POSE = 0.1  # metres off after aligning the map that the pose is in

# Figures that are kept in benchmarks/history/: fields of metrics.json, and what they are times.
_HISTORY = {
    "ate_cm": ("ate_rmse_m", 100.0),
    "ate_live_cm": ("ate_live_rmse_m", 100.0),
    "coverage": ("coverage", 1.0),
    "fps": ("fps", 1.0),
    "map_mb": ("map_bytes", 1e-6),
}

_DATA_ROOT = flags.DEFINE_string("data_root", "../shared/data", "folder with 7scenes/, tum/, ...")
_WEIGHTS_DIR = flags.DEFINE_string(
    "weights_dir", None, "folder with xfeat's weights (default: DATA_ROOT/../weights if it exists)"
)
_SEEDS = flags.DEFINE_integer("seeds", 3, "runs per row", lower_bound=1)
_CORES = flags.DEFINE_integer("cores", 2, "processor cores that a run may use", lower_bound=1)
_QUICK = flags.DEFINE_bool("quick", False, f"one seed, {QUICK_FRAMES} frames: does it run?")
_OUT = flags.DEFINE_string("out", "runs/benchmarks/slam", "folder for the runs")
_REUSE = flags.DEFINE_bool("reuse", False, "take runs that are already in --out")
_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose tables are replaced")


@dataclasses.dataclass(frozen=True)
class Target:
    """What a row has to reach, in centimetres and as a share."""

    final_cm: float
    live_cm: float | None = None
    coverage: float = 1.0

    def __str__(self) -> str:
        live = "" if self.live_cm is None else f", live <= {self.live_cm}"
        return f"<= {self.final_cm}{live}, {100 * self.coverage:.0f} %"

    def met(self, runs: "Runs") -> bool:
        """Whether every seed reaches it."""
        return (
            min(runs.values("coverage")) >= self.coverage
            and max(runs.values("ate_rmse_m")) <= self.final_cm / 100
            and (self.live_cm is None or max(runs.values("ate_live_rmse_m")) <= self.live_cm / 100)
        )


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        label: of the recording.
        sequence: as for `--seq`.
        frames: `--max_frames`; None for all.
        stride: `--stride`.
        poses: file under the data root for `--poses`, or None for the recording's own.
        other: name of the recording's own ground truth, if it is to stand beside `poses`.
        head: `--head`, or None for the default.
        features: `--features`, or None for the default.
        extra: further flags.
        target: to be reached, if any.
    """

    label: str
    sequence: str
    frames: int | None = None
    stride: int = 1
    poses: str | None = None
    other: str | None = None
    head: str | None = None
    features: str | None = None
    extra: tuple[str, ...] = ()
    target: Target | None = None

    @property
    def max_frames(self) -> int | None:
        """`--max_frames`."""
        if _QUICK.value:
            return min(self.frames or QUICK_FRAMES, QUICK_FRAMES)
        return self.frames

    def open(self, with_poses: bool = False) -> FrameSource:
        """The run's frames, with the recording's own ground truth, or `with_poses`, those poses."""
        options = {"poses": str(data_root() / self.poses)} if with_poses and self.poses else {}
        return open_sequence(
            self.sequence, data_root(), stride=self.stride, max_frames=self.max_frames, **options
        )

    def arguments(self) -> list[str]:
        """Flags of the run, without seed and folder."""
        arguments = [f"--seq={self.sequence}", f"--data_root={_DATA_ROOT.value}"]
        if weights := _weights_dir():
            arguments.append(f"--weights_dir={weights}")
        if self.max_frames is not None:
            arguments.append(f"--max_frames={self.max_frames}")
        if self.stride != 1:
            arguments.append(f"--stride={self.stride}")
        if self.poses:
            arguments.append(f"--poses={Path(_DATA_ROOT.value) / self.poses}")
        if self.head:
            arguments.append(f"--head={self.head}")
        if self.features:
            arguments.append(f"--features={self.features}")
        return [*arguments, *self.extra]


@dataclasses.dataclass
class Runs:
    """The runs of one row, one per seed; `failure` is the line that a failed one ended with."""

    row: Row
    folders: list[Path]
    metrics: list[dict]
    failure: str | None = None

    def values(self, name: str) -> list[float]:
        """One metric of each run; infinite where it does not exist (nothing was tracked)."""
        return [float("inf") if m[name] is None else m[name] for m in self.metrics]

    def stage(self, stage: str, name: str) -> list[float]:
        """A percentile of a stage's milliseconds, of the runs that have the stage."""
        stages = [m["stage_ms"].get(stage) for m in self.metrics]
        return [s[name] for s in stages if s and s[name] is not None]

    def other_ate(self) -> list[float]:
        """ATE RMSE of the written trajectories against the recording's own ground truth."""
        source = self.row.open()
        truth = Trajectory(source.timestamps(), source.poses())
        errors_of = [
            compare(read_trajectory(folder / "trajectory.tum", 30.0), truth)
            for folder in self.folders
        ]
        return [e.ate_rmse_m for e in errors_of]


def quick() -> bool:
    """Whether this is `--quick`: does it run?"""
    return _QUICK.value


def data_root() -> Path:
    """`--data_root`."""
    return Path(_DATA_ROOT.value)


def _weights_dir() -> Path | None:
    if _WEIGHTS_DIR.value:
        return Path(_WEIGHTS_DIR.value)
    beside = Path(_DATA_ROOT.value).parent / "weights"
    return beside if beside.is_dir() else None


class Runner:
    """Runs rows, each seed at most once."""

    def __init__(self, out: Path, seeds: int):
        self.out = out
        self.seeds = seeds
        self._done: dict[tuple[str, ...], Runs] = {}

    def __call__(self, row: Row) -> Runs:
        """The runs of a row."""
        key = tuple(row.arguments())
        if key not in self._done:
            self._done[key] = self._run(row)
        return dataclasses.replace(self._done[key], row=row)

    def history(self) -> dict[str, list[float]]:
        """Figures of all rows that were run, for `compare.py`."""
        return {
            f"{runs.row.label} {name}": [scale * m[key] for m in runs.metrics if m[key] is not None]
            for runs in self._done.values()
            for name, (key, scale) in _HISTORY.items()
            if not runs.failure
        }

    def _run(self, row: Row) -> Runs:
        runs = Runs(row, [], [])
        name = re.sub(r"[^\w.-]+", "_", row.label + (f"-{row.max_frames}" if _QUICK.value else ""))
        for seed in range(self.seeds):
            folder = self.out / name / f"seed{seed}"
            arguments = [*row.arguments(), f"--seed={seed}", f"--out={folder}"]
            known = _read_json(folder / "arguments.json") == arguments
            if not (_REUSE.value and known and (folder / "metrics.json").is_file()):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                say(f"{row.label}, seed {seed}")
                failure = python(["-m", "ace_jax.slam", *arguments], folder / "log.txt")
                if failure:
                    runs.failure = failure
                    say(f"  {failure}")
                    return runs
                (folder / "arguments.json").write_text(json.dumps(arguments))
            runs.folders.append(folder)
            runs.metrics.append(_read_json(folder / "metrics.json"))
        return runs


def _read_json(path: Path):
    return json.loads(path.read_text()) if path.is_file() else None


def say(line: str) -> None:
    """Tells the user what is being done."""
    print(line, file=sys.stderr, flush=True)


def false_poses(runs: Runs, truth: Trajectory | None) -> list[float]:
    """Poses of each run, in any map, that are over 10 cm off after aligning their map."""
    if truth is None:
        return []
    counts = []
    for folder in runs.folders:
        wrong = 0
        for path in [folder / "trajectory.tum", *folder.glob("trajectory_map*.tum")]:
            try:
                found = compare(read_trajectory(path, 30.0), truth)
            except (NoOverlap, errors.UserError):  # a map of two frames
                continue
            wrong += int(np.sum(found.ate_trans_m > FALSE_POSE))
        counts.append(float(wrong))
    return counts


def figures(values: Sequence[float], digits: int = 2, scale: float = 1.0) -> str:
    """`median (least-largest)`, or the value where all agree."""
    if not values:
        return "-"
    scaled = [scale * value for value in values]
    median, low, high = (f"{x:.{digits}f}" for x in (np.median(scaled), min(scaled), max(scaled)))
    return median if low == high else f"{median} ({low}-{high})"


def rows_table(header: Sequence[str], rows: list[Row], run: Runner, cells: Callable) -> str:
    """A table of rows; failed ones say why."""
    lines = []
    for row in rows:
        runs = run(row)
        if runs.failure:
            lines.append([row.label, f"failed: {runs.failure}", *[""] * (len(header) - 2)])
        else:
            lines.append([row.label, *cells(runs)])
    return table(header, lines)


def make_tables(tables: Mapping[str, Callable[[Runner], str]], chosen: Sequence[str]) -> None:
    """Prints tables and puts them into the document.

    Raises:
        UserError: there is no such table.
    """
    makers = asked(tables, chosen)
    use_cores(_CORES.value)
    begun = revision()  # work may be committed while the tables are made
    seeds = 1 if _QUICK.value else _SEEDS.value
    quick = ", quick: NOT a measurement" if _QUICK.value else ""
    where = f"{stamp()}; {seeds} seed{'s' if seeds > 1 else ''}{quick}."
    run = Runner(Path(_OUT.value), seeds)
    for name, make in zip(chosen, makers, strict=True):
        publish(name, f"{make(run)}\n\n{where}", _DOCS.value)
    if not _QUICK.value:
        save(History(Path(sys.argv[0]).stem, begun, where, run.history()))
