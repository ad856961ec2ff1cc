"""The numbers of a comparison, for people and for programs."""

import dataclasses
from typing import Any

from ace_jax.evaluation.trajectory import Statistics, Trajectory, TrajectoryErrors

_ROWS = (
    ("ATE (cm)", "ate_trans_m", 100.0),
    ("ATE rotation (deg)", "ate_rot_deg", 1.0),
    ("RPE (cm)", "rpe_trans_m", 100.0),
    ("RPE rotation (deg)", "rpe_rot_deg", 1.0),
)
_STATISTICS = tuple(field.name for field in dataclasses.fields(Statistics))


def errors_table(
    result: TrajectoryErrors,
    estimate: Trajectory,
    reference: Trajectory,
    delta: int = 1,
    frames: int | None = None,
) -> str:
    """A table for the terminal: how much was compared, then a row per kind of error.

    Args:
        result: of `compare(estimate, reference)`.
        estimate: the poses in question.
        reference: the true ones.
        delta: that `compare` was given.
        frames: of the recording, if known; gives the coverage.
    """
    poses, matched = int(estimate.known.sum()), len(result.estimate_index)
    coverage = f"{poses / frames:.1%} of {frames} frames" if frames else "unknown (give --frames N)"
    lines = [
        f"{'poses':<20}{poses}, {matched} of them matched to {int(reference.known.sum())}",
        f"{'coverage':<20}{coverage}",
        "",
        f"{'':<20}" + "".join(f"{name:>10}" for name in _STATISTICS),
    ]
    for label, name, scale in _ROWS:
        statistics = dataclasses.astuple(Statistics.of(getattr(result, name) * scale))
        lines.append(f"{label:<20}" + "".join(f"{value:>10.4f}" for value in statistics))
    lines += [
        "",
        f"SE(3)-aligned, no scale; RPE over {delta} pose{'s' if delta > 1 else ''}, unaligned",
    ]
    return "\n".join(lines)


def errors_summary(
    result: TrajectoryErrors, estimate: Trajectory, frames: int | None = None
) -> dict[str, Any]:
    """The same numbers by name, in metres and degrees; the arguments are those of the table."""
    poses = int(estimate.known.sum())
    return {
        "poses": poses,
        "matched": len(result.estimate_index),
        "frames": frames,
        "coverage": poses / frames if frames else None,
        "reference_from_estimate": result.reference_from_estimate,
        **{name: dataclasses.asdict(Statistics.of(getattr(result, name))) for _, name, _ in _ROWS},
    }
