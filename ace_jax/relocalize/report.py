"""The report of a relocalization run: one HTML file with everything in it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ace_jax.evaluation import page
from ace_jax.evaluation.charts import timing_figure
from ace_jax.evaluation.relocalization import CalibrationBin, PoseErrors


@dataclasses.dataclass(frozen=True)
class Picture:
    """One query as shown in the report.

    Attributes:
        index: of the query.
        name: of the query.
        jpeg: the image with its correspondences drawn.
        inliers: number of them.
        scene: the map that answered.
        success: whether a pose was found.
    """

    index: int
    name: str
    jpeg: bytes
    inliers: int
    scene: str
    success: bool


def write_report(
    path: Path,
    metrics: Mapping[str, Any],
    errors: PoseErrors,
    inliers: np.ndarray,
    calibration: Sequence[CalibrationBin],
    correlation: float,
    best: Sequence[Picture],
    worst: Sequence[Picture],
    stage_ms: Mapping[str, np.ndarray],
    place: Figure | None = None,
) -> None:
    """Writes the report.

    Args:
        path: the HTML file.
        metrics: as in `metrics.json`.
        errors: of the queries; NaN where there is no reference.
        inliers: (N,) of the queries.
        calibration: predicted scale against error; empty if unknown.
        correlation: rank correlation of the two.
        best: pictures of the best queries.
        worst: pictures of the worst.
        stage_ms: by stage (M,) of the queries that were answered.
        place: the map with the queries in it.
    """
    parts = [
        page.table(_rows(metrics)),
        page.heading("Settings"),
        page.settings(metrics["settings"]),
        page.heading("Errors and inliers"),
        page.drawing(_histograms(errors, inliers), "histograms of errors and inliers"),
    ]
    if place is not None:
        note = "Answers are red dots; rings are where the cameras really were."
        parts += [page.heading("Where the queries are", note)]
        parts += [page.drawing(place, "the map and the queries, from above and from an angle")]
    if stage_ms:
        figure = timing_figure(sum(stage_ms.values()), stage_ms, unit="query")
        parts += [page.heading("Time"), page.drawing(figure, "milliseconds a query, by stage")]
    if calibration:
        note = (
            "Answers in bins of equal count by predicted scale: median and quartiles of the "
            f"distance beside the pixel's ray. Rank correlation {correlation:.2f}."
        )
        parts += [
            page.heading("Does the predicted scale mean something?", note),
            page.drawing(_calibration_plot(calibration), "predicted scale against error"),
        ]
    for title, pictures in (("Worst queries", worst), ("Best queries", best)):
        if pictures:
            parts += [
                page.heading(title, "Inliers green, outliers red, filtered out grey."),
                page.pictures((p.jpeg, p.name, _caption(p, errors)) for p in pictures),
            ]
    page.write_page(path, f"Relocalization of {metrics['source']}", parts)


def _rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    number = page.number
    rows = [
        ("queries registered", f"{metrics['registered']} of {metrics['queries']}"),
        ("median error", number(metrics["median_translation_m"], 100, 2, " cm")),
        ("median rotation error", number(metrics["median_rotation_deg"], 1, 3, " deg")),
    ]
    rows += [
        (f"within {label}", number(metrics[key], 1, 1, " %"))
        for label, key in (
            ("10 cm, 10 deg", "within_10cm_10deg"),
            ("5 cm, 5 deg", "within_5cm_5deg"),
            ("2 cm, 2 deg", "within_2cm_2deg"),
            ("1 cm, 1 deg", "within_1cm_1deg"),
        )
    ]
    rows += [
        (f"{stage}, median", number(metrics[f"ms_{stage}"], 1, 1, " ms"))
        for stage in ("features", "head", "solver")
    ]
    rows += [("map", f"{metrics['map_bytes'] / 1e6:.2f} MB")]
    if len(metrics["maps"]) > 1:
        rows += [(f"scene {name}", str(n)) for name, n in metrics["scenes"].items()]
    if metrics["unread"]:
        rows.append(("frames that could not be read", str(metrics["unread"])))
    return rows


def _histograms(errors: PoseErrors, inliers: np.ndarray) -> Figure:
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, values, label in (
        (axes[0], errors.translation * 100, "translation error, cm"),
        (axes[1], errors.rotation, "rotation error, deg"),
    ):
        known = values[np.isfinite(values)]
        if len(known):
            top = max(np.quantile(known, 0.98) * 1.1, 1e-3)
            axis.hist(np.clip(known, 0, top), bins=_bins(len(known)), color="#3b6ea8")
        else:
            axis.text(0.5, 0.5, "no reference", ha="center", transform=axis.transAxes)
        axis.set_xlabel(label)
    axes[0].set_ylabel("queries")
    if len(inliers):
        axes[2].hist(inliers, bins=_bins(len(inliers)), color="#6a994e")
    axes[2].set_xlabel("inliers")
    for axis in axes:
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _bins(count: int) -> int:
    """Few bins for few values: one query each is no histogram."""
    return max(5, min(30, count // 4))


def _calibration_plot(bins: Sequence[CalibrationBin]) -> Figure:
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axis = figure.subplots()
    scale = np.array([b.scale for b in bins]) * 100
    low, error, high = (
        np.maximum([getattr(b, name) * 100 for b in bins], 1e-2)  # the axes are logarithmic
        for name in ("low", "error", "high")
    )
    axis.errorbar(scale, error, [error - low, high - error], fmt="o", color="#3b6ea8", capsize=2)
    limits = [min(scale.min(), error.min()) / 1.5, max(scale.max(), error.max()) * 1.5]
    axis.plot(limits, limits, color="0.6", linewidth=1)
    axis.set(xscale="log", yscale="log", xlabel="predicted scale, cm", ylabel="error, cm")
    return figure


def _caption(picture: Picture, errors: PoseErrors) -> str:
    caption = f"{picture.name}: {picture.inliers} inliers"
    if not picture.success:
        return f"{caption}, no pose"
    if math.isfinite(errors.translation[picture.index]):
        metres, degrees = errors.translation[picture.index], errors.rotation[picture.index]
        caption += f", {100 * metres:.1f} cm, {degrees:.2f} deg"
    return caption
