"""What a SLAM run says at its end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def summary(metrics: Mapping[str, Any], out: Path) -> str:
    """A few lines for the terminal: how much was tracked, how well, how fast, and where it is."""
    lines = [
        f"{metrics['sequence']}: {metrics['frames_tracked']} of {metrics['frames']} frames tracked"
        f" ({100 * metrics['coverage']:.1f} %), {metrics['features']} features, {metrics['head']}"
    ]
    if metrics["ate_rmse_m"] is not None:
        lines.append(
            f"ATE RMSE {_cm(metrics['ate_rmse_m'])} cm final, {_cm(metrics['ate_live_rmse_m'])} cm"
            f" live, {_cm(metrics['ate_max_m'])} cm at most"
        )
    if metrics["ms_p50"] is not None:
        lines.append(
            f"{metrics['ms_p50']:.1f} ms a frame (95 %: {metrics['ms_p95']:.1f} ms),"
            f" {metrics['fps']:.1f} frames/s; map {metrics['map_bytes'] / 1e6:.2f} MB"
        )
    lines.append(f"results in {out}")
    return "\n".join(lines)


def _cm(metres: float) -> str:
    return f"{100 * metres:.2f}"
