"""Output files of a run: trajectory, points, plot and metrics, each complete or absent."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ace_jax.evaluation.trajectory import NoOverlap, Statistics, Trajectory, compare
from ace_jax.files import replacing
from ace_jax.slam.reporting.stage_times import WARM_UP_FRAMES


def write_points_ply(path: str | Path, xyz: np.ndarray, rgb: np.ndarray | None = None) -> None:
    """Writes a point cloud as binary PLY; points that are not finite are left out.

    Args:
        path: the file.
        xyz: (N, 3) metres.
        rgb: (N, 3) uint8 colours, or None.
    """
    xyz = np.asarray(xyz, np.float32).reshape(-1, 3)
    fields = [(axis, "<f4") for axis in "xyz"]
    if rgb is not None:
        rgb = np.asarray(rgb, np.uint8).reshape(-1, 3)
        if len(rgb) != len(xyz):
            raise ValueError(f"{len(rgb)} colours for {len(xyz)} points")
        fields += [(channel, "u1") for channel in ("red", "green", "blue")]
    finite = np.isfinite(xyz).all(1)
    vertices = np.empty(int(finite.sum()), fields)
    columns = xyz[finite].T if rgb is None else (*xyz[finite].T, *rgb[finite].T)
    for (name, _), column in zip(fields, columns, strict=True):
        vertices[name] = column
    kinds = {"<f4": "float", "u1": "uchar"}
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(vertices)}",
        *(f"property {kinds[kind]} {name}" for name, kind in fields),
        "end_header",
    ]
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(("\n".join(header) + "\n").encode("ascii"))
        file.write(vertices.tobytes())


def trajectory_metrics(
    *,
    sequence: str,
    frames: int,
    estimate: Trajectory,
    live: Trajectory,
    ground_truth: Trajectory | None,
    frame_seconds: Sequence[float],
    stage_ms: Mapping[str, np.ndarray],
    map_bytes: int,
    head: str,
    features: str,
    seed: int,
) -> dict[str, Any]:
    """The fields of `metrics.json`.

    Errors are None without a ground truth that overlaps. `ate_*` are after SE(3) alignment of the
    trajectory in question, `rpe_*` the RMSE from one tracked frame to the next. The first two
    frames, which compile, are left out of `fps`, `ms_*` and `stage_ms`, and told as `start_s`.

    Args:
        sequence: its name, as given on the command line.
        frames: how many frames were processed, unreadable ones included.
        estimate: final poses; NaN or absent where a frame was not tracked.
        live: each frame's pose as known when it was processed.
        ground_truth: reference poses of the same stream, or None.
        frame_seconds: processing time of each frame, in order.
        stage_ms: see `StageTimes.by_stage`.
        map_bytes: size of the map file.
        head: name of the head.
        features: name of the features.
        seed: of the run.
    """
    tracked = int(live.known.sum())
    final_errors, live_errors = (_compare(t, ground_truth) for t in (estimate, live))
    seconds = np.asarray(frame_seconds, np.float64)
    warm = seconds[WARM_UP_FRAMES:]

    def summary(errors: Any, name: str) -> Statistics | None:
        return None if errors is None else Statistics.of(getattr(errors, name))

    ate = summary(final_errors, "ate_trans_m")
    ate_live = summary(live_errors, "ate_trans_m")
    rpe_trans = summary(final_errors, "rpe_trans_m")
    rpe_rot = summary(final_errors, "rpe_rot_deg")
    return {
        "sequence": sequence,
        "frames": frames,
        "frames_tracked": tracked,
        "coverage": tracked / frames if frames else 0.0,
        "ate_rmse_m": ate and ate.rmse,
        "ate_live_rmse_m": ate_live and ate_live.rmse,
        "ate_max_m": ate and ate.max,
        "ate_median_m": ate and ate.median,
        "rpe_trans_m": rpe_trans and rpe_trans.rmse,
        "rpe_rot_deg": rpe_rot and rpe_rot.rmse,
        "fps": float(1 / warm.mean()) if warm.size and warm.mean() > 0 else None,
        "ms_p50": _percentile(1e3 * warm, 50),
        "ms_p95": _percentile(1e3 * warm, 95),
        "start_s": float(seconds[:WARM_UP_FRAMES].sum()),
        "stage_ms": {
            name: {
                "p50": _percentile(times, 50),
                "p95": _percentile(times, 95),
                "runs": len(times),
            }
            for name, times in stage_ms.items()
        },
        "map_bytes": map_bytes,
        "head": head,
        "features": features,
        "seed": seed,
    }


def realtime_metrics(processed: int, late: int, latencies: Sequence[float]) -> dict[str, Any]:
    """Fields of `metrics.json` for a recording that was played at its own speed.

    Args:
        processed: frames that were taken.
        late: frames that came while too many others were in work.
        latencies: seconds from a frame's arrival (before it is decoded) to its pose.
    """
    seconds = np.asarray(latencies, np.float64)
    frames = processed + late
    return {
        "realtime": True,
        "frames_late": late,
        "processed_share": processed / frames if frames else 0.0,
        "latency_ms_p50": _percentile(1e3 * seconds, 50),
        "latency_ms_p95": _percentile(1e3 * seconds, 95),
        "latency_ms_max": _percentile(1e3 * seconds, 100),
    }


def plot_trajectory(
    path: str | Path,
    estimate: Trajectory,
    ground_truth: Trajectory | None = None,
    title: str = "",
) -> None:
    """Draws the trajectory from above and from the side (`ace_jax.evaluation.plots`)."""
    from ace_jax.evaluation.plots import (  # Matplotlib takes a while to import
        save_figure,
        trajectory_figure,
    )

    save_figure(path, trajectory_figure(estimate, ground_truth, title))


def _compare(estimate: Trajectory, ground_truth: Trajectory | None) -> Any:
    """The errors, or None where there is nothing to compare with."""
    if ground_truth is None:
        return None
    try:
        return compare(estimate, ground_truth)
    except NoOverlap:
        return None


def _percentile(values: np.ndarray, percent: float) -> float | None:
    return float(np.percentile(values, percent)) if len(values) else None
