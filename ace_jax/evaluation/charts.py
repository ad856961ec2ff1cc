"""Charts of the reports: processing time, map, training curves, error histograms, calibration."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ace_jax.evaluation.lengths import CENTIMETRES, LengthUnit
from ace_jax.evaluation.plots import view_axes
from ace_jax.evaluation.relocalization import CalibrationBin

_MAX_BINS = 150  # of the time axis
_MAX_POINTS = 30_000
_TILT = np.radians(35.0)  # of the second view, below the horizontal
_HEIGHTS = colormaps["viridis"]
BLUE, GREEN, RED = "#3b6ea8", "#6a994e", "#d1495b"
_LIGHT_BLUE = "#c6d8ec"
_TURN = np.radians(-30.0)  # of the second view, about the vertical


def timing_figure(
    total_ms: np.ndarray,
    stage_ms: Mapping[str, np.ndarray],
    budget_ms: float | None = None,
    unit: str = "frame",
) -> Figure:
    """Milliseconds a frame (or query) over the run, and by stage.

    Args:
        total_ms: (N,) of the frames.
        stage_ms: by stage (M,) of the frames in which it ran. Stages run beside each other: they
            do not add up to the total.
        budget_ms: what a frame may take to keep up with the camera.
        unit: what is counted.
    """
    figure = _figure(9.0, 3.2)
    over_time, by_stage = figure.subplots(1, 2, width_ratios=[3, 2])
    count = len(total_ms)
    if count:
        step = max(1, -(-count // _MAX_BINS))
        starts = np.arange(0, count, step)
        groups = [total_ms[i : i + step] for i in starts]
        middle, worst = ([f(g) for g in groups] for f in (np.median, np.max))
        over_time.fill_between(
            starts, middle, worst, step="mid", color=_LIGHT_BLUE, label="slowest"
        )
        over_time.plot(starts, middle, color=BLUE, linewidth=1.2, label="median")
        top = 1.15 * max(np.percentile(total_ms, 99), budget_ms or 0.0, 1e-3)
        if budget_ms:
            over_time.axhline(budget_ms, color="0.4", linewidth=1, linestyle="--", label="camera")
        over_time.set_ylim(0, top)
        over_time.legend(frameon=False, fontsize=8, loc="upper right", ncols=3)
    over_time.set(xlabel=unit, ylabel=f"ms a {unit}")
    names = list(stage_ms)
    rows = np.arange(len(names))
    for percent, colour in ((95, _LIGHT_BLUE), (50, BLUE)):
        widths = [np.percentile(stage_ms[name], percent) for name in names]
        by_stage.barh(rows, widths, color=colour, height=0.65)
    for row, name in zip(rows, names, strict=True):
        middle = np.median(stage_ms[name])
        by_stage.annotate(
            f" {middle:.1f}", (np.percentile(stage_ms[name], 95), row), va="center", fontsize=8
        )
    by_stage.set_yticks(rows, names)
    by_stage.invert_yaxis()
    by_stage.margins(x=0.12)
    by_stage.set_xlabel("ms where the stage ran: median, 95 %")
    _open_frames((over_time, by_stage))
    return figure


def map_figure(
    points: np.ndarray,
    colours: np.ndarray | None,
    world_from_camera: np.ndarray,
    reference: np.ndarray | None = None,
    path: bool = True,
) -> Figure:
    """A map from above and from an angle, with its cameras.

    Args:
        points: (M, 3) world, metres.
        colours: (M, 3) uint8, or None: then height gives the colour.
        world_from_camera: (N, 4, 4) of the cameras, in order; NaN where unknown.
        reference: (N, 4, 4) where they really were, in the same world; drawn as rings.
        path: whether the cameras are one camera that moved.
    """
    figure = _figure(9.0, 4.4)
    views = figure.subplots(1, 2)
    known = np.isfinite(world_from_camera).all(axis=(1, 2))
    poses = world_from_camera[known]
    truth = None if reference is None else reference[known][:, :3, 3]
    finite = np.isfinite(points).all(axis=1)
    points = points[finite]
    if not len(points) or not len(poses):
        for view in views:
            view.set_axis_off()
        figure.text(0.5, 0.5, "the map is empty", ha="center")
        return figure
    axes = view_axes(poses)
    shade = (height_colours(points @ axes[2]) if colours is None else colours[finite]) / 255.0
    if len(points) > _MAX_POINTS:
        chosen = np.random.default_rng(0).choice(len(points), _MAX_POINTS, replace=False)
        points, shade = points[chosen], shade[chosen]
    level = np.array(
        [[np.cos(_TURN), np.sin(_TURN), 0.0], [-np.sin(_TURN), np.cos(_TURN), 0.0], [0, 0, 1.0]]
    )
    # Rows: right on the page, up on the page, towards the reader.
    tilt = np.array(
        [
            [1.0, 0, 0],
            [0, np.sin(_TILT), np.cos(_TILT)],
            [0, -np.cos(_TILT), np.sin(_TILT)],
        ]
    )
    for view, page, name in (
        (views[0], axes, "from above"),
        (views[1], tilt @ level @ axes, "from an angle"),
    ):
        rings = None if truth is None else truth @ page.T
        _draw(view, points @ page.T, shade, poses[:, :3, 3] @ page.T, rings, path)
        view.set_title(name, fontsize=10, color="0.3")
    return figure


def height_colours(height: np.ndarray) -> np.ndarray:
    """(M, 3) uint8 colours for the heights (M,) of points."""
    if not len(height):
        return np.zeros((0, 3), np.uint8)
    low, high = np.percentile(height, (2, 98))
    return (255 * _HEIGHTS((height - low) / max(high - low, 1e-6))[:, :3]).astype(np.uint8)


def _draw(
    view: Axes,
    points: np.ndarray,
    shade: np.ndarray,
    cameras: np.ndarray,
    truth: np.ndarray | None,
    path: bool,
) -> None:
    order = np.argsort(points[:, 2])  # near ones last, so that they cover far ones
    size = float(np.clip(4e4 / len(points), 0.5, 6.0))
    view.scatter(*points[order, :2].T, s=size, c=shade[order], linewidths=0, rasterized=True)
    if truth is not None:
        view.scatter(*truth[:, :2].T, s=30, facecolors="none", edgecolors="0.2", linewidths=0.8)
    if path:
        view.plot(*cameras[:, :2].T, color=RED, linewidth=1.2)
        view.plot(*cameras[-1, :2], "o", color=RED, markersize=4)
    else:
        view.scatter(*cameras[:, :2].T, s=8, color=RED, linewidths=0)
    # A few far points must not make the rest a dot.
    low, high = (np.percentile(points[:, :2], q, axis=0) for q in (1, 99))
    low, high = np.minimum(low, cameras[:, :2].min(0)), np.maximum(high, cameras[:, :2].max(0))
    margin = 0.05 * max((high - low).max(), 0.1)
    view.set(
        xlim=(low[0] - margin, high[0] + margin),
        ylim=(low[1] - margin, high[1] + margin),
        aspect="equal",
        xlabel="m",
    )
    view.grid(color="0.93", linewidth=0.8)
    view.set_axisbelow(True)
    _open_frames([view])


def bar_figure(values: Mapping[str, float], label: str) -> Figure:
    """A horizontal bar for each value; `label` names their unit."""
    figure = _figure(7.0, 0.6 + 0.32 * max(len(values), 1))
    axis = figure.subplots()
    axis.barh(list(values), list(values.values()), color=BLUE, height=0.65)
    axis.invert_yaxis()
    axis.set_xlabel(label)
    _open_frames([axis])
    return figure


@dataclasses.dataclass(frozen=True)
class Curves:
    """Curves over the training steps, drawn in one panel.

    Attributes:
        values: (N,) by name.
        label: of the vertical axis.
        logarithmic: whether that axis is.
    """

    values: Mapping[str, Sequence[float]]
    label: str = ""
    logarithmic: bool = False


def curves_figure(steps: Sequence[int], panels: Sequence[Curves]) -> Figure:
    """Panels side by side, each with curves over the (N,) training steps."""
    figure = _figure(9.0, 2.8)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        for (name, values), colour in zip(panel.values.items(), (BLUE, GREEN, RED), strict=False):
            marker = "o-" if len(steps) < 40 else "-"
            axis.plot(steps, values, marker, color=colour, markersize=3, label=name)
        axis.set(xlabel="step", ylabel=panel.label)
        if panel.logarithmic:
            axis.set_yscale("log")
        if not panel.label:
            axis.legend(frameon=False, fontsize=7)
    _open_frames(axes)
    return figure


def histograms_figure(values: Mapping[str, np.ndarray], ylabel: str) -> Figure:
    """A histogram of each array, by label; values that are not finite are left out.

    Values beyond 1.1 times the 98 % quantile are counted in the last bin.
    """
    figure = _figure(9.0, 2.8)
    axes = figure.subplots(1, len(values), squeeze=False)[0]
    for axis, (label, numbers), colour in zip(
        axes, values.items(), (BLUE, BLUE, GREEN), strict=False
    ):
        known = numbers[np.isfinite(numbers)]
        if len(known):
            top = max(np.quantile(known, 0.98) * 1.1, 1e-3)
            # Few bins for few values: one value each is no histogram.
            bins = max(5, min(30, len(known) // 4))
            axis.hist(np.clip(known, 0, top), bins=bins, color=colour)
        else:
            axis.text(0.5, 0.5, "no reference", ha="center", transform=axis.transAxes)
        axis.set_xlabel(label)
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylabel(ylabel)
    _open_frames(axes)
    return figure


def calibration_figure(bins: Sequence[CalibrationBin], unit: LengthUnit = CENTIMETRES) -> Figure:
    """Error against predicted scale: the median with quartiles of each bin, and the identity."""
    figure = _figure(5.0, 3.6)
    axis = figure.subplots()
    scale = np.array([b.scale for b in bins]) * unit.per_unit
    low, error, high = (  # the axes are logarithmic: no zeros
        np.maximum([getattr(b, name) * unit.per_unit for b in bins], 1e-4 * unit.per_unit)
        for name in ("low", "error", "high")
    )
    axis.errorbar(scale, error, [error - low, high - error], fmt="o", color=BLUE, capsize=2)
    limits = [min(scale.min(), error.min()) / 1.5, max(scale.max(), error.max()) * 1.5]
    axis.plot(limits, limits, color="0.6", linewidth=1)
    axis.set(xscale="log", yscale="log", xlabel=f"predicted scale, {unit.name}")
    axis.set_ylabel(f"error, {unit.name}")
    _open_frames([axis])
    return figure


def _open_frames(axes: Iterable[Axes]) -> None:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
