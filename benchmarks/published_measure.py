"""Runs the papers' benchmarks on the sequences that are there or can be downloaded."""

import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from published_discovery import Found, find
from published_download import fetched, part_of
from published_protocols import BENCHMARKS
from published_runs import Record, Runs
from published_verdicts import Records

from ace_jax.errors import UserError


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
        here = {s: find(known, s, root) for s in sequences}
        done = {s: _finished(runs, name, s, here[s], seeds) for s in sequences}
        missing = any(None in done[s] and here[s] is None for s in sequences)
        with fetched(known, part if download and missing else None, root, keep):
            for sequence in sequences:
                number += 1
                finished, found = done[sequence], here[sequence]
                if None in finished and found is None:
                    found = find(known, sequence, root)  # it may have been fetched
                if None in finished and found is not None:
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


def history(records: Records) -> dict[str, list[float]]:
    """Figures of runs that ended well, for `compare.py`."""
    result: dict[str, list[float]] = {}
    for (name, sequence), runs in records.items():
        for record in runs:
            for metric, value in record.metrics.items():
                if value is not None:
                    result.setdefault(f"{name}/{sequence} {metric}", []).append(value)
    return result
