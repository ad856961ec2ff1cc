"""Relocalization tables: heads, lighting, updates, uncertainty, numbers of images, matching.

  python benchmarks/relocalization.py [--tables main,light,filter,update,scenes,images] [--quick]
      [--data_root DIR] [--weights_dir DIR] [--out DIR] [--reuse] [--docs PAGE.md]

Protocol (7-Scenes redkitchen, sequence 1, SfM poses, f = 525.505): maps are made from frames 0, 6,
12, ... 594. Constants were chosen on frames 3 mod 12 and 600-699; reported are frames 9 mod 12
(in between) and 700-799 (later). Every row is a map file made by `ace_jax.mapping` and read by
`ace_jax.relocalize`, in this process, on `--cores` cores; what is compiled before is in the cache
on disk, as in a second run of a user. Times are the wall clock's; *core s* is processor time, which
tells more where other processes run. `matching` is the strongest simple peer, `sift_matching.py`.
"""

import dataclasses
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from absl import flags, logging
from kitchen import FOCAL, SEQUENCE, SFM_POSES
from machine import stamp, use_cores
from markdown import asked, publish, table
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sift_matching import SiftMatching

from ace_jax import errors
from ace_jax.data.frame import FrameSource
from ace_jax.data.selection import open_frames
from ace_jax.evaluation import relocalization as evaluation
from ace_jax.localization.relocalizer import Relocalizer
from ace_jax.localization.scene_map import load_map, save_map
from ace_jax.localization.several_maps import load_maps, locate_among
from ace_jax.mapping.pipeline import map_scene
from ace_jax.runtime import enable_compilation_cache

MAPPING = "0:600:6"
QUERIES = {"in between": "9:600:12", "later": "700:800"}
TUNING = {"in between": "3:600:12", "later": "600:700"}
# Every other one of the later queries, for tables with many rows and columns.
HALF = {"reported": "700:800:2", "tuning": "600:700:2"}

_TABLES = flags.DEFINE_list(
    "tables", ["main", "light", "filter", "update", "scenes", "images"], "which"
)
_ROWS = flags.DEFINE_list("rows", None, "only these rows of the main table")
_DATA_ROOT = flags.DEFINE_string("data_root", "../shared/data", "folder with 7scenes/")
_WEIGHTS_DIR = flags.DEFINE_string("weights_dir", "../shared/weights", "folder with XFeat")
_OUT = flags.DEFINE_string("out", "runs/benchmarks/relocalization", "folder for maps and results")
_REUSE = flags.DEFINE_bool("reuse", False, "take maps that are already in --out")
_CORES = flags.DEFINE_integer("cores", 2, "processor cores to use", lower_bound=1)
_TUNE = flags.DEFINE_bool("tune", False, "on the tuning queries instead of the reported ones")
_QUICK = flags.DEFINE_bool("quick", False, "few steps and queries: does it run?")
_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose tables are replaced")


@dataclasses.dataclass(frozen=True)
class Row:
    """A map to make: its name in the table, its preset, and what is changed in it."""

    label: str
    preset: str
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    kinect: bool = False
    align: bool = False


ROWS = {
    "default": Row("landmarks (default), depth and images", "landmarks"),
    "1mb": Row("landmarks, 1 MB preset", "landmarks_1mb"),
    "rgb": Row("landmarks, RGB and poses alone", "landmarks_rgb"),
    "rgb_seed1": Row("the same, seed 1", "landmarks_rgb", {"seed": 1}),
    "rgb_seed2": Row("the same, seed 2", "landmarks_rgb", {"seed": 2}),
    "sift": Row("landmarks on SIFT (no weights), RGB", "landmarks_rgb", {"features.name": "sift"}),
    "dense": Row("landmarks on dense XFeat, plane sweep", "landmarks_dense", {"training.steps": 0}),
    "dense_nll": Row("the same, trained by the NLL", "landmarks_dense"),
    "tri_mlp": Row("TriMLP on dense XFeat, depth", "tri_mlp_cpu"),
    "ace": Row("HomogeneousMLP (ACE), its loss and settings, RGB", "ace_cpu"),
    "kinect": Row("landmarks (default), KinectFusion poses", "landmarks", kinect=True),
    "slam": Row("map of `ace_jax.slam` (frames 0-599, no poses given)", "", align=True),
}


