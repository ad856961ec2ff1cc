"""Our figures beside the published ones.

  python benchmarks/published.py --data_root DIR [--only tum,replica] [--download [--keep]]

Finds which sequences of TUM RGB-D, Replica, ScanNet, Bonn, ICL-NUIM, 7-Scenes, 12-Scenes,
Cambridge Landmarks, Indoor-6 and RIO10 lie under the data root (laid out as docs/datasets.md says),
runs SLAM, or mapping and relocalization, as the papers do (`published_protocols.py`), and prints
our figure beside theirs (`published_figures.toml`) with a verdict a cell: ahead, level, behind, or
"not the same frames" where only a part of a sequence is here.

One JSON a run in --out. Runs of this revision that ended well are not repeated (--again repeats
them), so an interrupted call goes on where it was; what failed is tried again, and never stops the
rest. --download fetches what is missing and may be fetched without a form, one sequence at a time,
and removes it after its runs unless --keep is given. --docs puts the tables into docs/published.md.

Protocol: default settings, all frames, no tuning on them. SLAM: ATE RMSE of the final poses after
rigid alignment, never scaled. Relocalization: the official split; maps come from images and poses
alone (--preset), as those of the papers. The median of --seeds; a verdict takes the worst seed, see
`published_verdicts.py`. Speed is of this machine, theirs of the hardware that is named.
"""

import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import published_page
from absl import flags
from machine import stamp
from markdown import asked, publish, table
from published_discovery import Found, find
from published_download import fetched, part_of
from published_figures import read
from published_protocols import BENCHMARKS
from published_runs import Command, Record, Runs, python
from published_verdicts import Records, Table, tables

from ace_jax import errors
from ace_jax.errors import UserError

_DATA_ROOT = flags.DEFINE_string("data_root", "data", "folder that holds 7scenes/, tum/, ...")
_ONLY = flags.DEFINE_list("only", list(BENCHMARKS), "benchmarks")
_SEEDS = flags.DEFINE_integer("seeds", 3, "runs a sequence", lower_bound=1)
_PRESET = flags.DEFINE_string("preset", "landmarks_rgb", "preset of mapping")
_OUT = flags.DEFINE_string("out", "runs/benchmarks/published", "folder for the runs")
_AGAIN = flags.DEFINE_bool("again", False, "repeat runs that are finished")
_DOWNLOAD = flags.DEFINE_bool("download", False, "fetch what is not there, where that is possible")
_KEEP = flags.DEFINE_bool("keep", False, "keep what --download fetched")
_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose tables are replaced")


def measure(
    names: Sequence[str],
    root: Path,
    runs: Runs,
    seeds: int,
    download: bool = False,
    keep: bool = False,
) -> Records:
    """Runs what is here and not finished.

    Raises:
        UserError: nothing is here, and nothing was run before.
    """
    records: dict[tuple[str, str], Sequence[Record]] = {}
    places = [(name, sequence) for name in names for sequence in BENCHMARKS[name].sequences]
    number, began = 0, time.monotonic()
    # What one download brings is run together.
    for (name, part), group in itertools.groupby(places, lambda place: (place[0], part_of(*place))):
        sequences = [sequence for _, sequence in group]
        known = BENCHMARKS[name]
        done = {s: _finished(runs, name, s, find(known, s, root), seeds) for s in sequences}
        missing = any(None in d and find(known, s, root) is None for s, d in done.items())
        with fetched(known, part if download and missing else None, root, keep):
            for sequence, finished in done.items():
                number += 1
                found = find(known, sequence, root) if None in finished else None
                if found is not None:
                    minutes = (time.monotonic() - began) / 60
                    _say(f"[{number} of {len(places)}, {minutes:.0f} min] {name}/{sequence}")
                    finished = [
                        record or _told(runs.run(name, sequence, seed, found))
                        for seed, record in enumerate(finished)
                    ]
                if None not in finished:
                    records[name, sequence] = finished
    if not records:
        kinds = ", ".join(dict.fromkeys(BENCHMARKS[name].kind for name in names))
        raise UserError(
            f"{root} has none of the papers' sequences of {kinds}: `python -m ace_jax.data list` "
            "says where they come from, --download fetches what may be fetched"
        )
    return records


def _finished(
    runs: Runs, name: str, sequence: str, found: Found | None, seeds: int
) -> list[Record | None]:
    return [runs.finished(name, sequence, seed, found) for seed in range(seeds)]


def _told(record: Record) -> Record:
    end = f"failed: {record.failure}" if record.failure else f"{record.metrics}"
    _say(f"  seed {record.seed}, {record.frames}, {record.seconds:.0f} s: {end}")
    return record


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def text(chosen: Sequence[Table]) -> str:
    """The tables as Markdown."""
    return "\n\n".join(f"**{t.title}**\n\n{table(t.header, t.rows)}" for t in chosen)


def main(_: Sequence[str], command: Command = python) -> None:
    """Measures, prints the tables and writes the page."""
    asked(BENCHMARKS, _ONLY.value, "benchmark")
    root, out = Path(_DATA_ROOT.value).expanduser(), Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    figures, when = read(), stamp()
    runs = Runs(out, root, _PRESET.value, command, _AGAIN.value)
    records = measure(_ONLY.value, root, runs, _SEEDS.value, _DOWNLOAD.value, _KEEP.value)
    used = [figure for figure in figures if figure.benchmark in _ONLY.value]
    made = [t for name in _ONLY.value for t in tables(name, used, records)]
    seeds = f"{_SEEDS.value} seed{'s' if _SEEDS.value > 1 else ''}"
    where = f"{when}; {seeds}, mapping with `{_PRESET.value}`."
    chosen = [BENCHMARKS[name] for name in _ONLY.value]
    notes = [f"{known.title}: {known.note}" for known in chosen if known.note]
    below = "\n".join([published_page.NOT_CHECKED, *notes])
    publish("published", f"{text(made)}\n\n{below}\n\n{where}", _DOCS.value)
    listed = table(published_page.SOURCES_HEADER, published_page.sources(used))
    publish("published-sources", f"{listed}\n\n{where}", _DOCS.value)
    published_page.write(out / "report.html", made, used, where)
    _say(f"{out / 'report.html'}: the same with charts")


if __name__ == "__main__":
    errors.run(main)
