"""Absolute-pose solvers compared: `estimate_absolute_pose`, PoseLib, OpenCV, COLMAP.

  python benchmarks/absolute_pose.py [--parts accuracy,speed,batch,compile,real] [--cells REGEX]
      [--solvers REGEX] [--quick] [--out DIR] [--docs docs/solvers.md]

All solvers get the same random problems (`pose_problems.py`: points, outliers, noise, planar
scenes, narrow field of view) or the same SIFT matches of real images, the same threshold (4 px),
confidence (0.9999) and limit (20 000 minimal samples), and otherwise their defaults
(`pose_peers.py`).

- `accuracy`: success (error below 1 degree and 5 cm, points 3 m away) and median errors.
- `speed`: milliseconds for one problem, host arrays in, pose back on the host; the solvers take
  turns on each problem. Run it alone on the machine. Its errors count where `accuracy` has fewer.
- `batch`: 64 images at once against PoseLib in a Python loop.
- `compile`: seconds for the first call of a new process, without and with the cache on disk.
- `real`: frames of 7-Scenes redkitchen (`--data_root`) that are 20 and 80 frames apart.

Every measurement is a file under `--out`; parts, cells or solvers that a run does not ask for keep
theirs, and the tables are made from all of them (`--parts=` measures nothing). A solver stops a
cell after `--limit` seconds, but not before 20 problems (10 for the speed): the hardest cells take
some a second a problem.
Constants of the solver were chosen on problems of other seeds (`--seed`).
"""

import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from machine import stamp, use_cores
from markdown import asked, publish, table
from pose_peers import SOLVERS, ace_jax_depth, pose_lib, pose_lib_100
from pose_problems import HEIGHT, WIDTH, Cell, Problem, grid, real_problems

from ace_jax import errors
from ace_jax.geometry.absolute_pose import estimate_absolute_pose
from ace_jax.geometry.batch import over_images
from ace_jax.geometry.camera import Camera
from ace_jax.runtime import enable_compilation_cache

OURS = "ace_jax"
COMPARED = ("jax", "poselib", "pycolmap", "opencv-python-headless")
BATCH = 64
BATCH_CELLS = tuple(
    Cell("general", points, outliers, 1.0)
    for points, outliers in ((250, 60), (1000, 30), (1000, 60), (1000, 80), (4000, 60))
)
REAL = tuple((gap, ratio) for gap in (20, 80) for ratio in (0.8, 1.0))
MAX_DEGREES, MAX_CM = 1.0, 5.0
_ENOUGH = 40  # problems: with fewer, a difference of success or of medians is chance

_PARTS = flags.DEFINE_list("parts", ["accuracy", "speed", "batch", "compile", "real"], "which")
_CELLS = flags.DEFINE_string("cells", "", "only cells of the grid whose name has this (a regex)")
_SOLVERS = flags.DEFINE_string("solvers", "", "only solvers whose name has this (a regex)")
_PROBLEMS = flags.DEFINE_integer("problems", 200, "problems a cell", lower_bound=1)
_LIMIT = flags.DEFINE_float("limit", 10.0, "seconds for a solver in a cell")
_SEED = flags.DEFINE_integer("seed", 2026, "of the problems; constants were chosen on others")
_CORES = flags.DEFINE_integer("cores", 2, "processor cores to use", lower_bound=1)
_QUICK = flags.DEFINE_bool("quick", False, "10 problems a cell: does it run?")
_DATA_ROOT = flags.DEFINE_string("data_root", "../shared/data", "folder with 7scenes/")
_OUT = flags.DEFINE_string("out", "runs/benchmarks/absolute_pose", "folder for measurements")
_REUSE = flags.DEFINE_bool("reuse", False, "keep complete accuracies that are already in --out")
_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose tables are replaced")


def num_problems() -> int:
    """Problems a cell."""
    return 10 if _QUICK.value else _PROBLEMS.value


def chosen_cells() -> list[Cell]:
    """Cells of the grid that the flags ask for."""
    return [cell for cell in grid() if re.search(_CELLS.value, cell.name)]