SHORT = Row("TriMLP, a quarter of the steps", "tri_mlp_cpu", {"training.steps": 250})


def source(frames: str, kinect: bool = False) -> FrameSource:
    """Frames of the recording, with the reference in question."""
    root = Path(_DATA_ROOT.value)
    poses = None if kinect else root / SFM_POSES
    return open_frames(SEQUENCE, root, frames=frames, poses=poses, focal=FOCAL)


def make_map(name: str, frames: str = MAPPING, known: Path | None = None) -> Path:
    """The map file of a row, made now unless it is there and may be reused."""
    row = SHORT if name == "tri_mlp_short" else ROWS[name]
    suffix = "" if frames == MAPPING else f"-{frames.replace(':', '_')}"
    path = Path(_OUT.value) / f"{name}{suffix}{'-update' if known else ''}.safetensors"
    if _REUSE.value and path.is_file():
        return path
    if name == "slam":
        return _slam_map(path)
    config = importlib.import_module(f"ace_jax.mapping.presets.{row.preset}").get_config()
    config.update_from_flattened_dict(row.changes)
    if _QUICK.value and config.training.steps:
        config.training.steps = 20
        config.buffer.patches = min(config.buffer.patches, 20_000)
    scene_map = map_scene(
        source(frames, row.kinect),
        config,
        weights_dir=_WEIGHTS_DIR.value,
        known=None if known is None else load_map(known),
    )
    save_map(path, scene_map, half=config.half)
    logging.info("%s: %.0f s, %.0f core-s", path, *(scene_map.info[k] for k in _SECONDS))
    return path


_SECONDS = ("seconds", "core_seconds")
STAGES = ("features", "head", "solver")


def _slam_map(path: Path) -> Path:
    """The map that SLAM makes of all the frames in question, without their poses."""
    folder = path.with_suffix("")
    root = Path(_DATA_ROOT.value)
    command = [sys.executable, "-m", "ace_jax.slam", "--seq", SEQUENCE, "--data_root", str(root)]
    command += ["--max_frames", "20" if _QUICK.value else "600", "--poses", str(root / SFM_POSES)]
    command += ["--weights_dir", _WEIGHTS_DIR.value, "--out", str(folder)]
    started, used = time.perf_counter(), os.times()
    subprocess.run(command, check=True)
    now = os.times()
    cores = now.children_user + now.children_system - used.children_user - used.children_system
    made = load_map(folder / "map.safetensors")
    seconds = {"seconds": time.perf_counter() - started, "core_seconds": cores}
    save_map(path, dataclasses.replace(made, info=made.info | seconds), half=True)
    return path


@dataclasses.dataclass
class Result:
    """Figures of the queries of one kind, and a query's median milliseconds by stage."""

    figures: dict[str, float]
    ms: dict[str, float]


def frames_of(kind: str, kinect: bool = False) -> FrameSource:
    """The queries of a kind."""
    if kind == "half of later":
        selection = HALF["tuning" if _TUNE.value else "reported"]
    else:
        selection = (TUNING if _TUNE.value else QUERIES)[kind]
    if _QUICK.value:
        start, stop, *step = selection.split(":")
        selection = f"{start}:{stop}:{int(step[0]) * 10 if step else 20}"
    return source(selection, kinect)


def answer(relocalizer: Relocalizer, queries: FrameSource, align: bool = False) -> Result:
    """Answers queries.

    With `align` the references are moved rigidly to fit the answers: the map is of another world.
    """
    first = queries[0]
    for _ in range(2):  # compiled before the clock runs
        relocalizer(first.rgb, first.camera)
    poses, ms, reference = [], [], queries.poses()
    for frame in queries:
        found = relocalizer(frame.rgb, frame.camera)
        poses.append(found.world_from_camera if found.success else None)
        ms.append(found.ms)
    if align:
        motion = evaluation.estimate_from_reference(poses, reference)
        reference = np.full_like(reference, np.nan) if motion is None else motion @ reference
    return Result(
        figures=_figures(poses, reference),
        ms={stage: float(np.median([m[stage] for m in ms])) for stage in ms[0]},
    )


