"""Runs of the package's commands for `published.py`: one JSON a run; finished ones are kept."""

import dataclasses
import json
import shutil
import time
from pathlib import Path

from machine import Command, python, revision, stamp
from published_discovery import Found
from published_protocols import BENCHMARKS

from ace_jax.files import write_json


@dataclasses.dataclass(frozen=True)
class Record:
    """One run, as its JSON has it.

    Attributes:
        benchmark: key of `BENCHMARKS`.
        sequence: of it.
        seed: of the run.
        revision: of the repository.
        stamp: date, revision, machine and its load.
        frames: see `Found`.
        whole: see `Found`; False also if a frame could not be read.
        settings: what was run on what: the flags of `Found`, and the preset of mapping.
        seconds: wall time of the run.
        metrics: keys of `published_figures.METRICS`, and `coverage`.
        failure: why there are no metrics.
    """

    benchmark: str
    sequence: str
    seed: int
    revision: str
    stamp: str
    frames: str
    whole: bool
    settings: list[str]
    seconds: float
    metrics: dict[str, float | None]
    failure: str | None = None


class Runs:
    """Records in a folder, and how to make more."""

    def __init__(
        self, out: Path, root: Path, preset: str, command: Command = python, again: bool = False
    ) -> None:
        """Reads what is there.

        Args:
            out: folder of the records.
            root: data root.
            preset: of mapping.
            command: what runs the package's commands.
            again: repeat finished runs, too.
        """
        self.out, self.root, self.preset = out, root, preset
        self._command, self._again, self.revision = command, again, revision()

    def path(self, benchmark: str, sequence: str, seed: int) -> Path:
        """Of a record."""
        return self.out / f"{benchmark}-{sequence.replace('/', '_')}-seed{seed}.json"

    def finished(
        self, benchmark: str, sequence: str, seed: int, found: Found | None
    ) -> Record | None:
        """A run of this revision, on what is here now, that ended well; with `again`, none is.

        What is not here any more (it was downloaded, run and removed) counts as unchanged.
        """
        record = None if self._again else _read(self.path(benchmark, sequence, seed))
        if record is None or record.failure is not None or record.revision != self.revision:
            return None
        unchanged = found is None or record.settings == self._settings(benchmark, found)
        return record if unchanged and (found is None or record.frames == found.frames) else None

    def _settings(self, benchmark: str, found: Found) -> list[str]:
        preset = [] if BENCHMARKS[benchmark].task == "slam" else [self.preset]
        return [*found.map_flags, *found.query_flags, *preset]

    def run(self, benchmark: str, sequence: str, seed: int, found: Found) -> Record:
        """Runs a sequence, and writes the record, also of a failure."""
        path = self.path(benchmark, sequence, seed)
        work = path.with_suffix("")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        known, began, when = BENCHMARKS[benchmark], time.monotonic(), stamp()
        run = self._slam if known.task == "slam" else self._relocalization
        failure, metrics, whole = found.problem, {}, found.whole
        if failure is None:
            try:
                failure = run(found, seed, work)
                if failure is None:
                    metrics, unread = _metrics(known.task, work)
                    whole = whole and not unread
            except (OSError, KeyError, ValueError) as error:  # it ended, and left no results
                failure = f"no results: {type(error).__name__}: {error}"
        record = Record(
            benchmark,
            sequence,
            seed,
            self.revision,
            when,
            found.frames,
            whole,
            self._settings(benchmark, found),
            round(time.monotonic() - began, 1),
            metrics,
            failure,
        )
        write_json(path, dataclasses.asdict(record))
        return record

    def _slam(self, found: Found, seed: int, work: Path) -> str | None:
        flags = [*found.map_flags, f"--data_root={self.root}", f"--seed={seed}", f"--out={work}"]
        return self._command(["-m", "ace_jax.slam", *flags], work / "log.txt")

    def _relocalization(self, found: Found, seed: int, work: Path) -> str | None:
        shared, place = f"--data_root={self.root}", work / "map.safetensors"
        config = [f"--config={self.preset}", f"--config.seed={seed}", f"--out={place}"]
        mapping = ["-m", "ace_jax.mapping", *found.map_flags, shared, *config]
        asking = ["-m", "ace_jax.relocalize", *found.query_flags, shared, f"--map={place}"]
        asking += [f"--seed={seed}", f"--out={work}"]
        log = work / "log.txt"
        return self._command(mapping, log) or self._command(asking, log)


def _metrics(task: str, work: Path) -> tuple[dict[str, float | None], int]:
    """What is compared, and how many frames could not be read."""
    told = json.loads((work / "metrics.json").read_text())
    if task == "slam":
        ate = told["ate_rmse_m"]
        return {
            "ate_cm": None if ate is None else 100.0 * ate,
            "coverage": told["coverage"],
            "fps": told["fps"],
            "map_mb": told["map_bytes"] / 1e6,
        }, told["frames_skipped"]
    rows = [line.split() for line in (work / "poses.txt").read_text().splitlines()]
    errors = [(float(row[8]), float(row[9])) for row in rows if row and not row[0].startswith("#")]
    near = sum(degrees <= 5.0 and metres <= 0.25 for degrees, metres in errors)
    median = told["median_translation_m"]
    return {
        "within_5cm_5deg": told["within_5cm_5deg"],
        "within_25cm_5deg": 100.0 * near / told["queries"],
        "median_cm": None if median is None else 100.0 * median,
        "coverage": told["registered"] / told["queries"],
        "map_mb": told["map_bytes"] / 1e6,
    }, told["unread"]


def _read(path: Path) -> Record | None:
    """A record; None where there is none, or one of another form."""
    try:
        return Record(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
