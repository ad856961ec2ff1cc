"""The report of a SLAM run: a few lines for the terminal, and an HTML page."""

import dataclasses
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ace_jax.data.frame import BadFrame, FrameSource
from ace_jax.evaluation import pictures
from ace_jax.evaluation.trajectory import NoOverlap, Trajectory, compare
from ace_jax.geometry.rigid import invert
from ace_jax.slam.reporting.explored import SampledFrames, explored
from ace_jax.slam.reporting.losses import told
from ace_jax.slam.reporting.stage_times import WARM_UP_FRAMES

if TYPE_CHECKING:
    from ace_jax.evaluation.page import Section
    from ace_jax.slam.landmark_slam import LandmarkSlam, TrackedFrame

_PICTURES = 6
_MAX_LOST = 3  # of the pictures
_APART = 15  # frames between two pictures: a bad stretch is shown once


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
    lines += told(metrics)
    lines.append(f"results in {out}")
    return "\n".join(lines)


def _cm(metres: float) -> str:
    return f"{100 * metres:.2f}"


def write_report(
    out: Path,
    source: FrameSource,
    system: "LandmarkSlam",
    samples: SampledFrames,
    metrics: Mapping[str, Any],
    frame_seconds: Sequence[float],
    stage_ms: Mapping[str, np.ndarray],
    reference: Trajectory | None,
) -> None:
    """Writes `report.html` into a run's folder.

    Args:
        out: the folder.
        source: the recording; images of some frames are read again.
        system: after the run.
        samples: what frames saw.
        metrics: as in `metrics.json`.
        frame_seconds: processing time of each frame, in order.
        stage_ms: milliseconds by stage, of the frames in which it ran.
        reference: ground truth, or None.
    """
    # Matplotlib takes a while to import.
    from ace_jax.evaluation import page
    from ace_jax.evaluation.charts import map_figure, timing_figure
    from ace_jax.evaluation.explorer import explorer
    from ace_jax.evaluation.page import Section, drawing
    from ace_jax.evaluation.plots import trajectory_figure

    total_ms = np.asarray(frame_seconds[WARM_UP_FRAMES:]) * 1e3
    steps = np.diff(source.timestamps())
    budget = float(np.median(steps)) * 1e3 if len(steps) else None
    config = getattr(system, "config", None)
    settings = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else {}
    known = {name: metrics[name] for name in ("sequence", "head", "features", "seed")}
    final = Trajectory(*system.final_trajectory())
    picture = drawing(
        map_figure(*system.points(), final.world_from_camera),
        "the map, from above and from an angle",
    )
    sections = [
        Section(
            "Map and frames",
            explorer(explored(source, system, samples, reference), picture),
            "Drag to turn, scroll to zoom, click a camera to choose its frame.",
        )
    ]
    if told(metrics):
        lines = "<br>".join(html.escape(line) for line in told(metrics))
        sections.append(Section("Tracked and lost", [f"<p>{lines}</p>"]))
    if len(final):
        shown = drawing(trajectory_figure(final, reference), "the trajectory from two sides")
        sections.append(Section("Trajectory", [shown]))
    sections.append(_errors(final, reference))
    worst = _pictures(source, worst_frames(system.frames, system.poses.corrected, reference))
    if worst:
        note = (
            "Lost, or furthest from the truth when they were processed (after alignment)."
            if reference is not None
            else "Lost, or moved furthest by later corrections; there is no ground truth."
        )
        sections.append(Section("Worst frames", [page.pictures(worst)], note))
    if len(total_ms):
        timing = drawing(timing_figure(total_ms, stage_ms, budget), "milliseconds a frame")
        note = "The first two frames, which compile, are left out."
        sections.append(Section("Time", [timing], note))
    title = f"SLAM of {metrics['sequence']}"
    page.write_report(out / "report.html", title, _figures(metrics), known | settings, sections)


def _errors(final: Trajectory, reference: Trajectory | None) -> "Section":
    """Errors over time and over distance, or why there are none."""
    from ace_jax.evaluation.error_charts import drift, drift_figure, errors_figure
    from ace_jax.evaluation.page import Section, drawing

    heading = "Errors"
    if reference is None:
        return Section(heading, ["<p>Not known: the recording has no ground truth.</p>"])
    try:
        errors = compare(final, reference)
    except NoOverlap as reason:
        return Section(heading, [f"<p>Not known: {html.escape(str(reason))}.</p>"])
    over = drift(final, reference, errors)
    seconds = final.timestamps[errors.estimate_index]
    shown = [drawing(errors_figure(seconds, errors, over), "absolute and relative errors")]
    if over:
        shown.append(drawing(drift_figure(over), "relative errors by length of the stretch"))
    note = (
        "APE: positions after alignment (SE(3), no scale). RPE: motion over all stretches of a "
        "fixed length, unaligned; boxes are quartiles, whiskers 5 % and 95 %."
    )
    return Section(heading, shown, note)


