"""How a mapping run tells where it is."""

import math
import time
from typing import Any, Protocol

from ace_jax.progress import ProgressBar, status


class Progress(Protocol):
    """Called by every stage as it goes."""

    def __call__(self, stage: str, done: int, total: int, **figures: Any) -> None:
        """Reports that `done` of `total` steps of a stage are done, with figures to show."""
        ...


def quiet(stage: str, done: int, total: int, **figures: Any) -> None:
    """Reports nothing."""


class Bars:
    """A bar per stage on stderr, and the seconds that each took.

    Attributes:
        seconds: wall-clock seconds by stage.
        curve: (step, loss, median error in pixels) of the training, as far as it was told.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.curve: list[tuple[int, float, float]] = []
        self._stage, self._started = "", 0.0
        self._bar: ProgressBar | None = None

    def __call__(self, stage: str, done: int, total: int, **figures: Any) -> None:
        """Moves the stage's bar; a new stage closes the last one's."""
        now = time.perf_counter()
        if "loss" in figures:
            self.curve.append((done, figures["loss"], figures.get("error_px", math.nan)))
        if stage != self._stage:
            self.close()
            self._stage, self._started = stage, now
            self._bar = ProgressBar(total, f"{stage:<10}")
        self._bar.show(done, status(**figures), total)

    def close(self) -> None:
        """Ends the present stage."""
        if self._bar is not None:
            self._bar.close()
            past = self.seconds.get(self._stage, 0.0)
            self.seconds[self._stage] = past + time.perf_counter() - self._started
        self._stage, self._bar = "", None
