"""A frame source whose poses are scaled to metres."""

import dataclasses
import math

import numpy as np

from ace_jax.data.frame import Frame, FrameSource
from ace_jax.data.subset import SubsetSource
from ace_jax.errors import UserError


class ScaledSource(SubsetSource):
    """The source with its positions in metres; depth, where there is any, is in metres already."""

    def __init__(self, source: FrameSource, metres_per_unit: float) -> None:
        """Wraps a source.

        Args:
            source: with poses in units of its own.
            metres_per_unit: length of such a unit.

        Raises:
            UserError: that is no length, or the source has no frames.
        """
        if not (math.isfinite(metres_per_unit) and metres_per_unit > 0):
            raise UserError(f"--scale {metres_per_unit:g}: give the metres of one unit, above 0")
        super().__init__(source)
        self._scale = metres_per_unit
        self.metric = True

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        if frame.world_from_camera is None:
            return frame
        return dataclasses.replace(frame, world_from_camera=self._scaled(frame.world_from_camera))

    def poses(self) -> np.ndarray | None:
        """(N, 4, 4) float64 world_from_camera, metres, NaN where a frame has none, or None."""
        poses = super().poses()
        return None if poses is None else self._scaled(poses)

    def _scaled(self, poses: np.ndarray) -> np.ndarray:
        scaled = np.array(poses)
        scaled[..., :3, 3] *= self._scale
        return scaled
