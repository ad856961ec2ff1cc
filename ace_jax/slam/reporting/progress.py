"""The progress line of a SLAM run."""

import math
from types import TracebackType
from typing import TextIO

import numpy as np

from ace_jax.evaluation.trajectory import RunningAte
from ace_jax.progress import ProgressBar


class Progress:
    """The progress bar with the state and the running error.

    The error is the ATE RMSE of the live poses so far: what evaluation would report if the stream
    ended now. Use as a context manager; the last line is also written when the run is cut short.
    """

    def __init__(self, frames: int, name: str = "", stream: TextIO | None = None) -> None:
        """Prepares the display.

        Args:
            frames: how many frames will come.
            name: shown in front.
            stream: where to write; standard error unless given.
        """
        self._bar = ProgressBar(frames, name, unit="frame", stream=stream)
        self._ate = RunningAte()
        self._done = 0

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
        self._done += 1
        status = "TRACKING" if tracking else "LOST"
        if tracking and world_from_camera is not None and ground_truth is not None:
            self._ate.add(
                np.asarray(world_from_camera, np.float64)[:3, 3],
                np.asarray(ground_truth, np.float64)[:3, 3],
            )
        rmse = self._ate.rmse()
        if not math.isnan(rmse):
            status += f", ATE {rmse * 100:.2f} cm"
        self._bar.show(self._done, status)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leaves the final state on the screen or in the log."""
        self._bar.close()
