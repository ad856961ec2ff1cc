"""What SLAM, mapping, queries and solvers cost against the size of the job, as tables.

  python benchmarks/scaling_curves.py [--short] [--out DIR] [--docs PAGE]
      [--only frames,mapping,density,batch,devices]

Each curve is measured by a process of its own, and kept in --out: an interrupted run goes on where
it was. `--short` takes minutes; without it, a night's run goes to 30,000 frames of a rendered room,
to and fro, and to maps of 4,000 images of a rendered floor of rooms. Maps are made by the command,
all of the images; queries are frames between mapped ones, at most 80, their features known. The
peak is that of the command's resident memory.
"""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from machine import printed_by, stamp
from markdown import asked, publish, table

from ace_jax import errors
from ace_jax.errors import UserError

REPO = Path(__file__).resolve().parent.parent
FLOOR = "synthetic/floor-small"

_OUT = flags.DEFINE_string("out", "runs/scaling_curves", "folder for what was measured")
_ONLY = flags.DEFINE_list("only", None, "which curves (default: all)")
_SHORT = flags.DEFINE_bool("short", False, "small sizes alone")
_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose tables are replaced")
_MEASURE = flags.DEFINE_string(
    "measure", None, "a curve and its sizes, as this script calls itself"
)

Rows = list[list[float]]


@dataclasses.dataclass(frozen=True)
class Curve:
    """A table.

    Attributes:
        measure: from the sizes to rows of numbers, the size first.
        header: names of the columns.
        short: sizes that take minutes.
        full: sizes of a night's run.
        devices: whether every size is a process of its own with so many fake devices.
    """

    measure: Callable[[list[int]], Rows]
    header: tuple[str, ...]
    short: tuple[int, ...]
    full: tuple[int, ...]
    devices: bool = False


def _memory_maps() -> int:
    """Entries in this process's table of memory maps; the kernel allows 65,530."""
    with open("/proc/self/maps") as lines:
        return sum(1 for _ in lines)


def measure_frames(sizes: list[int]) -> Rows:
    """SLAM of one long recording: a row where each size is reached, over the frames before it."""
    from soak_run import _resident

    from ace_jax.data.prefetch import Prefetcher
    from ace_jax.data.registry import open_sequence
    from ace_jax.slam.run import SystemOptions, create_system

    source = open_sequence(f"synthetic/room0-replay{max(sizes)}", "data")
    source.prepare()
    system = create_system(source, SystemOptions())
    rows, core = [], [time.process_time()]
    with Prefetcher(source, ahead=2) as frames:
        for number, frame in enumerate(frames, 1):
            system.process(dataclasses.replace(frame, world_from_camera=None))
            core.append(time.process_time())
            if number in sizes:
                spent = np.diff(core) * 1e3
                rows.append(
                    [
                        number,
                        float(np.median(spent)),
                        float(np.percentile(spent, 95)),
                        len(system.landmark_map.keyframes),
                        len(system.landmark_map),
                        _resident(),
                        _memory_maps(),
                    ]
                )
                core = core[-1:]
    return rows


def _posed(count: int) -> tuple[list[Any], Any]:
    """So many frames of the room, evenly spaced, and its camera."""
    from ace_jax.data.registry import open_sequence

    source = open_sequence("synthetic/room0", "data", max_frames=None)
    chosen = np.unique(np.linspace(0, len(source) - 2, count).astype(int))
    source.prepare(chosen.tolist())
    return [source[int(index)] for index in chosen], source.camera


def _map_of(frames: list[Any], camera: Any) -> Any:
    from ace_jax.api.mapping import map_images

    poses = [frame.world_from_camera for frame in frames]
    depth = [frame.depth for frame in frames]
    return map_images([frame.rgb for frame in frames], poses, camera, depth)


def _mapped(frames: range) -> tuple[Path, float, float]:
    """The map of these frames of the floor, made by the command, its core-seconds and peak MiB."""
    from ace_jax.data.registry import open_sequence

    path = Path(_OUT.value).resolve() / f"floor-{frames.start}_{frames.stop}_{frames.step}"
    path, used = path.with_suffix(".safetensors"), path.with_suffix(".json")
    if not used.exists():
        open_sequence(FLOOR, "data").prepare(frames)
        command = [sys.executable, "-m", "ace_jax.mapping", f"--seq={FLOOR}", f"--out={path}"]
        command += [f"--frames={frames.start}:{frames.stop}:{frames.step}"]
        command += ["--config.max_frames=4096"]  # all of them, however near each other
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise UserError(f"{' '.join(command[1:])} failed")
        used.write_text(json.dumps([usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]))
    return path, *json.loads(used.read_text())