def _figures(metrics: Mapping[str, Any]) -> list[list[tuple[str, str]]]:
    from ace_jax.evaluation.page import number

    quality = [
        ("frames", str(metrics["frames"])),
        ("tracked", f"{metrics['frames_tracked']} ({100 * metrics['coverage']:.1f} %)"),
    ]
    if metrics["ate_rmse_m"] is not None:
        quality += [
            ("ATE RMSE, final", number(metrics["ate_rmse_m"], 100, 2, " cm")),
            ("ATE RMSE, live", number(metrics["ate_live_rmse_m"], 100, 2, " cm")),
            ("ATE, largest", number(metrics["ate_max_m"], 100, 2, " cm")),
            ("RPE a frame", number(metrics["rpe_trans_m"], 1000, 2, " mm")),
            ("RPE a frame, rotation", number(metrics["rpe_rot_deg"], 1, 3, " deg")),
        ]
    cost = [
        ("ms a frame, median", number(metrics["ms_p50"], 1, 1)),
        ("ms a frame, 95 %", number(metrics["ms_p95"], 1, 1)),
        ("frames a second", number(metrics["fps"], 1, 1)),
        ("start (compilation)", number(metrics["start_s"], 1, 1, " s")),
        ("memory at most", number(metrics.get("peak_memory_mb"), 1, 0, " MiB")),
        ("map", number(metrics["map_bytes"], 1e-6, 2, " MB")),
        *(
            (label, str(metrics[name]))
            for label, name in (
                ("keyframes", "keyframes"),
                ("loops closed", "loops_closed"),
                ("frames skipped", "frames_skipped"),
                ("frames late", "frames_late"),
            )
            if name in metrics
        ),
    ]
    return [quality, cost]


def worst_frames(
    frames: Sequence["TrackedFrame"], corrected_pose: Any, reference: Trajectory | None
) -> list[tuple["TrackedFrame", str]]:
    """The frames that went worst, with a caption each: lost ones, then the largest errors.

    Args:
        frames: of the run.
        corrected_pose: a frame's camera_from_world (4, 4) as known now; None: it is in another map.
        reference: ground truth, or None: then what later corrections did tells.
    """
    lost = [frame for frame in frames if frame.live_camera_from_world is None]
    tracked = [frame for frame in frames if frame.live_camera_from_world is not None]
    found = [frame for frame in tracked if corrected_pose(frame) is not None]
    live = np.array([invert(f.live_camera_from_world) for f in found]).reshape(-1, 4, 4)
    final = np.array([invert(corrected_pose(f)) for f in found]).reshape(-1, 4, 4)
    metres = np.linalg.norm(final[:, :3, 3] - live[:, :3, 3], axis=1)
    text = "moved {:.1f} cm by later corrections"
    if reference is not None:
        try:
            errors = compare(Trajectory([f.timestamp for f in found], live), reference)
            metres = np.full(len(found), -1.0)
            metres[errors.estimate_index] = errors.ate_trans_m
            text = "{:.1f} cm off"
        except NoOverlap:
            pass
    chosen: list[tuple[TrackedFrame, str]] = []

    def offer(frame: "TrackedFrame", caption: str, limit: int) -> None:
        near = any(abs(frame.index - other.index) < _APART for other, _ in chosen)
        if len(chosen) < limit and not near:
            chosen.append((frame, caption))

    for frame in lost:
        offer(frame, f"lost ({frame.lost_because})" if frame.lost_because else "lost", _MAX_LOST)
    for i in np.argsort(-metres, kind="stable"):
        if metres[i] > 0:
            offer(found[i], text.format(100 * metres[i]), _PICTURES)
    return chosen


def _pictures(
    source: FrameSource, frames: Sequence[tuple["TrackedFrame", str]]
) -> list[tuple[bytes, str, str]]:
    """Their images, read again; none of a camera, whose images are gone."""
    if source.name.startswith("live/"):
        return []
    found: dict[int, tuple[bytes, str, str]] = {}
    for frame, caption in sorted(frames, key=lambda entry: entry[0].index):
        try:
            rgb = source[frame.index].rgb
        except (BadFrame, OSError):
            continue
        jpeg = pictures.jpeg(pictures.small(rgb)[0])
        name = f"frame {frame.index}"
        found[frame.index] = jpeg, name, f"{name}: {caption}"
    return [found[frame.index] for frame, _ in frames if frame.index in found]
