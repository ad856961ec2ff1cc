"""Pre-training with keypoints or grid cells, with and without context: results in unseen rooms.

  python benchmarks/pretraining_keypoints.py --tables features --rooms 8 --docs docs/pretraining.md
  python benchmarks/pretraining_keypoints.py --tables context --rooms 8 --train_rooms 24

features: the same untrained attention on different features of the same images, beside brute-force
SIFT with PoseLib. context: what training is worth, on the features of `cpu`. Intervals are paired
bootstraps over rooms. Everything is kept: images in the package's cache, models and answers in
--work; run again, the script goes on with what is missing (--minutes: nothing new after so long).

The rooms are those of the test (seeds from 800,000), their queries those of `conditions.HARD`,
which was set on validation rooms (from 900,000) such that brute-force SIFT finds about half.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import ml_collections
import numpy as np
from absl import flags
from machine import stamp
from markdown import asked, publish, table
from pretraining_runs import DOCS, FIRST_TEST, STEPS, WEIGHTS_DIR, WORK, Bench, interval
from sift_matching import SiftMatching

from ace_jax import errors
from ace_jax.evaluation.relocalization import pose_errors
from ace_jax.pretrain import presets
from ace_jax.pretrain.forms import create_form
from ace_jax.pretrain.run import open_scenes
from ace_jax.pretrain.scenes import Views
from ace_jax.pretrain.sources import create_source
from ace_jax.runtime import cache_dir, enable_compilation_cache

_TABLES = flags.DEFINE_list("tables", ["features"], "of features, context")
_ROOMS = flags.DEFINE_integer("rooms", 8, "test rooms, 8 queries each")
_TRAIN_ROOMS = flags.DEFINE_integer("train_rooms", 24, "rooms to train on")
_SEEDS = flags.DEFINE_integer("seeds_of_training", 1, "of each trained head")

COLUMNS = {
    "pose_5cm_5deg": "poses within 5 cm/5 deg, %",
    "right": "all within 10 cm, %",
    "surest_right": "surest tenth within 10 cm, %",
    "error_over_scale": "error / scale",
}
COMPARED = ("pose_5cm_5deg", "right", "surest_right")


@dataclasses.dataclass(frozen=True)
class Kind:
    """Features to compare.

    Attributes:
        label: in the table.
        name: of the extractor.
        options: of it.
        taus: temperatures that are tried; the best is reported.
    """

    label: str
    name: str
    options: dict[str, object]
    taus: tuple[float, ...]


FULL = {"image_size": (640, 480), "max_features": 1000}
KINDS = {
    "cells": Kind(
        "XFeat cells of 8 px at 320x240, as before",
        "xfeat_dense",
        {"image_size": (320, 240)},
        (60.0, 100.0, 150.0),
    ),
    "sift": Kind("SIFT keypoints at 640x480", "sift", FULL, (160.0, 240.0, 360.0)),
    "xfeat": Kind("XFeat keypoints at 640x480", "xfeat", FULL, (60.0, 100.0, 150.0)),
    "blobs": Kind(
        "oriented blobs, 4 half octaves, at 640x480",
        "blobs",
        FULL | {"oriented": True, "levels": 4, "level_ratio": 2**0.5},
        (160.0, 240.0),
    ),
}


def rooms_config(kind: Kind, **changes: object) -> ml_collections.ConfigDict:
    """`cpu` for minutes, on these features, in rooms whose images are kept."""
    config = presets.get_config("cpu")
    config.features.name = kind.name
    config.features.options = ml_collections.ConfigDict(kind.options)
    config.views.update(mapping=16, held_out=0, query=8)
    config.sources.rooms.update(count=_TRAIN_ROOMS.value, keep_images=True)
    config.validation.source.first = FIRST_TEST
    config.validation.update(scenes=_ROOMS.value, steps=0, every=10_000)
    config.steps, config.checkpoint_seconds = STEPS.value, 30.0
    # Whole images, so that features have their neighbours.
    config.pool.update(scenes=2, shortest_life=10, longest_life=30, ahead=2)
    config.query.patches = 512
    config.mapping.steps = 0
    config.transformer_optimizer.warmup = 5
    for name, value in changes.items():
        config[name].update(value) if isinstance(value, dict) else setattr(config, name, value)
    return config


def open_kind(kind: Kind) -> Bench:
    """The test rooms' patches, and what gives those of the training rooms."""
    scenes = open_scenes(rooms_config(kind), "data", WEIGHTS_DIR.value)
    work = Path(WORK.value)
    work.mkdir(parents=True, exist_ok=True)
    # A run that is trained is judged at its end, on one room; the tables judge it on all.
    return Bench(
        dataclasses.replace(scenes, validation=scenes.validation[:1]), scenes.validation, work
    )


def brute_force(work: Path) -> dict[str, np.ndarray]:
    """Shares of poses (V,) that brute-force SIFT finds, by room, and its time for a query."""
    path = work / f"brute-force-{_ROOMS.value}.json"
    if not path.is_file():
        config = rooms_config(KINDS["sift"])
        folder = cache_dir() / "pretrain" / "images"
        source = create_source(config.validation.source, "data", None, folder)
        views, shares, seconds = Views(**config.views), [], []
        for number in range(_ROOMS.value):
            frames = source.images(number, views)
            peer = SiftMatching(frames[: views.mapping])
            queries, began = frames[views.rows("query")], time.perf_counter()
            found = [peer(query)[0] for query in queries]
            seconds.append((time.perf_counter() - began) / len(queries))
            errors_ = pose_errors(found, np.stack([q.world_from_camera for q in queries]))
            within = (errors_.translation <= 0.05) & (errors_.rotation <= 5.0)
            shares.append(100.0 * float(within.mean()))
        path.write_text(json.dumps({"pose_5cm_5deg": shares, "seconds": seconds}))
    return {k: np.array(v) for k, v in json.loads(path.read_text()).items()}


