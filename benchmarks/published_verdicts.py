"""Our figures beside the published ones: a verdict for each cell, and the tables."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from published_figures import METRICS, Figure
from published_protocols import BENCHMARKS, Benchmark
from published_runs import Record

AHEAD, LEVEL, BEHIND, OTHER_FRAMES = "ahead", "level", "behind", "not the same frames"
MARGIN = 0.05  # of the published value, within which figures are level
LEAST_COVERAGE = 0.95  # of a SLAM run's frames: an error over fewer of them wins nothing

# By benchmark and sequence: the runs, one a seed.
Records = Mapping[tuple[str, str], Sequence[Record]]


@dataclasses.dataclass(frozen=True)
class Ours:
    """Our side of a row.

    Attributes:
        here: what was run, or that it is not here.
        values: one a seed; None where nothing was found.
        whole: whether on the frames of the papers.
        covered: whether enough of the frames have a pose.
        failure: why there are no values.
    """

    here: str
    values: tuple[float | None, ...] = ()
    whole: bool = False
    covered: bool = True
    failure: str | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of one benchmark and metric.

    Attributes:
        title: names both.
        header: of the columns.
        rows: of text.
        values: by sequence, the figures of each method and, if there are any, ours: for charts.
        unit: the metric's title.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    values: dict[str, dict[str, float]]
    unit: str


def verdict(ours: Ours, figure: Figure) -> str:
    """Ahead or behind by more than the margin and than the seeds' spread, or level.

    The margin is 5 % of the published value, and at least half a unit of its last digit. The worst
    seed has to be better than that to be ahead, the best one worse to be behind.
    """
    if not ours.whole:
        return OTHER_FRAMES
    known = [value for value in ours.values if value is not None]
    if len(known) < len(ours.values) or not ours.covered:
        return BEHIND
    margin = max(MARGIN * figure.value, 0.5 * figure.last_digit)
    sign = 1.0 if METRICS[figure.metric].higher_is_better else -1.0
    gains = [sign * (value - figure.value) for value in known]
    if min(gains) > margin:
        return AHEAD
    return BEHIND if max(gains) < -margin else LEVEL


def ours_of(known: Benchmark, sequence: str, metric: str, records: Sequence[Record]) -> Ours:
    """Our side of one sequence."""
    if not records:
        return Ours("not here")
    here = records[0].frames
    failed = next((record.failure for record in records if record.failure is not None), None)
    if failed is not None:
        return Ours(here, failure=failed)
    lost = known.task == "slam" and any(
        (record.metrics.get("coverage") or 0.0) < LEAST_COVERAGE for record in records
    )
    values = tuple(record.metrics.get(metric) for record in records)
    return Ours(here, values, all(record.whole for record in records), not lost)


def average(parts: Sequence[Ours]) -> Ours:
    """Our side of a mean over sequences: for each seed, the mean of all of them."""
    ran = [part for part in parts if part.values]
    here = f"{len(ran)} of {len(parts)} sequences"
    if len(ran) < len(parts):
        return Ours(here)
    seeds = min(len(part.values) for part in parts)
    columns = [[part.values[seed] for part in parts] for seed in range(seeds)]
    means = tuple(None if None in column else float(np.mean(column)) for column in columns)
    return Ours(here, means, all(p.whole for p in parts), all(p.covered for p in parts))


def tables(key: str, figures: Sequence[Figure], records: Records) -> list[Table]:
    """The tables of a benchmark: published rows, with ours where it could be run."""
    known, result = BENCHMARKS[key], []
    for metric in known.metrics:
        chosen = [f for f in figures if (f.benchmark, f.metric) == (key, metric)]
        methods = list(dict.fromkeys(figure.method for figure in chosen))
        sides = {
            sequence: ours_of(known, sequence, metric, records.get((key, sequence), ()))
            for sequence in known.sequences
        }
        for name, parts in known.averages.items():
            sides[name] = average([sides[part] for part in parts])
        table = Table(
            f"{known.title}: {METRICS[metric].title}",
            ["sequence", "here", "ace_jax", *methods],
            [],
            {},
            METRICS[metric].title,
        )
        for sequence, ours in sides.items():
            by_method = {f.method: f for f in chosen if f.sequence == sequence}
            if by_method or ours.values or ours.failure:
                cells = [_cell(by_method.get(method), ours) for method in methods]
                table.rows.append([sequence, ours.here, _text(ours, metric), *cells])
                table.values[sequence] = _values(by_method, ours)
        if table.rows:
            result.append(table)
    return result


def _values(by_method: Mapping[str, Figure], ours: Ours) -> dict[str, float]:
    known = [value for value in ours.values if value is not None]
    part = "" if ours.whole else " (other frames)"
    own = {f"ace_jax{part}": float(np.median(known))} if known else {}
    return own | {method: figure.value for method, figure in by_method.items()}


def _text(ours: Ours, metric: str) -> str:
    if ours.failure is not None:
        return f"failed: {ours.failure}"
    if not ours.values:
        return "-"
    if None in ours.values:
        return "no pose"
    digits, known = METRICS[metric].digits, np.array(ours.values, float)
    median, low, high = (f"{x:.{digits}f}" for x in (np.median(known), known.min(), known.max()))
    spread = "" if low == high else f" ({low}-{high})"
    lost = "" if ours.covered else ", frames lost"
    return f"{median}{spread}{lost}"


def _cell(figure: Figure | None, ours: Ours) -> str:
    if figure is None:
        return ""
    return f"{figure.text}: {verdict(ours, figure)}" if ours.values else figure.text
