"""Ablation of SLAM: every mechanism switched off by itself, over all recordings.

  python benchmarks/slam_ablation.py [--data_root DIR] [--docs docs/slam-figures.md]
      [--tables ablation,ablation-synthetic] [--mechanisms "free space,..."] [--starts 1]
      [--out FILE]

Cells are coverage in per cent and ATE RMSE of the final poses in centimetres. A row without a
figure beside it says little by itself: `--starts 3` runs every cell from the first, second and
third frame on, whose spread is what chance does. Results are kept in --out, one line each, and a
run that was cut off goes on there.
"""

import contextlib
import dataclasses
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
from absl import flags
from kitchen import SEQUENCE, SFM_POSES
from machine import stamp
from markdown import asked, publish, table

from ace_jax import errors, runtime
from ace_jax.data.frame import FrameSource, inverse_depth_sigma
from ace_jax.data.registry import open_sequence
from ace_jax.data.subset import SubsetSource
from ace_jax.evaluation.trajectory import Trajectory, compare
from ace_jax.features import registry
from ace_jax.slam.config import FreeSpaceConfig, MovingConfig, SlamConfig
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.mapping.landmark_map import LandmarkMap
from ace_jax.slam.mapping.local_mapping import LocalMapper
from ace_jax.slam.tracking.frame_features import FeatureNoise
from ace_jax.slam.tracking.last_frame import LastFrame
from ace_jax.slam.tracking.moving_features import RecentFrames
from ace_jax.slam.tracking.shutter import RollingShutter
from ace_jax.slam.tracking.tracker import Tracker
from ace_jax.synthetic import sequences

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from stream_faults import FAULTS

_DATA_ROOT = flags.DEFINE_string("data_root", "../shared/data", "folder with 7scenes/, tum/, ...")
_ONLY = flags.DEFINE_list("mechanisms", [], "only these, beside nothing switched off")
_TABLES = flags.DEFINE_list("tables", ["ablation", "ablation-synthetic"], "which tables")
_STARTS = flags.DEFINE_integer("starts", 1, "runs of a cell, each a frame later", lower_bound=1)
_OUT = flags.DEFINE_string("out", "runs/benchmarks/slam_ablation.jsonl", "results so far")
_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose table is replaced")

# Rooms that nobody tuned on.
sequences.ROOMS |= {"room5": sequences.RoomRecipe(21, 5), "room6": sequences.RoomRecipe(22, 6)}
REAL: dict[str, tuple[str, str, dict]] = {
    "kitchen/3": (SEQUENCE, "", {"stride": 3, "poses": SFM_POSES}),
    "kitchen/10": (SEQUENCE, "", {"stride": 10, "poses": SFM_POSES}),
    "fr1_rpy": ("tum/freiburg1_rpy", "", {}),
    "lounge": ("folder/hololens_lounge", "folders", {}),
    "lab": ("folder/realsense_lab", "folders", {}),
}
SYNTHETIC: dict[str, tuple[str, str, dict]] = {
    "room5-noisy": ("synthetic/room5-noisy", "", {"max_frames": 150}),
    "room6-bent": ("synthetic/room6-bent", "", {"max_frames": 150}),
    "room5-movers20": ("synthetic/room5-movers20", "", {"max_frames": 150}),
    "room6-movers40": ("synthetic/room6-movers40", "", {"max_frames": 150}),
    "room5, black": ("synthetic/room5-noisy", "", {"max_frames": 150}),
    "room5, covered": ("synthetic/room5-noisy", "", {"max_frames": 150}),
    "room5, kidnapped": ("synthetic/room5-noisy", "", {"max_frames": 150}),
}
RECORDINGS = REAL | SYNTHETIC
TABLES = {"ablation": REAL, "ablation-synthetic": SYNTHETIC}


def _nothing(*_: object) -> Iterator:
    yield from ()


def _whole_map(self, landmark_map, features, draw, last_landmarks):
    return _RELOCALIZE(self, landmark_map, features, draw, np.full_like(last_landmarks, -1))


