"""Jobs of `all.py`: run, kept by revision, listed; and the check of the documentation's tables."""

import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from doc_tables import JOBS, REPO, Job, faults, stamp_of
from machine import Command, python, revision, stamp

from ace_jax.files import write_json


def listing(ended: Mapping[str, Mapping[str, Any]]) -> str:
    """The jobs as lines, with measured hours where there are some."""
    lines, total = [], 0.0
    for name, job in JOBS.items():
        known = ended.get(name, {})
        measured = known.get("hours") if known.get("failure") is None else None
        hours = job.hours if measured is None else measured
        total += hours
        told = f"{hours:4.1f} h {'measured' if measured is not None else 'guessed '}"
        needs = f"; needs {job.needs}" if job.needs else ""
        lines += [
            f"{name:<20} {told}  docs/{job.page}: {', '.join(job.tables)}{needs}",
            f"{'':<20} python benchmarks/{job.command}",
        ]
    return "\n".join([*lines, f"{'together':<20} {total:4.1f} h"])


def check(found: Mapping[tuple[str, str], str]) -> tuple[str, int]:
    """Tables by revision and what is wrong, as lines; the exit code."""
    by_revision: dict[str, list[str]] = {}
    for (page, name), text in found.items():
        told = stamp_of(text)
        of = " and ".join(told.revisions) if told else "not told"
        by_revision.setdefault(of, []).append(f"{page} {name}")
    lines = [f"{of}: {', '.join(names)}" for of, names in sorted(by_revision.items())]
    lines.append(f"{len(found)} tables of {len(by_revision)} revisions")
    wrong = faults(found)
    return "\n".join([*lines, *(f"error: {line}" for line in wrong)]), int(bool(wrong))


def run(
    names: Sequence[str],
    places: Mapping[str, str],
    out: Path,
    command: Command = python,
    again: bool = False,
) -> dict[str, dict[str, Any]]:
    """Runs jobs that this revision has not finished; what became of all that ever ran.

    Args:
        names: of `JOBS`.
        places: `data` and `shared`.
        out: folder of `all.json`, logs and the scripts' own folders.
        command: what runs Python.
        again: repeat finished ones, too.
    """
    out.mkdir(parents=True, exist_ok=True)
    ended = read(out)
    for number, name in enumerate(names, 1):
        # Writing a table changes a file; what counts is what was committed.
        now = revision().removesuffix("-dirty")
        known = ended.get(name, {})
        if known.get("revision") == now and known.get("failure") is None and not again:
            continue
        print(f"[{number} of {len(names)}] {name}", file=sys.stderr, flush=True)
        when, began = stamp(), time.monotonic()
        failure = command(arguments(JOBS[name], name, places, out / now), _log(out, name))
        hours = (time.monotonic() - began) / 3600
        ended[name] = {"revision": now, "stamp": when, "hours": hours, "failure": failure}
        write_json(out / "all.json", ended)
    return ended


def arguments(job: Job, name: str, places: Mapping[str, str], work: Path) -> list[str]:
    """Of Python, for a job."""
    (work / name).mkdir(parents=True, exist_ok=True)
    filled = job.command.format(docs=REPO / "docs" / job.page, work=work / name, **places)
    script, *rest = shlex.split(filled)
    return [str(REPO / "benchmarks" / script), *rest]


def read(out: Path) -> dict[str, dict[str, Any]]:
    """What became of the jobs; empty if none ran."""
    path = out / "all.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def _log(out: Path, name: str) -> Path:
    path = out / f"{name}.log"
    path.write_text("")
    return path
