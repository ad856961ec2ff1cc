"""The report of a pre-training run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np
from matplotlib.figure import Figure

from ace_jax.evaluation import page
from ace_jax.evaluation.charts import BLUE, GREEN, Curves, calibration_figure, curves_figure
from ace_jax.evaluation.page import Section, drawing
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
    losses = [drawing(_loss_curves(lines), "losses")]
    if len(checked) > 1:
        steps = [line["step"] for line in checked]
        panels = [
            Curves({_ROWS[name]: [line["validation"][name] for line in checked] for name in names})
            for names in (("right", "surest_right"), ("order",), ("pose_5cm_5deg",))
        ]
        losses.append(drawing(curves_figure(steps, panels), "validation"))
    calibration = drawing(calibration_figure(answers.calibration()), "calibration")
    pictures = []
    for scene in range(min(_IMAGES, len(answers.error))):
        image = scene % answers.error.shape[1]
        patches = scenes.validation[scene]
        row = asked.start + image
        thumbnail = scenes.thumbnails(scene)[row]
        shown = _coordinates(
            thumbnail, patches.uv[row], patches.xyz[row], patches.mask[row], answers, scene, image
        )
        pictures.append(drawing(shown, f"scene {scene}, query {image}"))
    figures = [(label, page.number(summary[name], digits=2)) for name, label in _ROWS.items()]
    sections = [
        Section(
            "Scenes not trained on",
            [page.table(figures)],
            f"{len(answers.error)} scenes, mapped for {config.validation.steps} steps, then "
            "queried with other images of theirs.",
        ),
        Section("Losses", losses),
        Section(
            "Calibration of the predicted scale",
            [calibration],
            "Coordinates in bins of equal count by predicted scale: median and quartiles of the "
            "error. On the line, the scale is the median error.",
        ),
        Section(
            "Predicted and true coordinates",
            pictures,
            "Position in the scene as colour, the same for prediction and truth; the "
            f"{100 * SUREST:.0f} % of lowest predicted scale ringed. Errors up to "
            f"{100 * RIGHT:.0f} cm are green.",
        ),
    ]
    page.write_report(path, "Query pre-training", [], config.to_dict(), sections)


def _loss_curves(lines: Sequence[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axis = figure.subplots()
    lines = [line for line in lines if "query_loss" in line]
    steps = [line["step"] for line in lines]
    for name, colour in (("mapping_loss", GREEN), ("query_loss", BLUE)):
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
    style = {"s": 7, "marker": "s", "linewidths": 0, "rasterized": True}
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
