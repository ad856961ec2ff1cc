"""The progress line of a SLAM run."""

import math
from typing import TextIO

import numpy as np

from ace_jax.evaluation.trajectory import RunningAte
from ace_jax.progress import ProgressBar


class Progress(ProgressBar):
    """The progress bar with the state and the running error.

    The error is the ATE RMSE of the live poses so far: what evaluation would report if the stream
    ended now.
    """

    def __init__(self, frames: int, name: str = "", stream: TextIO | None = None) -> None:
        """Prepares the display.

        Args:
            frames: how many frames will come.
            name: shown in front.
            stream: where to write; standard error unless given.
        """
        super().__init__(frames, name, unit="frame", stream=stream)
        self._ate = RunningAte()
        self._frames = 0

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
        self._frames += 1
        status = "TRACKING" if tracking else "LOST"
        if tracking and world_from_camera is not None and ground_truth is not None:
            self._ate.add(
                np.asarray(world_from_camera, np.float64)[:3, 3],
                np.asarray(ground_truth, np.float64)[:3, 3],
            )
        rmse = self._ate.rmse()
        if not math.isnan(rmse):
            status += f", ATE {rmse * 100:.2f} cm"
        self.show(self._frames, status)