def chosen_solvers() -> dict[str, Callable]:
    """Solvers that the flags ask for."""
    return {name: s for name, s in SOLVERS.items() if re.search(_SOLVERS.value, name)}


def store(part: str, name: str, solver: str, record: Any) -> None:
    """Keeps a measurement."""
    path = Path(_OUT.value) / part / name / f"{re.sub(r'[^a-zA-Z0-9]+', '_', solver)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record) + "\n")


def load(part: str, name: str, solver: str) -> Any | None:
    """A kept measurement, or None."""
    path = Path(_OUT.value) / part / name / f"{re.sub(r'[^a-zA-Z0-9]+', '_', solver)}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def measure_accuracy() -> None:
    """Errors of every solver in every cell."""
    for cell in chosen_cells():
        problems = [cell.problem(i, _SEED.value) for i in range(num_problems())]
        for name, prepare in chosen_solvers().items():
            kept = load("accuracy", cell.name, name) or []
            if _REUSE.value and len(kept) >= num_problems():
                continue
            record = []
            start = time.process_time()
            for index, problem in enumerate(problems):
                if index >= 20 and time.process_time() - start > _LIMIT.value:
                    break
                record.append(problem.error(prepare(problem, index)()))
            store("accuracy", cell.name, name, record)
        print(cell.name, flush=True)


def measure_speed() -> None:
    """Seconds of every solver in every cell."""
    solvers = chosen_solvers()
    for cell in chosen_cells():
        record: dict[str, list[float]] = {name: [] for name in solvers}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in solvers}
        for index in range(num_problems()):
            problem = cell.problem(index, _SEED.value)
            for name, prepare in solvers.items():
                if index >= 10 and sum(record[name]) > _LIMIT.value:
                    continue
                solve = prepare(problem, index)
                if index == 0:
                    solve()  # compiles, or loads a library
                start = time.perf_counter()
                pose = solve()
                record[name].append(time.perf_counter() - start)
                found[name].append(problem.error(pose))
        for name, seconds in record.items():
            store("speed", cell.name, name, seconds)
            if len(load("accuracy", cell.name, name) or []) <= len(found[name]):
                store("accuracy", cell.name, name, found[name])
        print(cell.name, *(f"{1e3 * np.median(s):.2f}" for s in record.values()), flush=True)


def measure_batch() -> None:
    """Seconds for 64 images at once."""
    solve = jax.jit(over_images(estimate_absolute_pose))
    for cell in BATCH_CELLS:
        problems = [cell.problem(i, _SEED.value) for i in range(BATCH)]
        uv, points = (
            np.stack([getattr(p, name) for p in problems]).astype(np.float32)
            for name in ("points_2d", "points_3d")
        )
        focal = np.full(BATCH, problems[0].focal, np.float32)
        centre = (np.full(BATCH, c, np.float32) for c in problems[0].centre)
        cameras = Camera(focal, focal, *centre, WIDTH, HEIGHT)
        keys = jax.random.split(jax.random.key(_SEED.value), BATCH)
        loops: dict[str, Callable[[], Any]] = {
            OURS: lambda args=(uv, points, cameras, keys): np.asarray(
                solve(*args).camera_from_world
            )
        }
        for name, peer in (("PoseLib", pose_lib), ("PoseLib, min. 100", pose_lib_100)):
            calls = [peer(p, i) for i, p in enumerate(problems)]
            loops[name] = lambda calls=calls: [call() for call in calls]
        seconds: dict[str, list[float]] = {name: [] for name in loops}
        loops[OURS]()
        for _ in range(2 if _QUICK.value else 7):
            for name, loop in loops.items():
                start = time.perf_counter()
                loop()
                seconds[name].append(time.perf_counter() - start)
        for name, record in seconds.items():
            store("batch", cell.name, name, record)
        print(cell.name, {k: round(1e3 * float(np.median(v)), 1) for k, v in seconds.items()})


