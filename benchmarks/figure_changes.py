"""Figures of two runs of a benchmark that differ by more than their noise."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from history_file import History
from markdown import table

# By the last word of a figure's name: +1 where more is better, and the least change that counts.
METRICS = {
    "ate_cm": (-1, 0.01),
    "ate_live_cm": (-1, 0.01),
    "median_cm": (-1, 0.01),
    "coverage": (1, 0.001),
    "within_5cm_5deg": (1, 0.1),
    "within_25cm_5deg": (1, 0.1),
    "fps": (1, 0.1),
    "map_mb": (-1, 0.01),
}
SPEED = ("fps",)
SEEDS = 3  # from which on the range over seeds is taken for the noise


@dataclasses.dataclass(frozen=True)
class Change:
    """One figure in two runs; None where a run has none.

    Attributes:
        name: of the figure.
        old: values over the seeds.
        new: values over the seeds.
        noise: the change of the median that means nothing.
        verdict: `better`, `worse`, `level`, `new` or `gone`.
    """

    name: str
    old: Sequence[float] | None
    new: Sequence[float] | None
    noise: float
    verdict: str


def compare(old: History, new: History, margin: float, speed_margin: float) -> list[Change]:
    """Every figure of two runs, those that moved first."""
    changes = []
    for name in dict.fromkeys([*old.figures, *new.figures]):
        # A figure without values is one that no run of a row had, such as the error of no pose.
        before, after = (run.figures.get(name) or None for run in (old, new))
        if before is None and after is None:
            continue
        if before is None or after is None:
            changes.append(Change(name, before, after, 0.0, "new" if before is None else "gone"))
            continue
        metric = name.rpartition(" ")[2]
        sign, least = METRICS.get(metric, (-1, 0.0))
        share = speed_margin if metric in SPEED else margin
        noise = max(_noise(before, after, share), least / 2)
        gain = sign * float(np.median(after) - np.median(before))
        verdict = "level" if abs(gain) <= noise else "better" if gain > 0 else "worse"
        changes.append(Change(name, before, after, noise, verdict))
    order = ("worse", "better", "gone", "new", "level")
    return sorted(changes, key=lambda change: order.index(change.verdict))


def _noise(before: Sequence[float], after: Sequence[float], share: float) -> float:
    if min(len(before), len(after)) >= SEEDS:
        return max(float(np.ptp(before)), float(np.ptp(after)))
    return share * abs(float(np.median(before)))


def text(changes: Sequence[Change], show_all: bool = False) -> str:
    """A Markdown table of what moved, and how many did not."""
    moved = [change for change in changes if show_all or change.verdict != "level"]
    rows = [[c.name, _values(c.old), _values(c.new), f"{c.noise:.3g}", c.verdict] for c in moved]
    level = sum(change.verdict == "level" for change in changes)
    lines = [table(["figure", "old", "new", "noise", ""], rows)] if rows else []
    return "\n\n".join([*lines, f"{level} of {len(changes)} figures have not moved."])


def _values(values: Sequence[float] | None) -> str:
    if not values:
        return "-"
    median, low, high = (f"{x:.4g}" for x in (np.median(values), min(values), max(values)))
    return median if low == high else f"{median} ({low}-{high})"
