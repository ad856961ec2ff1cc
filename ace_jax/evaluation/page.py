"""The report of a run: a self-contained HTML page, built from the sections that a command lists."""

import base64
import dataclasses
import datetime
import html
import io
import math
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ace_jax import __version__, config_flag
from ace_jax.files import replacing
from ace_jax.runtime import processor

_STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --muted: #59636e; --line: #d8dde3;
       --page: #fff; --panel: #f6f8fa }
@media (prefers-color-scheme: dark) { :root { --text: #dfe4ea; --muted: #94a0ad; --line: #363d46;
       --page: #15181c; --panel: #1c2026 } }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem;
       color: var(--text); background: var(--page) }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .2rem 1rem .2rem 0; text-align: left;
       vertical-align: top; font-weight: normal }
th { color: var(--muted) } td.n { text-align: right; font-variant-numeric: tabular-nums }
.columns { display: flex; flex-wrap: wrap; gap: 0 4rem }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1rem }
figure { margin: 0 } figcaption { font-size: .85rem }
img { max-width: 100%; height: auto } body > img { max-height: 40rem }
code { font-size: .9em; overflow-wrap: anywhere } summary { cursor: pointer; color: var(--muted) }
"""
_GREY = re.compile(r"#([0-9a-f]{2})\1\1\b")
_WHITE, _BLACK = 0xDF, 0x16  # what black and white become on a dark page


@dataclasses.dataclass(frozen=True)
class Section:
    """A section of a report.

    Attributes:
        heading: its title.
        content: HTML, such as `table` and `drawing` return; a section with no content is left out.
        note: a sentence below the heading.
    """

    heading: str
    content: Sequence[str]
    note: str = ""


def write_report(
    path: Path,
    title: str,
    summary: Iterable[Iterable[tuple[str, str]]],
    settings: Mapping[str, Any],
    sections: Iterable[Section],
) -> None:
    """Writes a report: key figures, the sections in their order, settings.

    Args:
        path: the HTML file.
        title: of the page.
        summary: tables of names and values, shown side by side.
        settings: the run's configuration.
        sections: what the command has to show; the settings follow.
    """
    columns = "".join(f"<div>{table(rows)}</div>" for rows in summary)
    body = [f"<h1>{html.escape(title)}</h1>", f'<div class="columns">{columns}</div>']
    for section in (*sections, Section("Settings", [settings_table(settings)])):
        if section.content:
            body.append(f"<h2>{html.escape(section.heading)}</h2>")
            body += [f"<p>{html.escape(section.note)}</p>"] if section.note else []
            body += section.content
    content = "\n".join(body)
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{content}</body></html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def number(value: float | None, scale: float = 1.0, digits: int = 1, unit: str = "") -> str:
    """A number times `scale`; `unknown` for None, NaN and infinities."""
    if value is None or not math.isfinite(value):
        return "unknown"
    return f"{value * scale:.{digits}f}{unit}"


def table(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and values."""
    cells = "".join(
        f'<tr><th>{html.escape(name)}</th><td class="n">{html.escape(value)}</td></tr>'
        for name, value in rows
    )
    return f"<table>{cells}</table>"


def settings_table(values: Mapping[str, Any]) -> str:
    """How a run was started and where: the command, machine and versions, every setting."""
    command = (
        [Path(sys.argv[0]).name, *config_flag.as_given(sys.argv[1:])] if sys.argv[0] else ["python"]
    )
    if sys.argv[0].endswith("__main__.py"):
        command[:1] = ["python", "-m", f"ace_jax.{Path(sys.argv[0]).parent.name}"]
    rows = [
        ("command", shlex.join(command)),
        ("when", datetime.datetime.now().strftime("%Y-%m-%d %H:%M")),
        ("machine", f"{processor()}, {os.cpu_count()} cores; JAX on {jax.devices()[0].platform}"),
        ("versions", f"ace_jax {__version__}, JAX {jax.__version__}, {platform.python_version()}"),
    ]
    flat = dict(_flat(values))
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td><code>{html.escape(value)}</code></td></tr>"
        for name, value in rows
    )
    return (
        f"<table>{cells}</table><details><summary>all {len(flat)} settings</summary>"
        f"{table((name, str(value)) for name, value in flat.items())}</details>"
    )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def drawing(figure: Figure, text: str) -> str:
    """A Matplotlib figure as a vector image, whose greys follow the reader's theme."""
    buffer = io.StringIO()
    FigureCanvasSVG(figure)
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", dpi=110, transparent=True)
    return image(themed(buffer.getvalue()).encode(), "image/svg+xml", text)


def themed(svg: str) -> str:
    """An SVG image of Matplotlib's, legible on a light and on a dark page."""
    svg = svg[svg.index("<svg") :]  # the document type names an address, and so do the metadata
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = _GREY.sub(r"var(--g\1)", svg).replace("'DejaVu Sans'", "system-ui")
    greys = sorted({"00", *re.findall(r"var\(--g(..)\)", svg)})
    by_day = "".join(f"--g{grey}:#{3 * grey};" for grey in greys)
    by_night = "".join(f"--g{grey}:#{3 * _by_night(grey)};" for grey in greys)
    # What is black has no colour of its own in Matplotlib's files.
    style = (
        f"<style>svg{{{by_day}fill:var(--g00)}}"
        f"@media(prefers-color-scheme:dark){{svg{{{by_night}}}}}</style>"
    )
    start = svg.index(">") + 1
    return svg[:start] + style + svg[start:]


def _by_night(grey: str) -> str:
    return f"{round(_WHITE - (_WHITE - _BLACK) * int(grey, 16) / 255):02x}"


def image(data: bytes, kind: str, text: str) -> str:
    """An image embedded in the page; `text` is its alternative text."""
    encoded = base64.b64encode(data).decode("ascii")
    return f'<img alt="{html.escape(text)}" src="data:{kind};base64,{encoded}">'


def pictures(jpegs: Iterable[tuple[bytes, str, str]]) -> str:
    """A grid of JPEG images with their names and captions."""
    figures = (
        f"<figure>{image(data, 'image/jpeg', name)}"
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for data, name, caption in jpegs
    )
    return '<div class="pictures">' + "".join(figures) + "</div>"