def _answers(path: Path, frames: range) -> tuple[list[float], list[float]]:
    """Of queries to a map: % within 10, 5, 2 and 1 cm, their median in cm, wrong rooms; core-ms."""
    from ace_jax.data.registry import open_sequence
    from ace_jax.localization.relocalizer import Relocalizer, timed_features

    source = open_sequence(FLOOR, "data")
    source.prepare(frames)
    relocalizer, room_at = Relocalizer.load(path), source.scene.room_at
    relocalizer(source[frames[0]].rgb, source.camera)  # compiles
    apart, spent, wrong = [], [], 0
    for index in frames:
        frame = source[index]
        features, _ = timed_features(relocalizer.extractor, frame.rgb)
        before = time.process_time()
        answer = relocalizer.locate(features, frame.camera)
        spent.append((time.process_time() - before) * 1e3)
        found, true = (pose[:3, 3] for pose in (answer.world_from_camera, frame.world_from_camera))
        apart.append(100 * float(np.linalg.norm(found - true)) if answer.success else np.inf)
        wrong += answer.success and apart[-1] > 10 and room_at(found) != room_at(true)
    within = [100 * float(np.mean(np.array(apart) < bound)) for bound in (10, 5, 2, 1)]
    return [*within, float(np.median(apart)), float(wrong)], spent


def _row(size: int, mapped: range, queries: range, same: range) -> list[float]:
    """Figures of one map, see `CURVES`; `same` are queries that every map is asked."""
    from ace_jax.localization.scene_map import load_map

    path, core, peak = _mapped(mapped)
    figures, spent = _answers(path, queries)
    if same != queries:
        _, spent = _answers(path, same)
    landmarks, bytes_ = load_map(path).info["landmarks"], path.stat().st_size
    costs = [core, peak, bytes_ / 1e6, landmarks, float(np.median(spent))]
    return [size, *costs, *figures]