def accuracy(figures: dict[str, float]) -> list[str]:
    """The cells that every table has for a kind of queries."""
    return [
        f"{figures['within_10cm_10deg']:.0f} / {figures['within_5cm_5deg']:.0f} / "
        f"{figures['within_2cm_2deg']:.0f}",
        f"{100 * figures['median_translation_m']:.2f} cm, {figures['median_rotation_deg']:.2f}°",
    ]


ACCURACY = [f"{kind}: {what}" for kind in QUERIES for what in ("% 10/5/2", "median")]


def main_table(results: dict[str, Any]) -> str:
    """Every head and preset, and matching."""
    rows = []
    for name in (*ROWS, "matching"):
        if _ROWS.value and name not in _ROWS.value:
            continue
        stored = Path(_OUT.value) / f"row-{name}{'-tuning' if _TUNE.value else ''}.json"
        if not (_REUSE.value and stored.is_file()):
            figures: dict[str, Any] = {}
            cells = _matching_row(figures) if name == "matching" else _row(name, figures)
            stored.write_text(json.dumps({"cells": cells, "figures": figures}, default=float))
            logging.info("%s", cells)
        row = json.loads(stored.read_text())
        results |= row["figures"]
        rows.append(row["cells"])
    header = ["head", "mapping s (core s)", "map MB", "ms features / head / solver", *ACCURACY]
    return table(header, rows)


def _row(name: str, results: dict[str, Any]) -> list[str]:
    """A map's row: made, measured, and asked about every kind of queries."""
    row, path = ROWS[name], make_map(name)
    relocalizer = load_maps([path], _WEIGHTS_DIR.value)[0]
    info, size = relocalizer.map.info, path.stat().st_size
    cells, ms = [], {}
    for kind in QUERIES:
        found = answer(relocalizer, frames_of(kind, row.kinect), row.align)
        cells += accuracy(found.figures)
        results[f"{name}/{kind}"] = {**found.figures, "ms": found.ms, "bytes": size}
        ms = found.ms
    times = " / ".join(f"{ms[stage]:.1f}" for stage in STAGES)
    made = f"{info['seconds']:.0f} ({info['core_seconds']:.0f})"
    return [row.label, made, f"{size / 1e6:.2f}", times, *cells]


def _matching_row(results: dict[str, Any]) -> list[str]:
    started, used = time.perf_counter(), time.process_time()
    matching = SiftMatching(list(source(MAPPING)))
    made = f"{time.perf_counter() - started:.0f} ({time.process_time() - used:.0f})"
    cells, ms = [], {}
    for kind in QUERIES:
        queries = frames_of(kind)
        matching(queries[0])
        found = [matching(frame) for frame in queries]
        figures = _figures([pose for pose, _, _ in found], queries.poses())
        ms = {stage: float(np.median([m[stage] for _, m, _ in found])) for stage in STAGES}
        results[f"matching/{kind}"] = {**figures, "ms": ms, "bytes": matching.bytes}
        cells += accuracy(figures)
    times = " / ".join(f"{ms[stage]:.1f}" for stage in STAGES)
    return ["SIFT matching, PoseLib", made, f"{matching.bytes / 1e6:.1f}", times, *cells]


def _gamma(value: float) -> Callable[[np.ndarray], np.ndarray]:
    lookup = (255 * (np.arange(256) / 255) ** value + 0.5).astype(np.uint8)
    return lambda rgb: lookup[rgb]


def _cast(rgb: np.ndarray) -> np.ndarray:
    return np.clip(rgb * np.array([1.25, 1.0, 0.7]) + 0.5, 0, 255).astype(np.uint8)


