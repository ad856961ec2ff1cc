"""Training log: `metrics.jsonl`, a progress bar, and TensorBoard on request."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ace_jax.errors import UserError
from ace_jax.files import replacing
from ace_jax.progress import ProgressBar, status

METRICS = "metrics.jsonl"


class Journal:
    """Writes `metrics.jsonl`; a resumed run goes on where its checkpoint was made."""

    def __init__(
        self, folder: Path, start: int, steps: int, tensorboard: bool = False, first: bool = True
    ):
        """Opens the journal.

        Args:
            folder: of the run.
            start: iterations done; what a killed run wrote after its last checkpoint is removed.
            steps: iterations in all.
            tensorboard: write event files, too.
            first: whether this is the first process; the others write nothing.

        Raises:
            UserError: TensorBoard is wanted and cannot be written.
        """
        self._path = folder / METRICS
        lines = [line for line in read_metrics(folder) if line["step"] <= start]
        self._first = first
        if first:
            with replacing(self._path) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
        self._seconds = max((line.get("seconds", 0.0) for line in lines), default=0.0)
        self._began, self._events = time.monotonic(), None
        if tensorboard and first:
            try:
                from tensorboardX import SummaryWriter
            except ImportError as error:
                raise UserError(
                    "config.tensorboard needs: pip install tensorboardX (or set it to False)"
                ) from error
            self._events = SummaryWriter(str(folder / "tensorboard"))
        self._bar = ProgressBar(steps, "pre-training", initial=start, unit="step", shown=first)

    @property
    def seconds(self) -> float:
        """Time spent on the run, interruptions left out."""
        return self._seconds + time.monotonic() - self._began

    def write(self, step: int, **figures: Any) -> None:
        """A line."""
        if not self._first:
            return
        line = {"step": step, "seconds": round(self.seconds, 2)} | figures
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if self._events is not None:
            for name, value in _scalars(figures):
                self._events.add_scalar(name, value, step)

    def show(self, step: int, **figures: float) -> None:
        """Moves the bar."""
        self._bar.show(step, status(**figures))

    def close(self) -> None:
        """Ends."""
        self._bar.close()
        if self._events is not None:
            self._events.close()


def _scalars(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a line; those of a group within it as `group/name`."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, float | int):
            yield prefix + name, value


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; a last line that was cut short is left out."""
    path = folder / METRICS
    result = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                result.append(json.loads(line))
            except ValueError:
                break
    return result
