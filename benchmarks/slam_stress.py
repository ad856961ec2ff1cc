"""SLAM in hard conditions: real time, loops, look-alike rooms, kidnapping, movers.

  python benchmarks/slam_stress.py [--tables realtime,loops,kidnap,movers]
      [--skip noisy] [--data_root DIR] [--quick] [--docs docs/slam-figures.md]

As `slam.py`: every number comes from `python -m ace_jax.slam`. The synthetic sequences are rendered
before their first run, which takes minutes (see `python -m ace_jax.synthetic --help`).
"""

import re
from collections.abc import Callable, Sequence

import numpy as np
from absl import flags
from kitchen import SEQUENCE, SFM_POSES
from slam_runs import (
    FALSE_POSE,
    Row,
    Runner,
    Runs,
    false_poses,
    figures,
    make_tables,
    quick,
    rows_table,
)

from ace_jax import errors
from ace_jax.evaluation.files import read_trajectory
from ace_jax.evaluation.trajectory import Trajectory, compare
from ace_jax.synthetic.movers import COVERAGES

FOUND_WITHIN = 3  # frames after a teleport
MAPPED_FRAME = 1e-6  # seconds by which times of two files may differ

_TABLES = flags.DEFINE_list("tables", ["realtime", "loops", "kidnap", "movers"], "which tables")
_SKIP = flags.DEFINE_list("skip", [], "leave out rows whose sequence contains one of these words")


def _asked(rows: list[Row]) -> list[Row]:
    return [row for row in rows if not any(word in row.sequence for word in _SKIP.value)]


def _real_rows() -> list[Row]:
    return [
        Row("redkitchen 0-799", SEQUENCE, frames=800, poses=SFM_POSES),
        Row("TUM fr1_rpy, first 4 s", "tum/freiburg1_rpy"),
    ]


def realtime(run: Runner) -> str:
    """Recordings played at their own speed, beside the same run without a clock."""

    def played(row: Row) -> Row:
        return Row(
            f"{row.label}, real time",
            row.sequence,
            frames=row.frames,
            poses=row.poses,
            extra=("--realtime",),
        )

    offline = {played(row).label: row for row in _real_rows()}

    def cells(runs: Runs) -> list[str]:
        return [
            figures(runs.values("processed_share"), 1, 100),
            figures(runs.values("latency_ms_p50"), 1),
            figures(runs.values("latency_ms_p95"), 1),
            figures(runs.values("ate_rmse_m"), 2, 100),
            figures(runs.values("ate_live_rmse_m"), 2, 100),
            figures(run(offline[runs.row.label]).values("ate_rmse_m"), 2, 100),
        ]

    header = ["recording", "processed %", "latency ms p50", "p95", "ATE RMSE cm", "live"]
    rows = [played(row) for row in _real_rows()]
    return rows_table([*header, "ATE without a clock"], rows, run, cells)


def _path_length(row: Row) -> float:
    source = row.open()
    centres = source.poses()[:, :3, 3]
    return float(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum())


def _shift_between_rounds(runs: Runs) -> list[float]:
    """How far two rounds of the same path lie apart at most in each run, on average, metres."""
    rounds = re.search(r"-loops(\d+)", runs.row.sequence)
    if rounds is None:
        return []
    source = runs.row.open()
    truth = Trajectory(source.timestamps(), source.poses())
    shifts = []
    for folder in runs.folders:
        estimate = read_trajectory(folder / "trajectory.tum", 30.0)
        found = compare(estimate, truth)
        centres = estimate.world_from_camera[found.estimate_index, :3, 3]
        rotation, translation = np.split(found.reference_from_estimate[:3], [3], axis=1)
        error = centres @ rotation.T + translation.T
        error -= truth.world_from_camera[found.reference_index, :3, 3]
        count = int(rounds[1])
        round_of = found.reference_index * count // len(source)
        means = np.stack([error[round_of == i].mean(0) for i in range(count)])
        shifts.append(float(np.linalg.norm(means[:, None] - means, axis=2).max()))
    return shifts


