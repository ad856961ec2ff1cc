"""Figures of finished benchmarks, one small JSON a run, in `benchmarks/history/`.

They are committed with the tables that they belong to, so that `compare.py` can say what a change
moved.
"""

import dataclasses
import datetime
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ace_jax.errors import UserError
from ace_jax.files import write_json

FOLDER = Path(__file__).resolve().parent / "history"


@dataclasses.dataclass(frozen=True)
class History:
    """One run of a benchmark.

    Attributes:
        benchmark: the script's name.
        revision: of the repository.
        stamp: date, revision, machine and load.
        figures: values by name, such as `tum/freiburg1_rpy ate_cm`, one for each seed.
    """

    benchmark: str
    revision: str
    stamp: str
    figures: Mapping[str, Sequence[float]]


def save(history: History, folder: Path = FOLDER) -> Path:
    """Writes a run; one of the same day, benchmark and revision keeps its other figures.

    A script may make its tables in several runs.

    Raises:
        UserError: that one is unreadable.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{datetime.date.today()}-{history.benchmark}-{history.revision}.json"
    before = load(str(path)).figures if path.is_file() else {}
    together = dataclasses.replace(history, figures={**before, **history.figures})
    write_json(path, dataclasses.asdict(together))
    return path


def load(name: str, folder: Path = FOLDER) -> History:
    """A run by its file; or by a part of its file's name, such as a revision, the latest of these.

    Raises:
        UserError: there is none, several benchmarks fit, or it is unreadable.
    """
    path = Path(name)
    if not path.is_file():
        found = sorted(path for path in folder.glob("*.json") if name in path.name)
        pattern = r"\d{4}-\d\d-\d\d-(.*)-[^-]+(-dirty)?\.json"
        benchmarks = {re.sub(pattern, r"\1", path.name) for path in found}
        if len(benchmarks) != 1:
            what = f"several benchmarks: {', '.join(sorted(benchmarks))}" if found else "no run"
            raise UserError(f"{name}: no such file, and {what} of that name in {folder}")
        path = found[-1]
    try:
        return History(**json.loads(path.read_text()))
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no run of a benchmark: {error}") from error