_FIRST_CALL = """
import time, numpy as np, jax
from ace_jax.geometry.absolute_pose import estimate_absolute_pose
from ace_jax.geometry.batch import over_images
from ace_jax.geometry.camera import Camera
from ace_jax.runtime import enable_compilation_cache
enable_compilation_cache()
rng = np.random.default_rng(0)
uv, xyz = rng.uniform(0, 480, ({shape}1000, 2)), rng.normal(size=({shape}1000, 3))
camera = Camera({camera}, 640, 480)
key = jax.random.{key}
solve = jax.jit({solver})
jax.block_until_ready(jax.numpy.zeros(3) + 1)
start = time.perf_counter()
jax.block_until_ready(solve(uv.astype(np.float32), xyz.astype(np.float32), camera, key))
print(time.perf_counter() - start)
"""
_FIRST_CALLS = {
    "one image": {
        "shape": "",
        "camera": "525.0, 525.0, 320.0, 240.0",
        "key": "key(0)",
        "solver": "estimate_absolute_pose",
    },
    "64 images": {
        "shape": "64, ",
        "camera": "*np.full((4, 64), 500.0, np.float32)",
        "key": "split(jax.random.key(0), 64)",
        "solver": "over_images(estimate_absolute_pose)",
    },
}


def measure_compilation() -> None:
    """Seconds for the first call of a new process, 1000 points."""
    for name, parts in _FIRST_CALLS.items():
        seconds: dict[str, list[float]] = {"without a cache": [], "from the cache": []}
        for _ in range(1 if _QUICK.value else 3):
            with tempfile.TemporaryDirectory() as folder:
                environment = os.environ | {"ACE_JAX_CACHE": folder}
                environment.pop("JAX_COMPILATION_CACHE_DIR", None)
                for record in seconds.values():
                    program = [sys.executable, "-c", _FIRST_CALL.format(**parts)]
                    done = subprocess.run(
                        program, env=environment, capture_output=True, text=True, check=True
                    )
                    record.append(float(done.stdout))
        for kind, record in seconds.items():
            store("compile", name, kind, record)
        print(name, seconds, flush=True)


def measure_real() -> None:
    """Errors and seconds of every solver on matches of real images."""
    solvers = chosen_solvers()
    if not _SOLVERS.value:
        solvers = solvers | {"ace_jax, depth too": ace_jax_depth}
    for gap, ratio in REAL:
        stream = real_problems(Path(_DATA_ROOT.value), gap, ratio)
        problems = list(itertools.islice(stream, num_problems()))
        size = [len(problem.points_2d) for problem in problems]
        agree = [inlier_share(problem) for problem in problems]
        store("real", f"{gap}-{ratio:g}", "problems", {"points": size, "inliers": agree})
        for name, prepare in solvers.items():
            record = []
            for index, problem in enumerate(problems):
                solve = prepare(problem, index)
                solve()  # a new number of points may have to be compiled
                start = time.perf_counter()
                pose = solve()
                record.append((*problem.error(pose), time.perf_counter() - start))
            store("real", f"{gap}-{ratio:g}", name, record)
        print(gap, ratio, np.median(size), np.median(agree), flush=True)


def inlier_share(problem: Problem) -> float:
    """Share of matches that the true pose explains within 4 px."""
    pose = problem.camera_from_world
    x, y, z = pose[:3, :3] @ problem.points_3d.T + pose[:3, 3:]
    pixels = problem.focal * np.stack([x, y], axis=1) / z[:, None] + problem.centre
    return float(np.mean((z > 0) & (np.linalg.norm(pixels - problem.points_2d, axis=1) < 4.0)))


def succeeded(errors_: list[list[float]]) -> float:
    """Per cent below 1 degree and 5 cm."""
    degrees, cm = np.array(errors_)[:, :2].T
    return 100.0 * float(np.mean((degrees < MAX_DEGREES) & (cm < MAX_CM)))


def medians(errors_: list[list[float]]) -> tuple[float, float]:
    """Median errors, degrees and centimetres."""
    degrees, cm = np.median(np.array(errors_)[:, :2], axis=0)
    return float(degrees), float(cm)


