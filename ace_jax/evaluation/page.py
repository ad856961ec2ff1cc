"""Pieces of a report: one HTML file with everything in it, readable without a network."""

import base64
import datetime
import html
import io
import math
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ace_jax import __version__
from ace_jax.files import replacing
from ace_jax.runtime import processor

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .2rem 1rem .2rem 0; text-align: left;
       vertical-align: top; font-weight: normal }
th { color: #555 } td.n { text-align: right; font-variant-numeric: tabular-nums }
.columns { display: flex; flex-wrap: wrap; gap: 0 4rem }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 1rem }
figure { margin: 0 } figcaption { font-size: .85rem }
img { max-width: 100%; height: auto } body > img { max-height: 34rem }
code { font-size: .9em; overflow-wrap: anywhere } summary { cursor: pointer; color: #555 }
"""


def write_page(path: Path, title: str, parts: Iterable[str]) -> None:
    """Writes an HTML page; `parts` are its body."""
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts])
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{body}</body></html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def heading(text: str, note: str = "") -> str:
    """A section's heading, with a sentence below it."""
    return f"<h2>{html.escape(text)}</h2>" + (f"<p>{html.escape(note)}</p>" if note else "")


def number(value: float | None, scale: float = 1.0, digits: int = 1, unit: str = "") -> str:
    """A number times `scale`; None, NaN and infinities are unknown."""
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


def columns(parts: Sequence[str]) -> str:
    """Tables side by side, as far as the window is wide."""
    return '<div class="columns">' + "".join(f"<div>{part}</div>" for part in parts) + "</div>"


def settings(values: Mapping[str, Any]) -> str:
    """What a run was told and where it ran: the command, machine and versions, every setting."""
    command = [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv[0] else ["python"]
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
    """A Matplotlib figure as an image."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return image(buffer.getvalue(), "image/png", text)


def image(data: bytes, kind: str, text: str) -> str:
    """An image inside the page; `text` is shown where it cannot be."""
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
