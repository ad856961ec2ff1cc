"""SLAM with its defaults on every recording: coverage, false poses and accuracy.

  python benchmarks/slam_everywhere.py [--tables recordings,hard] [--data_root DIR]
      [--docs docs/slam-figures.md]

As `slam.py`: every number comes from `python -m ace_jax.slam`. Beside it stands Open3D's RGB-D
odometry on the same frames where Open3D is installed (`pip install open3d`).
"""

from collections.abc import Callable, Sequence

import numpy as np
from absl import flags
from kitchen import SEQUENCE, SFM_POSES
from slam_peers import odometry
from slam_runs import Row, Runner, Runs, false_poses, figures, make_tables, rows_table

from ace_jax import errors
from ace_jax.data.frame import FrameSource
from ace_jax.evaluation.trajectory import Trajectory, compare
from ace_jax.slam.reporting.mesh import require_open3d

_TABLES = flags.DEFINE_list("tables", ["recordings", "hard"], "which tables")


_ORDINALS = {2: "second", 3: "third", 6: "sixth", 10: "tenth"}


def _strides(label: str, sequence: str, strides: Sequence[int], **options) -> list[Row]:
    return [
        Row(
            label + (f", every {_ORDINALS[stride]} frame" if stride > 1 else ""),
            sequence,
            stride=stride,
            **options,
        )
        for stride in strides
    ]


RECORDINGS = [
    *_strides(
        "redkitchen 0-799",
        SEQUENCE,
        (1, 3, 6, 10),
        poses=SFM_POSES,
    ),
    *_strides("TUM fr1_rpy, 4 s", "tum/freiburg1_rpy", (1, 3)),
    *_strides("hololens_lounge", "folder/folders/hololens_lounge", (1, 2, 3)),
    *_strides("realsense_lab", "folder/folders/realsense_lab", (1, 2, 3)),
]
HARD = [
    Row("room1, noisy", "synthetic/room1-noisy"),
    *(
        Row(f"{room}, 5 frames/s", f"synthetic/{room}-noisy", stride=6)
        for room in ("room0", "room1")
    ),
    *(Row(f"{room}, bare", f"synthetic/{room}-bare-noisy") for room in ("room0", "room1", "room2")),
    *(Row(f"{room}, light fails", f"synthetic/{room}-noisy-dark") for room in ("room0", "room1")),
    *(Row(f"{room}, shaken", f"synthetic/{room}-noisy-shaken") for room in ("room0", "room2")),
    Row("room0 twice, 2 s gaps", "synthetic/room0-loops2-noisy-gaps"),
    Row("corridor, 2 s gaps", "synthetic/corridor-gaps"),
]


def _odometry_ate(source: FrameSource, truth: Trajectory | None) -> str:
    if truth is None:
        return "-"
    try:
        require_open3d()
        poses = list(odometry(source))
    except errors.UserError:
        return "-"
    except RuntimeError:  # Open3D's way to say that it is lost
        return "lost"
    found = compare(Trajectory(source.timestamps(), np.stack(poses)), truth)
    return f"{100 * found.ate_rmse_m:.1f}"


def _table(rows: list[Row]) -> Callable[[Runner], str]:
    def make(run: Runner) -> str:
        def cells(runs: Runs) -> list[str]:
            source = runs.row.open(with_poses=True)
            poses = source.poses()
            truth = None if poses is None else Trajectory(source.timestamps(), poses)
            maps = [entries["maps"] for entries in runs.metrics]
            return [
                str(runs.metrics[0]["frames"]),
                figures(runs.values("coverage"), 1, 100),
                figures([sum(entry["frames_tracked"] for entry in m[1:]) for m in maps], 0),
                figures(false_poses(runs, truth), 0),
                *(
                    figures([v for v in runs.values(name) if np.isfinite(v)], 2, 100)
                    for name in ("ate_rmse_m", "ate_live_rmse_m")
                ),
                figures(runs.values("ms_p50"), 0),
                _odometry_ate(source, truth),
            ]

        header = ["recording", "frames", "in the main map %", "frames in others", "false poses"]
        header += ["ATE RMSE cm", "live", "ms p50", "Open3D odometry, ATE cm"]
        return rows_table(header, rows, run, cells)

    return make


TABLES: dict[str, Callable[[Runner], str]] = {
    "recordings": _table(RECORDINGS),
    "hard": _table(HARD),
}


def main(_: Sequence[str]) -> None:
    """Makes the tables."""
    make_tables(TABLES, _TABLES.value)


if __name__ == "__main__":
    errors.run(main)
