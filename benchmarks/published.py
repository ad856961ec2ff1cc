"""Our figures beside the published ones.

  python benchmarks/published.py --data_root DIR [--only tum,replica] [--download [--keep]]

Finds which sequences of TUM RGB-D, Replica, ScanNet, Bonn, ICL-NUIM, 7-Scenes, 12-Scenes,
Cambridge Landmarks, Indoor-6 and RIO10 lie under the data root (laid out as docs/datasets.md says),
runs SLAM, or mapping and relocalization, as the papers do (`published_protocols.py`), and prints
our figure beside theirs (`published_*.toml`) with a verdict a cell: ahead, level, behind, or
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

import sys
from collections.abc import Sequence
from pathlib import Path

import published_page
from absl import flags
from history_file import FOLDER, History, save
from machine import stamp
from markdown import asked, publish, table
from published_figures import read
from published_measure import history, measure
from published_protocols import BENCHMARKS
from published_runs import Runs
from published_verdicts import Table, tables

from ace_jax import errors

_DATA_ROOT = flags.DEFINE_string("data_root", "data", "folder that holds 7scenes/, tum/, ...")
_ONLY = flags.DEFINE_list("only", list(BENCHMARKS), "benchmarks")
_SEEDS = flags.DEFINE_integer("seeds", 3, "runs a sequence", lower_bound=1)
_PRESET = flags.DEFINE_string("preset", "landmarks_rgb", "preset of mapping")
_OUT = flags.DEFINE_string("out", "runs/benchmarks/published", "folder for the runs")
_AGAIN = flags.DEFINE_bool("again", False, "repeat runs that are finished")
_DOWNLOAD = flags.DEFINE_bool("download", False, "fetch what is not there, where that is possible")
_KEEP = flags.DEFINE_bool("keep", False, "keep what --download fetched")
_HISTORY = flags.DEFINE_string("history", str(FOLDER), "folder of finished runs' figures")
_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose tables are replaced")


def text(chosen: Sequence[Table]) -> str:
    """The tables as Markdown."""
    return "\n\n".join(f"**{t.title}**\n\n{table(t.header, t.rows)}" for t in chosen)


def main(_: Sequence[str]) -> None:
    """Measures, prints the tables and writes the page."""
    asked(BENCHMARKS, _ONLY.value, "benchmark")
    root, out = Path(_DATA_ROOT.value).expanduser(), Path(_OUT.value)
    out.mkdir(parents=True, exist_ok=True)
    figures, when = read(), stamp()
    runs = Runs(out, root, _PRESET.value, again=_AGAIN.value)
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
    save(History("published", runs.revision, where, history(records)), Path(_HISTORY.value))
    published_page.write(out / "report.html", made, used, where)
    print(f"{out / 'report.html'}: the same with charts", file=sys.stderr)


if __name__ == "__main__":
    errors.run(main)
