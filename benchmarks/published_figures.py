"""The figures that papers report: read from `published_*.toml`, and checked for form."""

import dataclasses
import tomllib
from collections.abc import Sequence
from pathlib import Path

from published_protocols import BENCHMARKS

from ace_jax.errors import UserError

PATHS = [Path(__file__).with_name(f"published_{task}.toml") for task in ("slam", "relocalization")]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A column of a table.

    Attributes:
        title: with its unit.
        higher_is_better: whether.
        digits: shown of our figure.
    """

    title: str
    higher_is_better: bool = False
    digits: int = 1


METRICS = {
    "ate_cm": Metric("ATE RMSE, cm", digits=2),
    "within_5cm_5deg": Metric("within 5 cm and 5 degrees, %", higher_is_better=True),
    "within_25cm_5deg": Metric("within 25 cm and 5 degrees, %", higher_is_better=True),
    "median_cm": Metric("median error, cm"),
    "fps": Metric("frames a second", higher_is_better=True),
    "map_mb": Metric("map, MB", digits=2),
}


@dataclasses.dataclass(frozen=True)
class Figure:
    """One published figure.

    Attributes:
        method: its name.
        benchmark: key of `BENCHMARKS`.
        sequence: of the benchmark, or the name of one of its averages.
        metric: key of `METRICS`, which has the unit.
        value: as the paper has it; an `int` was published without decimals.
        hardware: "" where not known.
        protocol: how the authors measured.
        source: paper and table.
        checked: where the value was compared with a second source; "" if it was not.
    """

    method: str
    benchmark: str
    sequence: str
    metric: str
    value: float | int
    hardware: str
    protocol: str
    source: str
    checked: str

    @property
    def text(self) -> str:
        """The value as published; an asterisk says that nobody compared it with the paper."""
        return f"{self.value}{'' if self.checked else '*'}"

    @property
    def last_digit(self) -> float:
        """A unit of the last digit that was published."""
        if isinstance(self.value, int):
            return 1.0
        return 10.0 ** -len(str(self.value).partition(".")[2])


def read(paths: Sequence[Path] = PATHS) -> list[Figure]:
    """All published figures.

    Raises:
        UserError: an entry is incomplete, twice there, or names what does not exist.
    """
    figures, seen = [], set()
    for path in paths:
        for figure in _read(path):
            key = (figure.method, figure.benchmark, figure.sequence, figure.metric)
            known = BENCHMARKS.get(figure.benchmark)
            if known is None or figure.metric not in METRICS:
                raise UserError(f"{path}: no benchmark or metric {key}")
            if figure.sequence not in known.sequences and figure.sequence not in known.averages:
                raise UserError(f"{path}: {known.title} has no sequence or average {key}")
            if key in seen or not figure.value > 0 or not figure.source:
                raise UserError(f"{path}: {key} is there twice, not positive, or without a source")
            seen.add(key)
            figures.append(figure)
    return figures


def _read(path: Path) -> list[Figure]:
    try:
        entries = tomllib.loads(path.read_text())["figures"]
        return [
            Figure(sequence=sequence, value=value, **rest)
            for entry in entries
            for rest in [{key: given for key, given in entry.items() if key != "values"}]
            for sequence, value in entry["values"].items()
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}; each entry has the fields of the first one") from error
