"""Trajectory plots, drawn off screen without Matplotlib's global state."""

from pathlib import Path

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from ace_jax.evaluation.trajectory import NoOverlap, Trajectory, TrajectoryErrors, compare
from ace_jax.files import replacing

_UP_WEIGHT = 0.05  # of the mean image "up" against the level camera axes, see `view_axes`
_GAP = 3.0  # a step longer than this many median steps in time is a break in tracking
_WIDTH_IN = 8.0
_SLIMMEST = 0.25  # least height of a view, relative to its width
_MAX_SEGMENTS = 3000  # in vector files
_GREY = "0.65"
# Without the light end of the map, which a white page swallows.
_COLOURS = ListedColormap(colormaps["plasma"](np.linspace(0.0, 0.85, 256)))


def view_axes(world_from_camera: np.ndarray) -> np.ndarray:
    """Directions in which to look at a trajectory whose gravity is not known.

    A hand-held or driving camera hardly rolls, so its x axis stays level: up is the direction most
    nearly perpendicular to all x axes. A camera that never turns leaves that open, and the mean
    "up" of the images decides. The other two axes are the horizontal principal directions.

    Args:
        world_from_camera: (N, 4, 4), N >= 1, finite.

    Returns:
        (3, 3), rows: long horizontal, short horizontal, up; right-handed, orthonormal.
    """
    right, image_up = world_from_camera[:, :3, 0], -world_from_camera[:, :3, 1].mean(0)
    levelness = right.T @ right / len(right) - _UP_WEIGHT * np.outer(image_up, image_up)
    up = np.linalg.eigh(levelness)[1][:, 0]
    up = up if up @ image_up >= 0 else -up
    positions = world_from_camera[:, :3, 3]
    level = (np.eye(3) - np.outer(up, up)) @ (positions - positions.mean(0)).T
    # The tiny second term gives a camera that stays in one place a level axis, too.
    spread = level @ level.T / len(right) + 1e-9 * np.eye(3) - np.outer(up, up)
    long = np.linalg.eigh(spread)[1][:, -1]
    # Left to right: from the first to the last position.
    long = long if long @ (positions[-1] - positions[0]) >= 0 else -long
    return np.stack([long, np.cross(up, long), up])


def trajectory_figure(
    estimate: Trajectory, ground_truth: Trajectory | None = None, title: str = ""
) -> Figure:
    """Top and side view in metres, in equal scale; with a reference, coloured by the error.

    Args:
        estimate: the poses to show.
        ground_truth: reference poses; the estimate is aligned to it (SE(3)). It is left out if
            the two do not overlap.
        title: of the figure.

    Returns:
        A figure with an Agg canvas, ready for `savefig`.
    """
    estimate = estimate[estimate.known]
    errors: TrajectoryErrors | None = None
    if ground_truth is not None:
        ground_truth = ground_truth[ground_truth.known]
        try:
            errors = compare(estimate, ground_truth)
        except NoOverlap:
            ground_truth = None
    if errors is not None:
        estimate = estimate.moved(errors.reference_from_estimate)
    if len(estimate) == 0:
        return _empty_figure(title)

    axes_directions = view_axes(estimate.world_from_camera)
    origin = estimate.positions[0]
    points = (estimate.positions - origin) @ axes_directions.T
    reference = None
    if ground_truth is not None:
        during = (ground_truth.timestamps >= estimate.timestamps.min() - 0.5) & (
            ground_truth.timestamps <= estimate.timestamps.max() + 0.5
        )
        ground_truth = ground_truth[during]
        reference = (ground_truth.positions - origin) @ axes_directions.T

    everything = points if reference is None else np.concatenate([points, reference])
    low, high = _limits(everything)
    size = high - low
    figure = Figure(
        figsize=(_WIDTH_IN, 1.9 + (_WIDTH_IN - 1.9) * (size[1] + size[2]) / size[0]),
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    top, side = figure.subplots(2, 1, height_ratios=[size[1], size[2]], sharex=True)
    coloured = None
    for view, axis, label in ((top, 1, "across (m)"), (side, 2, "up (m)")):
        if reference is not None and ground_truth is not None:
            view.plot(
                *with_gaps(reference[:, [0, axis]], ground_truth.timestamps).T,
                color=_GREY,
                linewidth=2.5,
                label="ground truth",
                zorder=1,
            )
        coloured = _draw_estimate(view, points[:, [0, axis]], estimate.timestamps, errors)
        _mark_ends(view, points[:, [0, axis]])
        view.set(xlim=(low[0], high[0]), ylim=(low[axis], high[axis]), aspect="equal", ylabel=label)
        view.grid(color="0.92", linewidth=0.8)
        view.set_axisbelow(True)
        view.spines[["top", "right"]].set_visible(False)
    top.set_title("from above", fontsize=10, color="0.3")
    side.set_title("from the side", fontsize=10, color="0.3")
    side.set_xlabel("along (m)")
    handles, labels = top.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9
    )
    subtitle = f"{len(estimate)} poses, path {_path_length(points):.2f} m"
    if errors is not None and coloured is not None:
        bar = figure.colorbar(coloured, ax=[top, side], pad=0.02, aspect=35, extend="max")
        bar.set_label("position error (cm)")
        bar.outline.set_visible(False)
        rmse, worst = errors.ate_rmse_m, errors.ate_trans_m.max()
        subtitle += f", ATE RMSE {rmse * 100:.2f} cm, max {worst * 100:.2f} cm"
    figure.suptitle(f"{title}\n{subtitle}" if title else subtitle, fontsize=11)
    return figure