def _noisy(rgb: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(int(rgb.sum()) % 2**32).normal(scale=15, size=rgb.shape)
    return np.clip(rgb + noise + 0.5, 0, 255).astype(np.uint8)


LIGHT: dict[str, Callable[[np.ndarray], np.ndarray] | None] = {
    "as recorded": None,
    "gamma 0.5": _gamma(0.5),
    "gamma 2": _gamma(2.0),
    "colour cast": _cast,
    "blur, sigma 2 px": lambda rgb: cv2.GaussianBlur(rgb, (0, 0), 2.0),
    "noise, sigma 15": _noisy,
}
LIGHT_ROWS = ("default", "rgb", "sift", "dense", "tri_mlp", "ace")


def light_table(results: dict[str, Any]) -> str:
    """Later frames under other light: % within 5 cm/5 deg and median, per head."""
    chosen = [name for name in LIGHT_ROWS if not _ROWS.value or name in _ROWS.value]
    relocalizers = load_maps([make_map(name) for name in chosen], _WEIGHTS_DIR.value)
    queries = list(frames_of("half of later"))
    truth = np.stack([frame.world_from_camera for frame in queries])
    cells: dict[str, list[str]] = {name: [] for name in chosen}
    for light, change in LIGHT.items():
        poses: dict[str, list[np.ndarray | None]] = {name: [] for name in chosen}
        for frame in queries:
            rgb = frame.rgb if change is None else change(frame.rgb)
            extracted: dict[int, Any] = {}  # heads with the same features share them
            for name, relocalizer in zip(chosen, relocalizers, strict=True):
                extractor = relocalizer.extractor
                if id(extractor) not in extracted:
                    extracted[id(extractor)] = extractor.extract(rgb)
                found = relocalizer.locate(extracted[id(extractor)], frame.camera)
                poses[name].append(found.world_from_camera if found.success else None)
        for name in chosen:
            figures = _figures(poses[name], truth)
            results[f"light/{name}/{light}"] = figures
            median = 100 * figures["median_translation_m"]
            cells[name].append(f"{figures['within_5cm_5deg']:.0f} %, {median:.2f} cm")
        logging.info("%s: %s", light, {name: row[-1] for name, row in cells.items()})
    return table(["head", *LIGHT], [[ROWS[name].label, *cells[name]] for name in chosen])


def _figures(poses: list[np.ndarray | None], truth: np.ndarray) -> dict[str, float]:
    registered = sum(pose is not None for pose in poses)
    return evaluation.summary(evaluation.pose_errors(poses, truth), registered)


FILTER_ROWS = ("default", "dense", "dense_nll", "tri_mlp")
SHARES = (1.0, 0.8, 0.6, 0.3)


def filter_table(results: dict[str, Any]) -> str:
    """What the predicted scale is worth: order, and the filter's effect without guided matching."""
    chosen = [name for name in FILTER_ROWS if not _ROWS.value or name in _ROWS.value]
    paths = [make_map(name) for name in chosen]
    relocalizers = load_maps(paths, _WEIGHTS_DIR.value, guided_rounds=0)
    queries = list(frames_of("half of later"))
    truth = np.stack([frame.world_from_camera for frame in queries])
    extracted: dict[int, list[Any]] = {}
    rows, curves = [], {}
    for name, relocalizer in zip(chosen, relocalizers, strict=True):
        extractor = relocalizer.extractor
        if id(extractor) not in extracted:
            extracted[id(extractor)] = [extractor.extract(frame.rgb) for frame in queries]
        cells, settings = [], relocalizer.settings
        scale, metres = np.empty(0), np.empty(0)
        for share in SHARES:
            relocalizer.settings = dataclasses.replace(settings, keep_share=share)
            found = [
                relocalizer.locate(features, frame.camera)
                for features, frame in zip(extracted[id(extractor)], queries, strict=True)
            ]
            figures = _figures([f.world_from_camera if f.success else None for f in found], truth)
            results[f"filter/{name}/{share}"] = figures
            median = 100 * figures["median_translation_m"]
            cells.append(f"{figures['within_5cm_5deg']:.0f} %, {median:.2f} cm")
            scale = np.concatenate([f.scale for f in found])
            metres = np.concatenate(
                [
                    evaluation.beside_ray(f.xyz, f.uv, frame.camera, frame.world_from_camera)
                    for f, frame in zip(found, queries, strict=True)
                ]
            )
        curves[ROWS[name].label] = evaluation.calibration(scale, metres)
        correlation = evaluation.rank_correlation(scale, metres)
        rows.append([ROWS[name].label, f"{correlation:.2f}", *cells])
        logging.info("%s", rows[-1])
    _plot_calibration(curves)
    header = ["head", "rank correlation", *(f"keep {100 * s:.0f} %" for s in SHARES)]
    return table(header, rows)


def _plot_calibration(curves: dict[str, list[evaluation.CalibrationBin]]) -> None:
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for label, bins in curves.items():
        scale = [100 * b.scale for b in bins]
        (line,) = axis.plot(scale, [100 * b.error for b in bins], "o-", label=label, markersize=4)
        low, high = ([100 * getattr(b, k) for b in bins] for k in ("low", "high"))
        axis.fill_between(scale, low, high, color=line.get_color(), alpha=0.12, linewidth=0)
    limits = [0.2, 300]
    axis.plot(limits, limits, color="0.5", linewidth=1)
    axis.set(xscale="log", yscale="log", xlabel="predicted scale, cm", ylabel="error, cm")
    axis.set(xlim=limits, ylim=limits)
    axis.legend(fontsize=8)
    folder = Path(_DOCS.value).parent if _DOCS.value else Path(_OUT.value)
    path = folder / "images" / "relocalization-calibration.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


FIRST_HALF, SECOND_HALF = "0:300:6", "300:600:6"
HALVES = {"first half": "9:300:12", "second half": "309:600:12"}


def update_table(results: dict[str, Any]) -> str:
    """A map of the first half, extended by the second, beside one of both at once."""
    rows = []
    for name in ("default", "rgb", "tri_mlp_short"):
        if _ROWS.value and name not in _ROWS.value:
            continue
        first = make_map(name, FIRST_HALF)
        maps = {
            "first half alone": first,
            "then updated with the second": make_map(name, SECOND_HALF, first),
            "both at once": make_map(name),
        }
        for label, path in maps.items():
            relocalizer = load_maps([path], _WEIGHTS_DIR.value)[0]
            cells = []
            for half, selection in HALVES.items():
                queries = source(selection)
                poses = [
                    found.world_from_camera if found.success else None
                    for found in (relocalizer(f.rgb, f.camera) for f in queries)
                ]
                figures = _figures(poses, queries.poses())
                results[f"update/{name}/{label}/{half}"] = figures
                cells += accuracy(figures)
            seconds = f"{relocalizer.map.info['core_seconds']:.0f}"
            row = SHORT if name == "tri_mlp_short" else ROWS[name]
            rows.append([f"{row.label}: {label}", seconds, *cells])
            logging.info("%s", rows[-1])
    header = ["map", "core s"]
    header += [f"{half}: {what}" for half in HALVES for what in ("% 10/5/2", "median")]
    return table(header, rows)


def scenes_table(results: dict[str, Any]) -> str:
    """Several maps at once: how often the right one answers, and how often a wrong one would."""
    kitchen = make_map("default")
    root = Path(_DATA_ROOT.value)
    others = {"tum": "tum/freiburg1_rpy", "room": "synthetic/room0"}
    paths, sources = {"kitchen": kitchen}, {"kitchen": frames_of("later")}
    config = importlib.import_module("ace_jax.mapping.presets.landmarks").get_config()
    for name, sequence in others.items():
        path = Path(_OUT.value) / f"{name}.safetensors"
        if not (_REUSE.value and path.is_file()):
            mapping = open_frames(sequence, root, frames="::2")
            save_map(path, map_scene(mapping, config, _WEIGHTS_DIR.value), half=True)
        paths[name], sources[name] = path, open_frames(sequence, root, frames="1::4")
    relocalizers = load_maps(list(paths.values()), _WEIGHTS_DIR.value)
    rows = []
    for name, queries in sources.items():
        found = [locate_among(relocalizers, f.rgb, f.camera) for f in queries]
        right = sum(f.success and f.scene == paths[name].stem for f in found)
        wrong = sum(f.success and f.scene != paths[name].stem for f in found)
        strangers = [r for r in relocalizers if r.name != paths[name].stem]
        false = sum(any(r(f.rgb, f.camera).success for r in strangers) for f in list(queries)[::5])
        ms = float(np.median([f.ms["head"] + f.ms["solver"] for f in found]))
        results[f"scenes/{name}"] = {"right": right, "wrong": wrong, "queries": len(found)}
        count = len(list(queries)[::5])
        rows.append(
            [name, str(len(found)), str(right), str(wrong), f"{false} of {count}", f"{ms:.1f}"]
        )
    header = ["queries from", "queries", "right map", "wrong map"]
    return table([*header, "accepted by a map of another place", "ms after features"], rows)


IMAGES = (30, 60, 120, 250)
CORRIDOR, CORRIDOR_MAPPING, CORRIDOR_QUERIES = "synthetic/corridor", "0:2018:8", "4:2018:32"


def images_table(results: dict[str, Any]) -> str:
    """Maps of a building from more and more images, evenly spread over the same path."""
    root = Path(_DATA_ROOT.value)
    queries = open_frames(CORRIDOR, root, frames=CORRIDOR_QUERIES + ("0" if _QUICK.value else ""))
    rows = []
    for images in IMAGES[:1] if _QUICK.value else IMAGES:
        path = Path(_OUT.value) / f"corridor-{images}.safetensors"
        if not (_REUSE.value and path.is_file()):
            config = importlib.import_module("ace_jax.mapping.presets.landmarks").get_config()
            config.max_frames = images
            mapping = open_frames(CORRIDOR, root, frames=CORRIDOR_MAPPING)
            save_map(path, map_scene(mapping, config, _WEIGHTS_DIR.value), half=config.half)
        relocalizer = load_maps([path], _WEIGHTS_DIR.value)[0]
        info, found = relocalizer.map.info, answer(relocalizer, queries)
        right = round(found.figures["within_5cm_5deg"] * len(queries) / 100)
        size = path.stat().st_size
        results[f"images/{images}"] = {**found.figures, "ms": found.ms, "bytes": size}
        rows.append(
            [
                str(images),
                f"{right} of {len(queries)}",
                f"{100 * found.figures['median_translation_m']:.2f}",
                str(info["landmarks"]),
                f"{size / 1e6:.2f}",
                " / ".join(f"{found.ms[stage]:.1f}" for stage in STAGES),
                f"{info['seconds']:.0f} ({info['core_seconds']:.0f})",
            ]
        )
        logging.info("%s", rows[-1])
    header = ["images", "within 5 cm/5°", "median cm", "landmarks", "map MB"]
    return table([*header, "ms features / head / solver", "mapping s (core s)"], rows)


def main(_: Any) -> None:
    """Makes the tables that the flags ask for."""
    use_cores(_CORES.value)
    logging.set_verbosity(logging.INFO)
    enable_compilation_cache()
    results: dict[str, Any] = {}
    makers = {
        "main": main_table,
        "light": light_table,
        "filter": filter_table,
        "update": update_table,
        "scenes": scenes_table,
        "images": images_table,
    }
    Path(_OUT.value).mkdir(parents=True, exist_ok=True)
    where = f"{stamp()}; {'tuning' if _TUNE.value else 'reported'} queries."
    for name, make in zip(_TABLES.value, asked(makers, _TABLES.value), strict=True):
        publish(name, f"{make(results)}\n\n{where}", _DOCS.value)
        stored = Path(_OUT.value) / f"results-{name}.json"
        stored.write_text(json.dumps(results, indent=1, default=float) + "\n")


if __name__ == "__main__":
    errors.run(main)
