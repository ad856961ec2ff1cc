"""Progress bars on terminals and lines in log files, for a job or for each of its stages."""

import math
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, TextIO

from tqdm import tqdm

_REFRESH = 0.2  # seconds between two pictures of the bar on a terminal
_LOG_SECONDS = 10.0  # between two lines where there is no terminal, at least
_LOG_GROWTH = 1.1  # and so much more time in all, so that a day is some 90 lines
_DESC = "{desc} {percentage:3.0f}"
_NUMBERS = "{n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"
_ON_TERMINAL = f"{_DESC}%|{{bar}}| {_NUMBERS}"
_IN_LOG = f"{_DESC} % {_NUMBERS}"
_NO_TOTAL = "{desc} {n_fmt} [{elapsed}, {rate_fmt}{postfix}]"


class ProgressBar:
    """A bar with time, rate and a status; in a log file, whole lines that come ever more rarely.

    Use as a context manager, or call `close`: the last line is also written when the job is cut
    short.
    """

    def __init__(
        self,
        total: int | None,
        name: str,
        *,
        initial: int = 0,
        unit: str = "it",
        scaled: bool = False,
        shown: bool = True,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepares the display.

        Args:
            total: steps in all; None if unknown.
            name: shown in front.
            initial: steps done before, in an earlier run.
            unit: of the steps, for the rate.
            scaled: write k, M, G.
            shown: False shows nothing at all.
            stream: where to write; standard error unless given.
            clock: seconds.
        """
        self._stream = sys.stderr if stream is None else stream
        self._name, self._unit, self._scaled, self._initial = name, unit, scaled, initial
        self._total, self._done, self._status = total, initial, ""
        self._clock, self._began, self._logged = clock, clock(), 0.0
        self._open, self._told = shown, False
        self._bar = None
        if shown and self._stream.isatty():
            self._bar = tqdm(
                total=total,
                initial=initial,
                desc=name,
                unit=unit,
                unit_scale=scaled,
                file=self._stream,
                dynamic_ncols=True,
                mininterval=_REFRESH,
                bar_format=_NO_TOTAL if total is None else _ON_TERMINAL,
            )

    def __enter__(self) -> "ProgressBar":
        return self

    def show(self, done: int, status: str = "", total: int | None = None) -> None:
        """Moves the display.

        Args:
            done: steps done so far.
            status: shown behind.
            total: steps in all, if that has changed.
        """
        self._done, self._status, self._told = done, status, False
        self._total = self._total if total is None else total
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.set_postfix_str(status, refresh=False)
            self._bar.update(done - self._bar.n)
        elif self._open:
            elapsed = self._clock() - self._began
            if elapsed >= max(self._logged + _LOG_SECONDS, self._logged * _LOG_GROWTH):
                self._log(elapsed)

    def close(self) -> None:
        """Leaves the final state on the screen or in the log."""
        if self._bar is not None:
            self._bar.close()
        elif self._open and not self._told:
            self._log(self._clock() - self._began)
        self._open = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes."""
        self.close()

    def _log(self, elapsed: float) -> None:
        self._logged, self._told = elapsed, True
        line = tqdm.format_meter(
            self._done,
            self._total,
            elapsed,
            prefix=self._name,
            unit=self._unit,
            unit_scale=self._scaled,
            postfix=self._status,
            initial=self._initial,
            bar_format=_IN_LOG if self._total else _NO_TOTAL,
        )
        print(line, file=self._stream, flush=True)


def status(**values: float | int | str) -> str:
    """A status of named values, three digits each: `loss=0.123, found=3/5`."""
    return ", ".join(
        f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
    )


class Progress(Protocol):
    """Called by every stage as it goes."""

    def __call__(self, stage: str, done: int, total: int, **figures: Any) -> None:
        """Reports that `done` of `total` steps of a stage are done, with figures to show."""
        ...


def quiet(stage: str, done: int, total: int, **figures: Any) -> None:
    """Reports nothing."""


class StageBars:
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
