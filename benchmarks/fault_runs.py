"""SLAM on faulty streams: coverage, accuracy, frames to recovery, false recoveries."""

import contextlib
import dataclasses
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ace_jax.data.frame import FrameSource
from ace_jax.evaluation.trajectory import Trajectory, compare
from ace_jax.geometry.rigid import invert
from ace_jax.slam.run import SystemOptions, create_system, run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from stream_faults import FAULTS

FALSE_POSE = 0.1  # metres; a pose that far off is a false one
WITHIN = 10  # frames in which a camera has to be found again


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a fault did to SLAM.

    Attributes:
        coverage: share of frames with a pose.
        disturbed_coverage: the same of the disturbed frames; NaN without any.
        ate_m: ATE RMSE of the final poses.
        live_m: of the live ones.
        recovery: for each end of a disturbance (or jump), frames until a pose that is right, the
            first frame being 1; infinite where there is none within `WITHIN`.
        false_recoveries: first poses after a loss that are off by more than `FALSE_POSE`.
        false_poses: all live poses that are.
    """

    coverage: float
    disturbed_coverage: float
    ate_m: float
    live_m: float
    recovery: list[float]
    false_recoveries: int
    false_poses: int

    def cells(self) -> list[str]:
        """A row of the table."""
        disturbed = self.disturbed_coverage
        worst = max(self.recovery, default=np.nan)
        return [
            f"{100 * self.coverage:.1f}",
            "-" if np.isnan(disturbed) else f"{100 * disturbed:.0f}",
            f"{100 * self.ate_m:.2f}",
            f"{100 * self.live_m:.2f}",
            "-" if np.isnan(worst) else "never" if np.isinf(worst) else f"{worst:.0f}",
            f"{self.false_recoveries}",
            f"{self.false_poses}",
        ]


HEADER = ["fault", "coverage %", "of the disturbed frames %", "ATE RMSE cm", "live",
          "frames to recovery, worst", "false recoveries", "false poses"]  # fmt: skip


def _recovery(right: np.ndarray, starts: Iterator[int]) -> list[float]:
    found = [np.flatnonzero(right[start : start + WITHIN]) for start in starts]
    return [float(places[0] + 1) if len(places) else np.inf for places in found]


def _outcome(source: FrameSource, system, metrics: dict) -> Outcome:
    tracked = [f for f in system.frames if system.poses.corrected(f) is not None]
    # By number, not by time: stamps may stand still or go back.
    numbers = np.array([f.index for f in tracked])
    live = np.stack([invert(f.live_camera_from_world) for f in tracked])
    final = np.stack([invert(system.poses.corrected(f)) for f in tracked])
    truth = Trajectory(np.arange(len(source), dtype=float), source.poses())
    errors = np.full(len(source), np.nan)
    live_errors = compare(Trajectory(numbers.astype(float), live), truth)
    errors[numbers] = live_errors.ate_trans_m
    final_errors = compare(Trajectory(numbers.astype(float), final), truth)
    has_pose = np.isin(np.arange(len(source)), numbers)
    first = has_pose & ~np.append(True, has_pose[:-1])
    disturbed = getattr(source, "disturbed", np.zeros(len(source), bool))
    ends = [*np.flatnonzero(disturbed[:-1] & ~disturbed[1:]) + 1, *getattr(source, "jumps", [])]
    false = errors > FALSE_POSE
    return Outcome(
        coverage=metrics["coverage"],
        disturbed_coverage=float(has_pose[disturbed].mean()) if disturbed.any() else np.nan,
        ate_m=final_errors.ate_rmse_m,
        live_m=live_errors.ate_rmse_m,
        recovery=_recovery(errors < FALSE_POSE, iter(ends)),
        false_recoveries=int((false & first).sum()),
        false_poses=int(false.sum()),
    )


def outcome(source: FrameSource, weights_dir: str | None) -> Outcome:
    """Runs SLAM with its default settings."""
    system = create_system(source, SystemOptions(weights_dir=weights_dir))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        metrics = run(source, system, Path(folder)).metrics
    return _outcome(source, system, metrics)


def rows(
    source: FrameSource, weights_dir: str | None, more: dict[str, FrameSource] | None = None
) -> Iterator[list[str]]:
    """A row for each fault, after one for none."""
    sources: dict[str, FrameSource] = {"none": source}
    for make in FAULTS.values():
        faulty = make(source)
        sources[faulty.name.removeprefix(f"{source.name}, ")] = faulty
    for title, each in (sources | (more or {})).items():
        cells = [title, *outcome(each, weights_dir).cells()]
        print(cells, file=sys.stderr, flush=True)
        yield cells
