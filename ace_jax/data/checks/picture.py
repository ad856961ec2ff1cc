"""Diagnostic picture of a check: depth edges over colour, reprojected points, camera path."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ace_jax.data.checks.motion import Matches, landing
from ace_jax.data.checks.registration import near_edges
from ace_jax.data.frame import Frame


def figure(
    frames: dict[int, Frame], poses: np.ndarray | None, matches: Matches | None, text: str
) -> Figure:
    """Four panels.

    Args:
        frames: by number.
        poses: (N, 4, 4), NaN where missing, or None.
        matches: between frames, or None.
        text: the report.
    """
    result = Figure(figsize=(13, 9), layout="constrained")
    FigureCanvasAgg(result)
    panels = result.subplots(2, 2)
    _edges(panels[0, 0], frames)
    _landing(panels[0, 1], frames, poses, matches)
    _path(panels[1, 0], poses)
    panels[1, 1].axis("off")
    lines = [wrapped for line in text.splitlines() for wrapped in textwrap.wrap(line, 88) or [""]]
    panels[1, 1].text(0, 1, "\n".join(lines), va="top", family="monospace", fontsize=7)
    return result


def _edges(axes: Axes, frames: dict[int, Frame]) -> None:
    axes.axis("off")
    with_depth = [frame for frame in frames.values() if frame.depth is not None]
    shown = with_depth or list(frames.values())
    if not shown:
        axes.set_title("no frame can be read")
        return
    edges = [near_edges(frame.depth) if frame.depth is not None else None for frame in shown]
    best = int(np.argmax([0 if e is None else e.sum() for e in edges]))
    axes.imshow(shown[best].rgb)
    axes.set_title(f"{shown[best].name}")
    if edges[best] is not None:
        v, u = np.nonzero(edges[best])
        axes.scatter(u, v, s=0.5, c="red", linewidths=0)
        axes.set_title(f"{shown[best].name}: red depth edges should lie on image edges", fontsize=8)


def _landing(
    axes: Axes, frames: dict[int, Frame], poses: np.ndarray | None, matches: Matches | None
) -> None:
    axes.axis("off")
    if poses is None or matches is None or matches.depth is None:
        axes.set_title("no matched points with poses and depth")
        return
    uv, known = landing(matches, poses)
    distances = np.linalg.norm(uv - matches.uv_second, axis=1)
    medians = [
        np.median(distances[(matches.pair == p) & known])
        if ((matches.pair == p) & known).any()
        else np.inf
        for p in range(len(matches.first))
    ]
    typical = int(np.argsort(medians)[len(medians) // 2])
    chosen = (matches.pair == typical) & known
    frame = frames[int(matches.second[typical])]
    axes.imshow(frame.rgb)
    target, landed = matches.uv_second[chosen], uv[chosen]
    inside = (np.abs(landed - target) < frame.camera.width / 3).all(axis=1)
    for a, b in zip(target[inside], landed[inside], strict=True):
        axes.plot(*np.stack([a, b], 1), c="red", lw=0.7)
    axes.scatter(*target.T, s=3, c="lime", linewidths=0)
    axes.set_xlim(0, frame.camera.width)
    axes.set_ylim(frame.camera.height, 0)
    axes.set_title(
        f"{frame.name}: points of {frames[int(matches.first[typical])].name} (green) and where\n"
        f"pose and depth put them (red), median {medians[typical]:.1f} px",
        fontsize=8,
    )


def _path(axes: Axes, poses: np.ndarray | None) -> None:
    if poses is None or not np.isfinite(poses).all(axis=(1, 2)).any():
        axes.axis("off")
        axes.set_title("no poses")
        return
    centres = poses[:, :3, 3]
    spread = np.nanvar(centres, axis=0)
    first, second = sorted(np.argsort(spread)[-2:])  # the plane in which the camera moves most
    axes.plot(centres[:, first], centres[:, second], lw=0.8, c="0.6")
    axes.scatter(centres[:, first], centres[:, second], s=4, c=np.arange(len(centres)))
    axes.set_aspect("equal", "datalim")
    axes.set_xlabel(f"{'xyz'[first]}, m")
    axes.set_ylabel(f"{'xyz'[second]}, m")
    axes.set_title("camera centres; lines without points between are gaps", fontsize=8)