def _grid_table(part: str, show: Callable[[Any], str]) -> str:
    rows = []
    for cell in grid():
        records = [load(part, cell.name, name) for name in SOLVERS]
        if any(record is not None for record in records):
            head = [cell.scene, str(cell.points), str(cell.outliers), f"{cell.noise:g}"]
            rows.append(head + ["" if record is None else show(record) for record in records])
    return table(["scene", "points", "outliers %", "noise px", *SOLVERS], rows)


def success_table() -> str:
    """Per cent of successes; with the number of problems where it is not 200."""

    def show(record: list) -> str:
        count = "" if len(record) >= num_problems() else f" ({len(record)})"
        return f"{succeeded(record):.1f}{count}"

    return _grid_table("accuracy", show)


def errors_table() -> str:
    """Median errors in a hundredth of a degree and in millimetres."""
    return _grid_table(
        "accuracy",
        lambda record: "{:.2f} / {:.2f}".format(*np.multiply(medians(record), [100, 10])),
    )


def speed_table() -> str:
    """Median and 95th percentile, milliseconds."""

    def show(record: list) -> str:
        p50, p95 = 1e3 * np.percentile(record, [50, 95])
        return f"{_short(p50)} / {_short(p95)}"

    return _grid_table("speed", show)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def summary_table() -> str:
    """How many cells reach each of the aims, and the worst one."""
    checks: dict[str, list[tuple[float, str]]] = {name: [] for name in _AIMS}
    for cell in grid():
        accuracy = {name: load("accuracy", cell.name, name) for name in SOLVERS}
        accuracy = {name: a for name, a in accuracy.items() if a is not None}
        if OURS not in accuracy or len(accuracy) < 2:
            continue
        ours = accuracy.pop(OURS)
        # A peer that got fewer problems is compared on those.
        pairs = [(ours[: len(a)], a[: len(ours)]) for a in accuracy.values()]
        pairs = [pair for pair in pairs if len(pair[0]) >= min(_ENOUGH, num_problems())]
        if pairs:
            behind = max(succeeded(theirs) - succeeded(mine) for mine, theirs in pairs)
            checks["success"].append((behind, cell.name))
            for axis, name in ((0, "degrees"), (1, "cm")):
                excess = [medians(mine)[axis] / medians(theirs)[axis] for mine, theirs in pairs]
                checks[name].append((max(excess), cell.name))
        speed = {name: load("speed", cell.name, name) for name in SOLVERS}
        speed = {name: 1e3 * np.median(s) for name, s in speed.items() if s is not None}
        if OURS not in speed or len(speed) < 2:
            continue
        mine = speed.pop(OURS)
        if cell.outliers >= 60 and cell.points >= 1000 and "PoseLib" in speed:
            checks["hard"].append((mine / speed["PoseLib"], cell.name))
        if cell.outliers <= 30:
            equals = [
                name
                for name in accuracy
                if name in speed
                and succeeded(accuracy[name]) >= succeeded(ours) - 0.5
                and all(np.divide(medians(accuracy[name]), medians(ours)) <= 1.05)
            ]
            if equals:
                fastest = min(equals, key=speed.get)
                checks["easy"].append((mine / speed[fastest], f"{cell.name}, {fastest}"))
    for cell in BATCH_CELLS:
        batch = [load("batch", cell.name, name) for name in (OURS, "PoseLib")]
        if None not in batch:
            checks["batch"].append((np.median(batch[0]) / np.median(batch[1]), cell.name))
    rows = []
    for name, values in checks.items():
        if values:
            text, limit, show = _AIMS[name]
            worst, where = max(values)
            reached = sum(value <= limit for value, _ in values)
            rows.append([text, f"{reached} of {len(values)}", f"{show(worst)} ({where})"])
    return table(["aim", "cells that reach it", "worst cell"], rows)


def _times_faster(ratio: float) -> str:
    return f"{1 / ratio:.2f} x as fast"


