"""SLAM's tables: accuracy, heads and features, speed, installation.

  python benchmarks/slam.py [--tables accuracy,heads,speed,install] [--data_root DIR] [--quick]

Every number comes from `python -m ace_jax.slam`, run as a user runs it, one process a row and seed,
on `--cores` cores; the tables are printed as Markdown and, with `--docs docs/slam.md`, put into
that file's `<!-- table: NAME -->` blocks. A run that fails, such as for a recording that is not
there, says why in its row.

All tables with three seeds are 45 runs and an installation; `--quick` takes one seed and 60 frames
and says nothing about accuracy.

Protocol: constants were chosen on redkitchen 0-499 and the synthetic rooms, so redkitchen 0-799 is
partly and TUM entirely unseen. ATE is SE(3)-aligned and never scaled; a figure over several seeds
is `median (least-largest)`; a target is met if the worst seed meets it. Times are those of
`metrics.json`: every frame after the second, waiting for the decoder included.
"""

import dataclasses
import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags

from ace_jax import errors
from ace_jax.data.registry import open_sequence
from ace_jax.evaluation.files import read_trajectory
from ace_jax.evaluation.trajectory import Trajectory, compare

REPO = Path(__file__).resolve().parent.parent
QUICK_FRAMES = 60
SFM_POSES = "7scenes/redkitchen/seq-01-sfm-pseudo-gt.txt"
HEADS = ("landmark_attention", "tri_mlp", "homogeneous_mlp")
FEATURES = ("xfeat", "sift")

_TABLES = flags.DEFINE_list("tables", ["accuracy", "heads", "speed", "install"], "which tables")
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
    target: Target | None = None

    @property
    def max_frames(self) -> int | None:
        """`--max_frames`."""
        if _QUICK.value:
            return min(self.frames or QUICK_FRAMES, QUICK_FRAMES)
        return self.frames

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
        return arguments


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
        row = self.row
        source = open_sequence(
            row.sequence, _DATA_ROOT.value, stride=row.stride, max_frames=row.max_frames
        )
        truth = Trajectory(source.timestamps(), source.poses())
        errors_of = [
            compare(read_trajectory(folder / "trajectory.tum", 30.0), truth)
            for folder in self.folders
        ]
        return [float(np.sqrt(np.mean(e.ate_trans_m**2))) for e in errors_of]


