"""The report of a relocalization run: one HTML file with everything in it."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ace_jax.evaluation import page
from ace_jax.evaluation.charts import (
    calibration_figure,
    histograms_figure,
    map_figure,
    timing_figure,
)
from ace_jax.evaluation.explorer import Explored, explorer
from ace_jax.evaluation.lengths import LengthUnit, length_unit
from ace_jax.evaluation.page import Section, drawing
from ace_jax.evaluation.relocalization import THRESHOLDS, CalibrationBin, PoseErrors, within


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
    place: Explored | None = None,
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
        place: the map with the queries in it; None if the queries have no world in common.
    """
    unit = length_unit(metrics["metric"])
    sections = []
    if place is not None:
        note = "Drag to turn, scroll to zoom, click a camera to choose its query."
        if place.error is not None and np.isfinite(place.error).any():
            note += " Grey: where the chosen one really was."
        sections.append(Section("Map and queries", explorer(place, _picture(place)), note))
    values = {"inliers": inliers}
    note = ""
    if np.isfinite(errors.translation).any():
        values = {
            f"translation error, {unit.name}": errors.translation * unit.per_unit,
            "rotation error, deg": errors.rotation,
            **values,
        }
    else:
        note = "Errors are not known: no query that was found has a reference pose."
    histograms = drawing(histograms_figure(values, "queries"), "histograms")
    sections.append(Section("Errors and inliers", [histograms], note))
    if stage_ms:
        figure = timing_figure(sum(stage_ms.values()), stage_ms, unit="query")
        sections.append(Section("Time", [drawing(figure, "milliseconds a query, by stage")]))
    if calibration:
        drawn = drawing(calibration_figure(calibration, unit), "predicted scale against error")
        note = (
            "Coordinates in bins of equal count by predicted scale: median and quartiles of the "
            f"distance to the pixel's ray. Rank correlation {correlation:.2f}."
        )
        sections.append(Section("Calibration of the predicted scale", [drawn], note))
    for title, pictures in (("Worst queries", worst), ("Best queries", best)):
        if pictures:
            shown = page.pictures((p.jpeg, p.name, _caption(p, errors, unit)) for p in pictures)
            note = "Inliers green, outliers red, filtered out grey."
            sections.append(Section(title, [shown], note))
    title = f"Relocalization of {metrics['source']}"
    page.write_report(path, title, [_rows(metrics)], metrics["settings"], sections)


def _picture(place: Explored) -> str:
    unknown = np.full((4, 4), np.nan)
    poses, truths = (
        np.array([unknown if pose is None else pose for pose in found])
        for found in ([s.pose for s in place.shots], [s.truth for s in place.shots])
    )
    figure = map_figure(place.points.points, None, poses, truths, path=False)
    return drawing(figure, "the map and the queries, from above and from an angle")


def _rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    number, unit = page.number, length_unit(metrics["metric"])
    rows = [("queries registered", f"{metrics['registered']} of {metrics['queries']}")]
    if math.isfinite(metrics["median_translation_m"]):
        rows += [
            ("median error", unit.text(metrics["median_translation_m"])),
            ("median rotation error", number(metrics["median_rotation_deg"], 1, 3, " deg")),
        ]
    rows += [
        (f"within {unit.bound(metres)}, {degrees:g} deg", number(share, 1, 1, " %"))
        for (metres, degrees), share in zip(THRESHOLDS, within(metrics), strict=True)
        if share is not None and math.isfinite(share)
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


def _caption(picture: Picture, errors: PoseErrors, unit: LengthUnit) -> str:
    caption = f"{picture.name}: {picture.inliers} inliers"
    if not picture.success:
        return f"{caption}, no pose"
    if math.isfinite(errors.translation[picture.index]):
        metres, degrees = errors.translation[picture.index], errors.rotation[picture.index]
        caption += f", {unit.text(metres)}, {degrees:.2f} deg"
    return caption