_AIMS: dict[str, tuple[str, float, Callable[[float], str]]] = {
    "success": (
        "success at most 0.5 points below the best peer",
        0.5 + 1e-9,
        lambda x: f"{x:+.1f} points behind" if x > 0 else "none behind",
    ),
    "degrees": (
        "median rotation error at most 5 % above the best peer",
        1.05,
        lambda x: f"{100 * (x - 1):+.0f} %",
    ),
    "cm": (
        "median position error at most 5 % above the best peer",
        1.05,
        lambda x: f"{100 * (x - 1):+.0f} %",
    ),
    "hard": (
        "2 x as fast as PoseLib (60 % outliers or more, 1000 points or more)",
        0.5,
        _times_faster,
    ),
    "easy": (
        "as fast as the fastest peer of equal accuracy (10-30 % outliers)",
        1.0,
        _times_faster,
    ),
    "batch": ("64 images: 3 x as fast as PoseLib in a loop", 1 / 3, _times_faster),
}


def batch_table() -> str:
    """Images a second, and ours over PoseLib."""
    names = (OURS, "PoseLib", "PoseLib, min. 100")
    rows = []
    for cell in BATCH_CELLS:
        records = [load("batch", cell.name, name) for name in names]
        if None not in records:
            rate = [BATCH / float(np.median(record)) for record in records]
            ratios = [f"{rate[0] / rate[1]:.1f}", f"{rate[0] / rate[2]:.1f}"]
            head = [str(cell.points), str(cell.outliers)]
            rows.append(head + [f"{r:.0f}" for r in rate] + ratios)
    header = ["points", "outliers %", *(f"{name}: images/s" for name in names)]
    return table([*header, "ratio", "ratio, min. 100"], rows)


def compile_table() -> str:
    """Seconds of the first call."""
    kinds = ("without a cache", "from the cache")
    rows = []
    for name in _FIRST_CALLS:
        records = [load("compile", name, kind) for kind in kinds]
        if None not in records:
            rows.append([name, *(f"{np.median(record):.1f}" for record in records)])
    return table(["first call, 1000 points", *(f"{kind}, s" for kind in kinds)], rows)


def real_table() -> str:
    """Success, errors and times on real matches."""
    rows = []
    for gap, ratio in REAL:
        name = f"{gap}-{ratio:g}"
        if (about := load("real", name, "problems")) is None:
            continue
        for solver in (*SOLVERS, "ace_jax, depth too"):
            if (record := load("real", name, solver)) is None:
                continue
            degrees, cm = medians(record)
            p50, p95 = 1e3 * np.percentile([r[2] for r in record], [50, 95])
            rows.append(
                [
                    str(gap),
                    f"{ratio:g}",
                    f"{np.median(about['points']):.0f}, {100 * np.median(about['inliers']):.0f} %",
                    solver,
                    f"{succeeded(record):.0f}",
                    f"{degrees:.3f}",
                    f"{cm:.2f}",
                    f"{_short(p50)} / {_short(p95)}",
                ]
            )
    header = ["frames apart", "ratio test", "matches, within 4 px", "solver", "success %"]
    return table([*header, "median deg", "median cm", "ms p50 / p95"], rows)


TABLES: dict[str, tuple[tuple[str, ...], Callable[[], str]]] = {
    "summary": (("accuracy", "speed", "batch"), summary_table),
    "success": (("accuracy",), success_table),
    "errors": (("accuracy",), errors_table),
    "speed": (("speed",), speed_table),
    "batch": (("batch",), batch_table),
    "compile": (("compile",), compile_table),
    "real": (("real",), real_table),
}
PARTS: dict[str, Callable[[], None]] = {
    "accuracy": measure_accuracy,
    "speed": measure_speed,
    "batch": measure_batch,
    "compile": measure_compilation,
    "real": measure_real,
}


def main(_: Any) -> None:
    """Measures what the flags ask for and makes the tables."""
    parts_asked = asked(PARTS, _PARTS.value, "part")
    use_cores(_CORES.value)
    enable_compilation_cache()
    quick = ", quick: NOT a measurement" if _QUICK.value else ""
    where = f"{stamp(COMPARED)}; seed {_SEED.value}{quick}."
    for measure in parts_asked:
        measure()
    for name, (parts, make) in TABLES.items():
        if not _PARTS.value or set(parts) & set(_PARTS.value):
            publish(name, f"{make()}\n\n{where}", _DOCS.value)


if __name__ == "__main__":
    errors.run(main)