def loops(run: Runner) -> str:
    """Long paths with and without loop closing, the same path ten times, rooms that look alike."""
    rows = [
        Row("corridor and rooms", "synthetic/corridor"),
        Row("the same, no loop closing", "synthetic/corridor", extra=("--noclose_loops",)),
        Row("room0, ten rounds", "synthetic/room0-loops10"),
        Row("room0, ten rounds, noisy", "synthetic/room0-loops10-noisy"),
        Row("20 rooms that look alike", "synthetic/alike"),
    ]

    def cells(runs: Runs) -> list[str]:
        length = _path_length(runs.row)
        return [
            str(runs.metrics[0]["frames"]),
            f"{length:.0f}",
            figures(runs.values("coverage"), 1, 100),
            figures(runs.values("ate_rmse_m"), 2, 100),
            figures(runs.values("ate_rmse_m"), 2, 100 / length),
            figures(runs.values("ate_live_rmse_m"), 2, 100),
            figures(runs.values("loops_closed"), 0),
            figures(_shift_between_rounds(runs), 2, 100),
        ]

    header = ["sequence", "frames", "path m", "coverage %", "ATE RMSE cm", "% of the path", "live"]
    header += ["loops closed", "shift between rounds cm"]
    return rows_table(header, _asked(rows), run, cells)


def kidnap(run: Runner) -> str:
    """Teleports within the map: how soon the camera is found, and whether it ever is elsewhere.

    Two rounds are mapped; the camera then jumps to pictures of later rounds, a little off them.
    """
    rows = [
        Row("room0, 50 teleports", "synthetic/room0-loops10-kidnap"),
        Row("room0, noisy, 50 teleports", "synthetic/room0-loops10-noisy-kidnap"),
    ]

    def cells(runs: Runs) -> list[str]:
        source = runs.row.open()
        jumps = source.teleports
        times, poses = source.timestamps(), source.poses()
        soon, false = [], []
        for folder in runs.folders:
            live = read_trajectory(folder / "trajectory_live.tum", 30.0)
            errors_m = np.full(len(times), np.nan)
            place = np.searchsorted(times, live.timestamps - MAPPED_FRAME)
            errors_m[place] = compare(live, Trajectory(times, poses)).ate_trans_m
            after = np.stack([errors_m[jump : jump + FOUND_WITHIN] for jump in jumps])
            soon.append(float(np.mean(np.any(after < FALSE_POSE, axis=1))))
            false.append(float(np.sum(errors_m[jumps[0] :] >= FALSE_POSE)))
        return [
            figures(soon, 0, 100),
            figures(false, 0),
            figures(runs.values("coverage"), 1, 100),
            figures(runs.values("ate_live_rmse_m"), 2, 100),
        ]

    header = ["sequence", f"found within {FOUND_WITHIN} frames %", "false poses"]
    return rows_table([*header, "coverage %", "live ATE RMSE cm"], _asked(rows), run, cells)


def movers(run: Runner) -> str:
    """People who walk through the picture, by the share of the image that they cover on average."""
    walks = {"nobody": "", **{f"{share} %": f"-movers{share}" for share in COVERAGES}}
    rows = [
        Row(f"{room}, {share}", f"synthetic/{room}{people}")
        for room in ("room0", "room1", "room2")
        for share, people in walks.items()
    ]

    def cells(runs: Runs) -> list[str]:
        source = runs.row.open()
        return [
            figures(runs.values("coverage"), 1, 100),
            figures(runs.values("ate_rmse_m"), 2, 100),
            figures(runs.values("ate_live_rmse_m"), 2, 100),
            figures(false_poses(runs, Trajectory(source.timestamps(), source.poses())), 0),
        ]

    header = ["room, part of the image with people", "in the main map %", "ATE RMSE cm", "live"]
    header += ["false poses in all maps"]
    return rows_table(header, _asked(rows), run, cells)


TABLES: dict[str, Callable[[Runner], str]] = {
    "realtime": realtime,
    "loops": loops,
    "kidnap": kidnap,
    "movers": movers,
}


def main(_: Sequence[str]) -> None:
    """Makes the tables."""
    if quick() and "kidnap" in _TABLES.value:
        raise errors.UserError("the table kidnap has no teleport in its first frames: omit it")
    make_tables(TABLES, _TABLES.value)


if __name__ == "__main__":
    errors.run(main)