def _accuracy_rows() -> list[Row]:
    rooms = [
        Row(f"{room}{suffix}", f"synthetic/{room}{suffix}", target=Target(bound))
        for suffix, bound in (("", 1.0), ("-noisy", 2.0))
        for room in ("room0", "room1", "room2")
    ]
    kitchen = [
        Row(
            f"redkitchen 0-799{', every third frame' if stride > 1 else ''}",
            "7scenes/redkitchen/seq-01",
            frames=-(-800 // stride),
            stride=stride,
            poses=SFM_POSES,
            other="KinectFusion",
            target=Target(1.0, 1.2),
        )
        for stride in (1, 3)
    ]
    rpy = Row("TUM fr1_rpy, first 4 s", "tum/freiburg1_rpy", target=Target(3.5, coverage=0.98))
    return [*rooms, *kitchen, rpy]


def _head_rows() -> list[Row]:
    return [
        Row(
            f"{head}, {features}",
            "7scenes/redkitchen/seq-01",
            frames=300,
            poses=SFM_POSES,
            head=head,
            features=features,
        )
        for head in HEADS
        for features in FEATURES
    ]


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
                _say(f"{row.label}, seed {seed}")
                failure = _slam(arguments, folder / "log.txt")
                if failure:
                    runs.failure = failure
                    _say(f"  {failure}")
                    return runs
                (folder / "arguments.json").write_text(json.dumps(arguments))
            runs.folders.append(folder)
            runs.metrics.append(_read_json(folder / "metrics.json"))
        return runs


def _slam(arguments: Sequence[str], log: Path) -> str | None:
    """Runs the command; what went wrong, if anything."""
    with open(log, "w") as file:
        done = subprocess.run(
            [sys.executable, "-m", "ace_jax.slam", *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(REPO)},
        )
    if done.returncode == 0:
        return None
    lines = log.read_text().splitlines()
    told = [line for line in lines if re.match(r"error: |[\w.]*(Error|Exception)\b", line)]
    return f"exit code {done.returncode}, {(told or lines or ['no message'])[-1]}"


def _read_json(path: Path):
    return json.loads(path.read_text()) if path.is_file() else None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def figures(values: Sequence[float], digits: int = 2, scale: float = 1.0) -> str:
    """`median (least-largest)`, or the value where all agree."""
    if not values:
        return "-"
    scaled = [scale * value for value in values]
    median, low, high = (f"{x:.{digits}f}" for x in (np.median(scaled), min(scaled), max(scaled)))
    return median if low == high else f"{median} ({low}-{high})"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _table(header: Sequence[str], rows: list[Row], run: Runner, cells: Callable) -> str:
    """A table of rows; failed ones say why."""
    lines = []
    for row in rows:
        runs = run(row)
        if runs.failure:
            lines.append([row.label, f"failed: {runs.failure}", *[""] * (len(header) - 2)])
        else:
            lines.append([row.label, *cells(runs)])
    return markdown(header, lines)


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
            str(row.target),
            "-" if _QUICK.value else "yes" if row.target.met(runs) else "**no**",
        ]

    header = ["recording", "frames", "coverage %", "ATE RMSE cm", "live", "max"]
    header += ["against the other reference", "target", "met"]
    table = _table(header, _accuracy_rows(), run, cells)
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
    return _table(header, _head_rows(), run, cells)


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
    overall = _table([*header, "compiled after frame 2"], rows, run, cells)
    names = sorted({s for row in rows for m in run(row).metrics for s in m["stage_ms"]})

    def stage_cells(runs: Runs) -> list[str]:
        return [
            " / ".join(figures(runs.stage(name, p), 1) for p in ("p50", "p95")) for name in names
        ]

    stages = _table(["recording, ms p50 / p95", *names], rows, run, stage_cells)
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
        flags_of_run = [f"--max_frames={QUICK_FRAMES}"] if _QUICK.value else []
        steps = [
            ("git clone", ["git", "clone", "--quiet", str(REPO), str(clone)], folder),
            ("python -m venv", [sys.executable, "-m", "venv", str(folder / "venv")], folder),
            ("pip install .", [str(python), "-m", "pip", "install", "--quiet", "."], clone),
            ("python -m ace_jax.slam", [str(python), "-m", "ace_jax.slam", *flags_of_run], clone),
        ]
        total = 0.0
        for name, command, where in steps:
            _say(name)
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
    return markdown(["step", "seconds"], lines)


TABLES: dict[str, Callable[[Runner], str]] = {
    "accuracy": accuracy,
    "heads": heads,
    "speed": speed,
    "install": install,
}


def machine(cores: int) -> str:
    """What the numbers were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file() and (found := re.search(r"model name\s*: (.*)", info.read_text())):
        cpu = found[1]
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=REPO, capture_output=True, text=True
    ).stdout.strip()
    seeds = 1 if _QUICK.value else _SEEDS.value
    return (
        f"{datetime.date.today()}, revision {revision or 'unknown'}, {cores} cores of {cpu}, "
        f"load {os.getloadavg()[0]:.1f} at the start; Python {platform.python_version()}, "
        f"JAX {jax.__version__}; {seeds} seed{'s' if seeds > 1 else ''}"
        + (", quick: NOT a measurement" if _QUICK.value else "")
    )


def put_into(path: Path, name: str, table: str) -> None:
    """Replaces the block between `<!-- table: NAME -->` and `<!-- end table -->`.

    Raises:
        UserError: the file has no such block.
    """
    pattern = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end table -->)", re.DOTALL)
    text, count = pattern.subn(lambda m: f"{m[1]}\n{table}\n\n{m[2]}", path.read_text())
    if count != 1:
        raise errors.UserError(f"{path}: has {count} blocks '<!-- table: {name} -->', not one")
    path.write_text(text)


def main(_: Sequence[str]) -> None:
    """Makes the tables."""
    unknown = [name for name in _TABLES.value if name not in TABLES]
    if unknown:
        raise errors.UserError(f"no table {unknown[0]!r}; there are {', '.join(TABLES)}")
    cores = _CORES.value
    if hasattr(os, "sched_setaffinity"):  # runs inherit it
        chosen = sorted(os.sched_getaffinity(0))[:cores]
        os.sched_setaffinity(0, chosen)
        cores = len(chosen)
    heading = machine(cores)
    run = Runner(Path(_OUT.value), 1 if _QUICK.value else _SEEDS.value)
    for name in _TABLES.value:
        table = f"{TABLES[name](run)}\n\n{heading}."
        print(f"\n## {name}\n\n{table}", flush=True)
        if _DOCS.value:
            put_into(Path(_DOCS.value), name, table)


if __name__ == "__main__":
    errors.run(main)