def features(work: Path) -> str:
    """Untrained attention on different features of the same images."""
    peer = brute_force(work)
    rows, found = [], {}
    for name, kind in KINDS.items():
        tried = {tau: f"untrained-{name}-{tau:g}-{_ROOMS.value}" for tau in kind.taus}
        bench = Bench(None, [], work)
        if not all(bench.has(answer) for answer in tried.values()):
            bench = open_kind(kind)
        for tau, answer in tried.items():
            if not bench.has(answer) and bench.scenes is not None:
                config = rooms_config(kind, transformer={"tau": tau})
                form = create_form(config, bench.scenes.extractor.dim)
                bench.evaluate(answer, config, form.init_transformer(jax.random.key(0)))
        figures = {t: f for t, a in tried.items() if (f := bench.figures(a)) is not None}
        if figures:
            tau = max(figures, key=lambda t: figures[t]["pose_5cm_5deg"].mean())
            found[name] = figures[tau]
            cells = [f"{np.nanmean(figures[tau][key]):.1f}" for key in COLUMNS]
            rows.append([kind.label, f"{tau:g}", *cells])
    share = f"{peer['pose_5cm_5deg'].mean():.1f}"
    label = f"brute-force SIFT, PoseLib ({1e3 * np.median(peer['seconds']):.0f} ms a query)"
    rows.append([label, "", share, "", "", ""])
    text = table(["features", "temperature", *COLUMNS.values()], rows)
    differences = [
        [f"{KINDS[name].label} - cells", *_differences(figures, found["cells"])]
        for name, figures in found.items()
        if name != "cells" and "cells" in found
    ]
    return f"{text}\n\n{_difference_table(differences)}"


def _differences(mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> list[str]:
    return [interval(mine[key] - theirs[key]) for key in COMPARED]


def _difference_table(rows: list[list[str]]) -> str:
    return table(["difference, 95 % interval", *(COLUMNS[key] for key in COMPARED)], rows)


CONTEXT = {"blocks": 3, "context": 16}
TRAIN_CODE = 2048  # landmarks in training; codes of all tables have those of `cpu`
ARMS: dict[str, tuple[str, dict[str, object]]] = {
    "context": ("query targets, context", {"transformer": CONTEXT}),
    "query": ("query targets", {}),
    "mapping": ("mapping targets", {"query": {"targets": "mapping"}}),
}


def context(work: Path) -> str:
    """What training is worth, without and with context, on the features of `cpu`."""
    kind = KINDS["sift"]
    bench = open_kind(kind)
    dim = bench.scenes.extractor.dim
    trained, untrained = {}, {}
    for arm, (label, changes) in ARMS.items():
        seeds = []
        for seed in range(_SEEDS.value):
            run = f"keypoints-{arm}-{_TRAIN_ROOMS.value}-{STEPS.value}-{seed}"
            config = rooms_config(kind, seed=seed, **changes)
            answer = f"{run}-in-{_ROOMS.value}"
            if not bench.has(answer):
                small = rooms_config(kind, seed=seed, code={"size": TRAIN_CODE}, **changes)
                bench.evaluate(answer, config, bench.train(run, small))
            if (figures := bench.figures(answer)) is not None:
                seeds.append(figures)
        if seeds:
            trained[label] = {key: np.mean([f[key] for f in seeds], axis=0) for key in COLUMNS}
    for tau in kind.taus:
        name = f"untrained-sift-{tau:g}-{_ROOMS.value}"
        if not bench.has(name):
            config = rooms_config(kind, transformer={"tau": tau})
            form = create_form(config, dim)
            bench.evaluate(name, config, form.init_transformer(jax.random.key(0)))
        if (figures := bench.figures(name)) is not None:
            untrained[f"untrained, temperature {tau:g}"] = figures
    best = max(untrained, key=lambda name: untrained[name]["pose_5cm_5deg"].mean())
    found = {best: untrained[best], **trained}
    rows = [
        [label, *(f"{np.nanmean(figures[key]):.1f}" for key in COLUMNS)]
        for label, figures in found.items()
    ]
    share = f"{brute_force(work)['pose_5cm_5deg'].mean():.1f}"
    rows.append(["brute-force SIFT, PoseLib", share, "", "", ""])
    labels = [label for label in found if label != best]
    pairs = [(label, best) for label in labels]
    pairs += [(a, b) for i, a in enumerate(labels) for b in labels[:i]]
    differences = [
        [f"{a} - {b.split(',')[0] if b == best else b}", *_differences(found[a], found[b])]
        for a, b in pairs
    ]
    text = table(["head", *COLUMNS.values()], rows)
    return f"{text}\n\n{_difference_table(differences)}"


TABLES: dict[str, Callable[[Path], str]] = {"features": features, "context": context}


def main(_: Sequence[str]) -> None:
    """Makes the tables."""
    enable_compilation_cache()
    makers = asked(TABLES, _TABLES.value)
    where, work = stamp(), Path(WORK.value)
    work.mkdir(parents=True, exist_ok=True)
    for name, make in zip(_TABLES.value, makers, strict=True):
        publish(f"keypoints-{name}", f"{make(work)}\n\n{where}.", DOCS.value)


if __name__ == "__main__":
    errors.run(main)
