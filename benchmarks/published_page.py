"""The offline page of `published.py`: each table, and a chart where something of ours was run."""

import html
from collections.abc import Sequence
from pathlib import Path

from published_figures import Figure
from published_verdicts import AHEAD, BEHIND, LEVEL, OTHER_FRAMES, Table

from ace_jax.evaluation.charts import bar_figure
from ace_jax.evaluation.page import Section, drawing, write_report

_COLOURS = {AHEAD: "#e2f0d9", LEVEL: "#f2f2f2", BEHIND: "#fbe0e0"}
SOURCES_HEADER = ["benchmark", "method", "hardware", "protocol", "source", "compared with"]
NOT_CHECKED = "An asterisk: the published figure has not been compared with the paper's table."


def write(path: Path, tables: Sequence[Table], figures: Sequence[Figure], stamp: str) -> None:
    """Writes the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    counts = {
        kind: sum(cell.endswith(f": {kind}") for t in tables for row in t.rows for cell in row)
        for kind in (*_COLOURS, OTHER_FRAMES)
    }
    sections = [Section(t.title, [_html(t.header, t.rows), *_charts(t)]) for t in tables]
    sections.append(Section("Sources", [_html(SOURCES_HEADER, sources(figures))], NOT_CHECKED))
    summary = [[(kind, str(count)) for kind, count in counts.items()], [("measured", stamp)]]
    write_report(path, "ace_jax beside published figures", summary, {}, sections)


def sources(figures: Sequence[Figure]) -> list[list[str]]:
    """Where the figures come from: rows for `SOURCES_HEADER`."""
    rows = [
        [f.benchmark, f.method, f.hardware or "-", f.protocol, f.source, f.checked or "not yet"]
        for f in figures
    ]
    return [list(row) for row in dict.fromkeys(map(tuple, rows))]


def _charts(table: Table) -> list[str]:
    charts = []
    for sequence, values in table.values.items():
        if any(name.startswith("ace_jax") for name in values) and len(values) > 1:
            text = f"{sequence}: {table.unit}"
            charts.append(drawing(bar_figure(values, text), text))
    return charts


def _html(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(map(_td, row))}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _td(cell: str) -> str:
    colour = _COLOURS.get(cell.rpartition(": ")[2])
    style = f' style="background: {colour}"' if colour else ""
    return f"<td{style}>{html.escape(cell)}</td>"