def save_figure(path: str | Path, figure: Figure) -> None:
    """Writes a picture in the format that the path's suffix names."""
    # Journals take fonts of this type alone.
    with replacing(path) as temporary, rc_context({"pdf.fonttype": 42}):
        figure.savefig(temporary, dpi=150)


def _draw_estimate(
    view: Axes, points: np.ndarray, timestamps: np.ndarray, errors: TrajectoryErrors | None
) -> LineCollection | None:
    """Draws points (N, 2), segments coloured by the error of their end; returns those, if any."""
    if errors is None or len(points) < 2:
        view.plot(*with_gaps(points, timestamps).T, color="C0", linewidth=1.6, label="estimate")
        return None
    matched = errors.estimate_index
    points, timestamps = points[matched], timestamps[matched]
    segments = np.stack([points[:-1], points[1:]], axis=1)
    joined = ~_breaks(timestamps)
    centimetres = errors.ate_trans_m * 100
    lines = LineCollection(
        list(segments[joined]), cmap=_COLOURS, linewidths=1.8, capstyle="round", zorder=2
    )
    lines.set_rasterized(len(segments) > _MAX_SEGMENTS)
    lines.set_array(centimetres[1:][joined])
    # One outlier must not make all other errors look the same; the bar's arrow tells of it.
    lines.set_clim(0.0, max(float(np.percentile(centimetres, 98)), 1e-3))
    view.add_collection(lines)
    view.plot([], [], color=_COLOURS(0.5), linewidth=1.8, label="estimate, coloured by its error")
    return lines


def _mark_ends(view: Axes, points: np.ndarray) -> None:
    style = {"linestyle": "none", "markeredgecolor": "white", "markersize": 9, "zorder": 3}
    view.plot(*points[0], marker="o", color="tab:green", label="start", **style)
    view.plot(*points[-1], marker="s", color="tab:red", label="end", **style)


def _breaks(timestamps: np.ndarray) -> np.ndarray:
    """(N - 1,) bool: the steps across which tracking was lost."""
    steps = np.diff(timestamps)
    return steps > _GAP * np.median(steps) if len(steps) else np.zeros(0, bool)


def with_gaps(points: np.ndarray, timestamps: np.ndarray) -> np.ndarray:
    """The points (N, 2) with a NaN row in each gap, where Matplotlib lifts the pen."""
    return np.insert(points, np.flatnonzero(_breaks(timestamps)) + 1, np.nan, axis=0)


def _limits(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (3,) of a box around points (N, 3) with a margin, no side of it too slim to draw."""
    low, high = points.min(0), points.max(0)
    longest = max((high - low).max(), 0.05)
    size = np.maximum(high - low, _SLIMMEST * longest) + 0.12 * longest
    size[0] = max(*size, longest)  # the page is wide: a climbing camera must not make it endless
    centre = (low + high) / 2
    return centre - size / 2, centre + size / 2


def _path_length(points: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def _empty_figure(title: str) -> Figure:
    figure = Figure(figsize=(_WIDTH_IN, 2.0))
    FigureCanvasAgg(figure)
    figure.text(0.5, 0.5, f"{title}\nno frame was tracked".strip(), ha="center", va="center")
    return figure