_RELOCALIZE = Tracker._relocalize
_OFF = mock.patch.object
# How each is switched off: by the configuration, or by leaving out a step.
MECHANISMS: dict[str, dict | Callable[[], contextlib.AbstractContextManager]] = {
    "-": {},
    "free space": {"free_space": FreeSpaceConfig(max_moved=-1.0)},
    "rival motions": {"moving": MovingConfig(min_rivals=10**6)},
    "moving features (pose)": lambda: _OFF(RecentFrames, "corrected", lambda *_: None),
    "moving features (landmarks)": {"moving": MovingConfig(min_moving=10**6)},
    "well-observed landmarks first": {"moving": MovingConfig(max_drag=np.inf)},
    "dense alignment": lambda: _OFF(LastFrame, "by_pixels", lambda *_: None),
    "features of the last frame": lambda: _OFF(LastFrame, "by_features", lambda *_: None),
    "depth registration": lambda: _OFF(LocalMapper, "_with_planes", lambda *_: []),
    "depth calibration": lambda: _OFF(LocalMapper, "_calibrate_depth", _nothing),
    "no depth at edges": {"planar_radius": 0.0},
    "rolling shutter": lambda: _OFF(
        RollingShutter, "unrolled", lambda self, frame, features, pose=None: features
    ),
    "learned readout": lambda: _OFF(RollingShutter, "learn", lambda *_: None),
    "learned noise": lambda: _OFF(FeatureNoise, "learn", lambda *_: None),
    "local relocalization": lambda: _OFF(Tracker, "_relocalize", _whole_map),
    "keyframes where little is known": {"keyframe_min_tracked": 0},
    "far landmarks": {"min_near_landmarks": 0},
    "several appearances": {"descriptors_per_landmark": 1},
    "view direction": {"max_view_angle": float(np.pi)},
    "scale change": {"max_scale_change": 1e6},
    "ratio test": {"match_ratio": 1.0},
    "final adjustment": lambda: _OFF(LocalMapper, "settle", _nothing),
    "culling": lambda: _OFF(LandmarkMap, "cull", lambda *_: None),
    "fusing": lambda: _OFF(LocalMapper, "_fuse", _nothing),
    "bundle adjustment": lambda: _OFF(LocalMapper, "adjust", _nothing),
}


def _source(name: str, start: int) -> FrameSource:
    sequence, folder, options = RECORDINGS[name]
    root = Path(_DATA_ROOT.value)
    options = dict(options)
    if "poses" in options:
        options["poses"] = str(root / options["poses"])
    source = open_sequence(sequence, root / folder, **options)
    if hasattr(source, "prepare"):
        source.prepare()
    source = SubsetSource(source, start=start) if start else source
    _, _, fault = name.partition(", ")
    return FAULTS[fault](source) if fault else source


def _run(source: FrameSource, changes: dict, frames: list) -> dict:
    config = SlamConfig(**changes)
    sigma = inverse_depth_sigma(source)
    if sigma is not None:
        config = dataclasses.replace(config, inverse_depth_sigma=sigma)
    slam = LandmarkSlam(
        source.camera, registry.create("blobs"), config, mapping_lag=config.mapping_lag
    )
    for index, frame in enumerate(frames):
        slam.process(dataclasses.replace(frame, world_from_camera=None, index=index))
    slam.finish()
    times, poses = slam.final_trajectory()
    truth = source.poses()
    found = {"coverage": len(times) / len(frames), "keyframes": len(slam.landmark_map.keyframes)}
    if truth is not None and len(times) > 2:
        reference = Trajectory(np.array([f.timestamp for f in frames]), truth)
        found_errors = compare(Trajectory(times, poses), reference)
        found["ate"] = found_errors.ate_rmse_m
    return found


def main(_: Sequence[str]) -> None:
    """Runs what is not there yet and prints the table."""
    runtime.enable_compilation_cache()
    out = Path(_OUT.value)
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = out.read_text().splitlines() if out.exists() else []
    known = {(r["mechanism"], r["recording"], r["start"]): r for r in map(json.loads, lines)}
    chosen = [m for m in MECHANISMS if not _ONLY.value or m == "-" or m in _ONLY.value]
    tables = dict(zip(_TABLES.value, asked(TABLES, _TABLES.value), strict=True))
    recordings = [name for table_rows in tables.values() for name in table_rows]
    for start, name in itertools.product(range(_STARTS.value), recordings):
        frames = None
        for mechanism in chosen:
            if (mechanism, name, start) in known:
                continue
            if frames is None:
                source = _source(name, start)
                frames = [source[i] for i in range(len(source))]
            switch = MECHANISMS[mechanism]
            with contextlib.nullcontext() if isinstance(switch, dict) else switch():
                found = _run(source, switch if isinstance(switch, dict) else {}, frames)
            row = {"mechanism": mechanism, "recording": name, "start": start} | found
            known[mechanism, name, start] = row
            with out.open("a") as file:
                print(json.dumps(row), file=file)
            print(json.dumps(row), flush=True)
    starts = f"{_STARTS.value} start{'s' if _STARTS.value > 1 else ''}"
    for title, columns in tables.items():
        rows = [[m, *(_cell(known, m, name) for name in columns)] for m in chosen]
        text = f"{table(['without', *columns], rows)}\n\n{stamp()}; {starts}."
        publish(title, text, _DOCS.value)


def _cell(known: dict, mechanism: str, recording: str) -> str:
    """Coverage in per cent, and the error in centimetres; over several starts the median."""
    rows = [known[mechanism, recording, start] for start in range(_STARTS.value)]
    coverage = f"{100 * np.median([row['coverage'] for row in rows]):.0f}"
    errors_m = [row["ate"] for row in rows if "ate" in row]
    return f"{coverage}, {100 * np.median(errors_m):.2f}" if errors_m else coverage


if __name__ == "__main__":
    errors.run(main)
