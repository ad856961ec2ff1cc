"""Charts of a trajectory's errors: over time, as evo draws them, and over distance."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ace_jax.evaluation.charts import BLUE, GREEN, RED
from ace_jax.evaluation.plots import with_gaps
from ace_jax.evaluation.trajectory import (
    RelativeErrors,
    Statistics,
    Trajectory,
    TrajectoryErrors,
    relative_errors,
)

_DELTAS = tuple(m * 10.0**e for e in (-2, -1, 0, 1, 2) for m in (1, 2, 5))  # metres
_MOST_DELTAS = 6
_MIN_PAIRS = 10
_OVER_TIME = 1.0  # metres: the longest delta that is drawn over time


def drift(
    estimate: Trajectory, reference: Trajectory, errors: TrajectoryErrors
) -> dict[float, RelativeErrors]:
    """Relative errors over stretches of fixed length, the longest that fit often enough.

    Args:
        estimate: the poses in question.
        reference: the true ones.
        errors: of `compare(estimate, reference)`.
    """
    found = {}
    for delta in _DELTAS:
        relative = relative_errors(estimate, reference, errors, delta)
        if len(relative.first) >= _MIN_PAIRS:
            found[delta] = relative
    return dict(list(found.items())[-_MOST_DELTAS:])


def errors_figure(
    seconds: np.ndarray, errors: TrajectoryErrors, over: dict[float, RelativeErrors]
) -> Figure:
    """Absolute and relative position errors over time, each with mean, median, RMSE and deviation.

    Args:
        seconds: (M,) times of the matched poses.
        errors: of these.
        over: see `drift`; may be empty.
    """
    short = [delta for delta in over if delta <= _OVER_TIME] or list(over)[:1]
    rows = 2 if short else 1
    figure = Figure(figsize=(9.0, 2.5 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, 1, squeeze=False)[:, 0]
    seconds = seconds - seconds[0]
    _over_time(panels[0], seconds, 100 * errors.ate_trans_m, "APE, cm")
    if short:
        relative = over[short[-1]]
        label = f"RPE over {short[-1]:g} m, cm"
        _over_time(panels[1], seconds[relative.first], 100 * relative.trans_m, label)
        panels[1].set_xlim(panels[0].get_xlim())
    panels[-1].set_xlabel("time, s")
    return figure


def drift_figure(over: dict[float, RelativeErrors]) -> Figure:
    """Boxes of the relative errors by the length of the stretch: quartiles, 5 % and 95 %."""
    figure = Figure(figsize=(9.0, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    labels = [f"{delta:g}" for delta in over]
    for axis, name, scale, label, colour in zip(
        figure.subplots(1, 2),
        ("trans_m", "rot_deg"),
        (100.0, 1.0),
        ("RPE, cm", "RPE, deg"),
        (BLUE, GREEN),
        strict=True,
    ):
        values = [scale * getattr(relative, name) for relative in over.values()]
        axis.boxplot(
            values,
            whis=(5, 95),
            showfliers=False,
            widths=0.5,
            patch_artist=True,
            boxprops={"facecolor": colour, "alpha": 0.6, "linewidth": 0},
            medianprops={"color": "0"},
            tick_labels=labels,
        )
        axis.set(xlabel="length of the stretch, m", ylabel=label)
        axis.set_ylim(bottom=0)
        _tidy(axis)
    return figure


def _over_time(axis: Axes, seconds: np.ndarray, values: np.ndarray, label: str) -> None:
    found = Statistics.of(values)
    curve = with_gaps(np.stack([seconds, values], axis=1), seconds)
    axis.plot(*curve.T, color="0.5", linewidth=1.0)
    low = max(found.mean - found.std, 0.0)
    axis.axhspan(low, found.mean + found.std, color=BLUE, alpha=0.15, linewidth=0, label="std")
    for name, colour, style in (("mean", BLUE, "-"), ("median", GREEN, "--"), ("rmse", RED, "-.")):
        value = getattr(found, name)
        axis.axhline(
            value, color=colour, linestyle=style, linewidth=1.2, label=f"{name} {value:.2f}"
        )
    axis.set(ylabel=label, ylim=(0, None))
    axis.margins(x=0)
    axis.legend(frameon=False, fontsize=8, ncols=4, loc="lower right", bbox_to_anchor=(1.0, 0.98))
    _tidy(axis)


def _tidy(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color="0.92", linewidth=0.8)
    axis.set_axisbelow(True)
