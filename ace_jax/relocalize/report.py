"""The report of a relocalization run: one HTML file with everything in it."""

import base64
import dataclasses
import html
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ace_jax.evaluation.relocalization import CalibrationBin, PoseErrors
from ace_jax.files import replacing

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .2rem 1rem .2rem 0; text-align: left }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1rem }
figure { margin: 0 } img { max-width: 100%; height: auto } figcaption { font-size: .85rem }
"""


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
    """
    parts = [
        f"<h1>Relocalization of {html.escape(str(metrics['source']))}</h1>",
        _table(metrics),
        "<h2>Errors and inliers</h2>",
        _image(_histograms(errors, inliers), "image/png", "histograms of errors and inliers"),
    ]
    if calibration:
        parts += [
            "<h2>Does the predicted scale mean something?</h2>",
            "<p>Answers in bins of equal count by predicted scale: median and quartiles of the "
            f"distance beside the pixel's ray. Rank correlation {correlation:.2f}.</p>",
            _image(_calibration_plot(calibration), "image/png", "predicted scale against error"),
        ]
    for title, pictures in (("Worst queries", worst), ("Best queries", best)):
        if pictures:
            parts += [
                f"<h2>{title}</h2><p>Inliers green, outliers red, filtered out grey.</p>",
                '<div class="pictures">',
                *(_figure(picture, errors) for picture in pictures),
                "</div>",
            ]
    body = "\n".join(parts)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Relocalization</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _number(value: Any, scale: float = 1.0, digits: int = 1, unit: str = "") -> str:
    if value is None or not math.isfinite(value):
        return "unknown"
    return f"{value * scale:.{digits}f}{unit}"


def _table(metrics: Mapping[str, Any]) -> str:
    rows = [
        ("queries registered", f"{metrics['registered']} of {metrics['queries']}"),
        ("median error", _number(metrics["median_translation_m"], 100, 2, " cm")),
        ("median rotation error", _number(metrics["median_rotation_deg"], 1, 3, " deg")),
    ]
    rows += [
        (f"within {label}", _number(metrics[key], 1, 1, " %"))
        for label, key in (
            ("10 cm, 10 deg", "within_10cm_10deg"),
            ("5 cm, 5 deg", "within_5cm_5deg"),
            ("2 cm, 2 deg", "within_2cm_2deg"),
            ("1 cm, 1 deg", "within_1cm_1deg"),
        )
    ]
    rows += [
        (f"{stage}, median", _number(metrics[f"ms_{stage}"], 1, 1, " ms"))
        for stage in ("features", "head", "solver")
    ]
    rows += [("map", f"{metrics['map_bytes'] / 1e6:.2f} MB")]
    if len(metrics["maps"]) > 1:
        rows += [(f"scene {name}", str(n)) for name, n in metrics["scenes"].items()]
    if metrics["unread"]:
        rows.append(("frames that could not be read", str(metrics["unread"])))
    cells = "".join(
        f'<tr><th>{html.escape(name)}</th><td class="n">{html.escape(value)}</td></tr>'
        for name, value in rows
    )
    return f"<table>{cells}</table>"


def _histograms(errors: PoseErrors, inliers: np.ndarray) -> bytes:
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
    return _png(figure)


def _bins(count: int) -> int:
    """Few bins for few values: one query each is no histogram."""
    return max(5, min(30, count // 4))


def _calibration_plot(bins: Sequence[CalibrationBin]) -> bytes:
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
    return _png(figure)


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _image(data: bytes, kind: str, text: str) -> str:
    encoded = base64.b64encode(data).decode("ascii")
    return f'<img alt="{html.escape(text)}" src="data:{kind};base64,{encoded}">'


def _figure(picture: Picture, errors: PoseErrors) -> str:
    caption = f"{picture.name}: {picture.inliers} inliers"
    if not picture.success:
        caption += ", no pose"
    elif math.isfinite(errors.translation[picture.index]):
        metres, degrees = errors.translation[picture.index], errors.rotation[picture.index]
        caption += f", {100 * metres:.1f} cm, {degrees:.2f} deg"
    return (
        f"<figure>{_image(picture.jpeg, 'image/jpeg', picture.name)}"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
