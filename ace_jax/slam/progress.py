"""The line that a person watches while a recording is processed."""

import math
import sys
import time
from types import TracebackType
from typing import TextIO

import numpy as np
from tqdm import tqdm

from ace_jax.evaluation.trajectory import RunningAte

LOG_SECONDS = 10.0  # between two lines where there is no terminal
_SMOOTHING = 0.1  # share of the newest frame in the shown rate


class Progress:
    """A bar with rate, state and running error; in a log, a line every few seconds.

    The error is the ATE RMSE of the live poses so far: what evaluation would report if the stream
    ended now. Use as a context manager; the last line is also written when the run is cut short.
    """

    def __init__(
        self,
        frames: int,
        name: str = "",
        stream: TextIO | None = None,
        log_seconds: float = LOG_SECONDS,
    ) -> None:
        """Prepares the display.

        Args:
            frames: how many frames will come.
            name: shown in front.
            stream: where to write; standard error unless given.
            log_seconds: between two lines, if `stream` is no terminal.
        """
        self._stream = sys.stderr if stream is None else stream
        self._frames = frames
        self._name = name
        self._log_seconds = log_seconds
        self._ate = RunningAte()
        self._done = 0
        self._state = ""
        self._seconds = math.nan
        self._last = self._logged = time.monotonic()
        terminal = self._stream.isatty()
        self._bar = (
            tqdm(
                total=frames,
                desc=name,
                file=self._stream,
                bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} "
                "[{elapsed}<{remaining}]{postfix}",
                dynamic_ncols=True,
            )
            if terminal
            else None
        )

    def __enter__(self) -> "Progress":
        return self

    def update(
        self,
        tracking: bool,
        world_from_camera: np.ndarray | None = None,
        ground_truth: np.ndarray | None = None,
    ) -> None:
        """Counts one processed frame.

        Args:
            tracking: whether the frame has a pose.
            world_from_camera: (4, 4) that pose.
            ground_truth: (4, 4) the true one, in any world frame, if known. Only shown.
        """
        now = time.monotonic()
        elapsed, self._last = now - self._last, now
        if math.isnan(self._seconds) or self._done < 3:  # the first frames compile
            self._seconds = elapsed
        else:
            self._seconds += _SMOOTHING * (elapsed - self._seconds)
        self._done += 1
        self._state = "TRACKING" if tracking else "LOST"
        if tracking and world_from_camera is not None and ground_truth is not None:
            self._ate.add(
                np.asarray(world_from_camera, np.float64)[:3, 3],
                np.asarray(ground_truth, np.float64)[:3, 3],
            )
        if self._bar is not None:
            self._bar.set_postfix_str(self._status(), refresh=False)
            self._bar.update()
        elif now - self._logged >= self._log_seconds:
            self._log(now)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves the final state on the screen or in the log."""
        if self._bar is not None:
            self._bar.set_postfix_str(self._status())
            self._bar.close()
        else:
            self._log(time.monotonic())

    def _status(self) -> str:
        parts = []
        if self._seconds > 0:
            parts.append(f"{1 / self._seconds:.1f} fps")
        if self._state:
            parts.append(self._state)
        rmse = self._ate.rmse()
        if not math.isnan(rmse):
            parts.append(f"ATE {rmse * 100:.2f} cm")
        return ", ".join(parts)

    def _log(self, now: float) -> None:
        self._logged = now
        percent = 100 * self._done // self._frames if self._frames else 100
        print(
            f"{self._name} {percent:3d} % {self._done}/{self._frames} {self._status()}".strip(),
            file=self._stream,
            flush=True,
        )