def measure_mapping(sizes: list[int]) -> Rows:
    """A floor that grows, as densely mapped: every sixth frame of the walk's beginning."""
    return [
        _row(n, range(0, 6 * n, 6), range(3, 6 * n, max(6, 6 * n // 400 * 6)), range(3, 480, 6))
        for n in sizes
    ]


def measure_density(sizes: list[int]) -> Rows:
    """The first eleven rooms of the floor, from so many images evenly spread over the walk."""
    queries = range(3, 6000, 90)
    return [_row(n, range(0, 6000, 6000 // n), queries, queries) for n in sizes]


def measure_batch(sizes: list[int]) -> Rows:
    """Queries of one map, so many at once; features are known."""
    from ace_jax.localization.relocalizer import Relocalizer, timed_features

    frames, camera = _posed(24)
    relocalizer = Relocalizer.of(_map_of(frames, camera))
    features = [timed_features(relocalizer.extractor, frame.rgb)[0] for frame in frames]
    rows = []
    for size in sizes:
        asked_for = (features * (size // len(features) + 1))[:size]
        for _ in range(2):  # the first compiles
            wall, core = time.perf_counter(), time.process_time()
            if size == 1:
                relocalizer.locate(asked_for[0], camera)
            else:
                relocalizer.locate_features(asked_for, [camera] * size)
            wall, core = time.perf_counter() - wall, time.process_time() - core
        rows.append([size, 1e3 * wall / size, 1e3 * core / size])
    return rows


def measure_devices(sizes: list[int]) -> Rows:
    """64 absolute poses, shared by so many fake devices of the same cores."""
    import jax
    from jax.sharding import Mesh

    from ace_jax.geometry.absolute_pose import estimate_absolute_pose
    from ace_jax.geometry.batch import over_images
    from ace_jax.geometry.camera import Camera

    (size,) = sizes
    random = np.random.default_rng(0)
    points = random.uniform((-1, -1, 1), (1, 1, 4), (64, 256, 3)).astype(np.float32)
    pixels = (500 * points[..., :2] / points[..., 2:] + (320, 240)).astype(np.float32)
    wrong = random.uniform(size=(64, 256)) < 0.5
    pixels[wrong] = random.uniform(0, 480, (wrong.sum(), 2))
    ones = np.ones(64, np.float32)
    cameras = Camera(500 * ones, 500 * ones, 320 * ones, 240 * ones, 640, 480)
    mesh = Mesh(np.array(jax.devices()[:size]), ("images",))
    solve = jax.jit(over_images(estimate_absolute_pose, mesh))
    keys, walls, cores = jax.random.split(jax.random.key(0), 64), [], []
    for _ in range(6):
        wall, core = time.perf_counter(), time.process_time()
        found = np.asarray(solve(pixels, points, cameras, keys).success)
        walls.append(time.perf_counter() - wall)
        cores.append(time.process_time() - core)
    if not found.all():
        raise UserError("a pose was not found")
    return [[size, 1e3 * float(np.median(walls[1:])), 1e3 * float(np.median(cores[1:]))]]


_OF_MAPS = (
    *("images", "core-s", "peak MiB", "map MB", "landmarks", "core-ms a query"),
    *("% 10 cm", "% 5 cm", "% 2 cm", "% 1 cm", "median cm", "wrong rooms"),
)
CURVES = {
    "frames": Curve(
        measure_frames,
        ("frames", "core-ms p50", "core-ms p95", "keyframes", "landmarks", "resident MiB", "maps"),
        (100, 250, 500, 1000),
        (100, 300, 1000, 3000, 10_000, 30_000),
    ),
    "mapping": Curve(measure_mapping, _OF_MAPS, (80, 400), (80, 400, 1000, 4000)),
    "density": Curve(measure_density, _OF_MAPS, (50, 100), (50, 100, 250, 1000)),
    "batch": Curve(
        measure_batch,
        ("queries at once", "wall ms each", "core-ms each"),
        (1, 4, 16, 64),
        (1, 2, 4, 8, 16, 32, 64, 256),
    ),
    "devices": Curve(
        measure_devices,
        ("fake devices", "wall ms of 64 poses", "core-ms"),
        (1, 2, 4, 8),
        (1, 2, 4, 8),
        devices=True,
    ),
}


def main(_: Sequence[str]) -> None:
    """Measures what is not there yet, and prints the tables."""
    if _MEASURE.value:
        name, *sizes = _MEASURE.value.split(",")
        print(json.dumps(CURVES[name].measure([int(size) for size in sizes])))
        return
    names = _ONLY.value or list(CURVES)
    asked(CURVES, names, "curve")
    out = Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    found = {name: _kept(out, name, CURVES[name]) for name in names}
    for name, (rows, where) in found.items():
        cells = [[f"{x:.0f}" if x >= 100 else f"{x:.3g}" for x in row] for row in rows]
        length = "A short run" if _SHORT.value else "A full run"
        publish(
            f"curve-{name}",
            f"{table(CURVES[name].header, cells)}\n\n{length}: {where}.",
            _DOCS.value,
        )


def _kept(out: Path, name: str, curve: Curve) -> tuple[Rows, str]:
    """The rows of a curve, measured now or kept from before; and where that was."""
    file = out / f"{name}-{'short' if _SHORT.value else 'full'}.json"
    if not file.exists():
        where, sizes = stamp(), curve.short if _SHORT.value else curve.full
        calls = [[size] for size in sizes] if curve.devices else [list(sizes)]
        rows = [row for call in calls for row in _measured(name, call, curve.devices)]
        file.write_text(json.dumps([rows, where]))
    rows, where = json.loads(file.read_text())
    return rows, where


def _measured(name: str, sizes: list[int], devices: bool) -> Rows:
    environment = dict(os.environ) | {"PYTHONPATH": str(REPO)}
    if devices:
        environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={sizes[0]}"
    measure = [f"--measure={','.join(map(str, [name, *sizes]))}", f"--out={_OUT.value}"]
    return printed_by(name, [__file__, *measure], environment)


if __name__ == "__main__":
    errors.run(main)
