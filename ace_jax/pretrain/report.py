"""The report of a pre-training run: one HTML file with curves and pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
from matplotlib.figure import Figure

from ace_jax.evaluation import page
from ace_jax.pretrain.journal import read_metrics
from ace_jax.pretrain.validation import RIGHT, SUREST, Answers

_ROWS = {
    "right": "coordinates within 10 cm, %",
    "surest_right": "of the surest tenth, %",
    "median_cm": "median error, cm",
    "order": "rank correlation of scale and error",
    "error_over_scale": "median of error over predicted scale",
    "pose_5cm_5deg": "poses within 5 cm/5 deg, %",
    "pose_median_cm": "median pose error, cm",
}
_IMAGES = 4  # shown, from different scenes
_BLUE, _RED, _GREEN = "#3b6ea8", "#b5473c", "#6a994e"


def write_report(
    path: Path,
    folder: Path,
    config: ml_collections.ConfigDict,
    answers: Answers,
    scenes: Any,
    validator: Any,
) -> None:
    """Writes the report.

    Args:
        path: the HTML file.
        folder: of the run, with its `metrics.jsonl`.
        config: of the run.
        answers: of the last validation.
        scenes: see `run.Scenes`: validation patches and their thumbnails.
        validator: which images were asked about.
    """
    lines = read_metrics(folder)
    checked = [line for line in lines if "validation" in line]
    summary = answers.summary()
    asked = validator.views.rows("query")
    parts = [
        page.settings(config.to_dict()),
        page.heading(
            "Scenes never trained on",
            f"{len(answers.error)} scenes, mapped for {config.validation.steps} steps, then asked "
            "about their query images.",
        ),
        page.table((label, page.number(summary[name], digits=2)) for name, label in _ROWS.items()),
        page.heading("Losses"),
        page.drawing(_loss_curves(lines), "losses"),
    ]
    if len(checked) > 1:
        parts.append(page.drawing(_validation_curves(checked), "validation"))
    parts += [
        page.heading(
            "Does the predicted scale mean something?",
            "Answers in bins of equal count by predicted scale: median and quartiles of the error. "
            "On the line, the scale is the median error.",
        ),
        page.drawing(_calibration(answers), "calibration"),
        page.heading(
            "Predicted and true coordinates",
            "Position in the scene as colour, the same for prediction and truth; the predictions' "
            f"surest {100 * SUREST:.0f} % ringed. Errors up to {100 * RIGHT:.0f} cm are green.",
        ),
    ]
    for scene in range(min(_IMAGES, len(answers.error))):
        image = scene % answers.error.shape[1]
        patches = scenes.validation[scene]
        row = asked.start + image
        thumbnail = scenes.thumbnails(scene)[row]
        shown = _coordinates(
            thumbnail, patches.uv[row], patches.xyz[row], patches.mask[row], answers, scene, image
        )
        parts.append(page.drawing(shown, f"scene {scene}, query {image}"))
    page.write_page(path, "Query pre-training", parts)


def _loss_curves(lines: Sequence[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axis = figure.subplots()
    lines = [line for line in lines if "query_loss" in line]
    steps = [line["step"] for line in lines]
    for name, colour in (("mapping_loss", _GREEN), ("query_loss", _BLUE)):
        values = np.array([line[name] for line in lines])
        axis.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
        width = max(len(values) // 30, 1)
        # The mean of what was there so far, where the window is not full yet.
        total = np.cumsum(np.insert(values, 0, 0.0))
        end = np.arange(1, len(values) + 1)
        start = np.maximum(end - width, 0)
        smooth = (total[end] - total[start]) / (end - start)
        axis.plot(steps, smooth, color=colour, label=name.replace("_", " "))
    if len(lines) > 20:  # the first steps would flatten everything else
        tail = [
            line[n] for line in lines[len(lines) // 20 :] for n in ("mapping_loss", "query_loss")
        ]
        low, high = np.quantile(tail, [0.005, 0.995])
        axis.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
    axis.set(xlabel="iteration", ylabel="negative log likelihood")
    axis.legend(frameon=False)
    return figure


def _validation_curves(checked: Sequence[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    steps = [line["step"] for line in checked]
    panels = (("right", "surest_right"), ("order",), ("pose_5cm_5deg",))
    for axis, names in zip(figure.subplots(1, 3), panels, strict=True):
        for name, colour in zip(names, (_BLUE, _GREEN), strict=False):
            values = [line["validation"][name] for line in checked]
            axis.plot(steps, values, "o-", color=colour, markersize=3, label=_ROWS[name])
        axis.set_xlabel("iteration")
        axis.legend(frameon=False, fontsize=7)
    return figure


def _calibration(answers: Answers) -> Figure:
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axis = figure.subplots()
    bins = answers.calibration()
    scale = np.array([b.scale for b in bins]) * 100
    low, error, high = (
        np.maximum([getattr(b, name) * 100 for b in bins], 1e-2)  # the axes are logarithmic
        for name in ("low", "error", "high")
    )
    axis.errorbar(scale, error, [error - low, high - error], fmt="o", color=_BLUE, capsize=2)
    limits = [min(scale.min(), error.min()) / 1.5, max(scale.max(), error.max()) * 1.5]
    axis.plot(limits, limits, color="0.6", linewidth=1)
    axis.set(xscale="log", yscale="log", xlabel="predicted scale, cm", ylabel="error, cm")
    return figure


def _coordinates(
    thumbnail: np.ndarray,
    uv: np.ndarray,
    true: np.ndarray,
    mask: np.ndarray,
    answers: Answers,
    scene: int,
    image: int,
) -> Figure:
    """Image, true coordinates, predicted coordinates, errors, predicted scales; side by side."""
    uv, true = uv[mask], true[mask]
    xyz, scale = answers.xyz[scene, image][mask], answers.scale[scene, image][mask]
    error = answers.error[scene, image][mask]
    low, high = true.min(axis=0), true.max(axis=0)

    def colours(points: np.ndarray) -> np.ndarray:
        return np.clip((points - low) / np.maximum(high - low, 1e-6), 0.0, 1.0)

    pose = scene * answers.error.shape[1] + image
    metres, degrees = answers.poses.translation[pose], answers.poses.rotation[pose]
    found = f"pose {100 * metres:.1f} cm, {degrees:.2f} deg" if np.isfinite(metres) else "no pose"
    figure = Figure(figsize=(12, 2.5), layout="constrained")
    axes = figure.subplots(1, 5)
    axes[0].imshow(thumbnail)
    axes[0].set_title(f"scene {scene}, query {image}\n{found}", fontsize=8)
    sure = np.argsort(scale)[: max(int(SUREST * len(scale)), 1)]
    style = {"s": 7, "marker": "s", "linewidths": 0}
    axes[1].scatter(*uv.T, c=colours(true), **style)
    axes[1].set_title("true coordinates", fontsize=8)
    axes[2].scatter(*uv.T, c=colours(xyz), **style)
    axes[2].scatter(*uv[sure].T, s=14, facecolors="none", edgecolors="0.2", linewidths=0.5)
    axes[2].set_title("predicted", fontsize=8)
    for axis, values, title in ((axes[3], error, "error, cm"), (axes[4], scale, "scale, cm")):
        shown = axis.scatter(
            *uv.T,
            c=np.log10(np.maximum(100 * values, 1.0)),
            cmap="RdYlGn_r",
            vmin=0,
            vmax=2,
            **style,
        )
        axis.set_title(title, fontsize=8)
    bar = figure.colorbar(shown, ax=axes[3:], ticks=[0, 1, 2], pad=0.02)
    bar.ax.set_yticklabels(["1", "10", "100"], fontsize=7)
    for axis in axes:
        axis.set(xticks=[], yticks=[])
    for axis in axes[1:]:
        width, height = uv.max(axis=0) + uv.min(axis=0)
        axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    return figure
