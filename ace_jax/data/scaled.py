"""A frame source whose poses are scaled to metres."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from ace_jax.data.frame import Frame, FrameSource, inverse_depth_sigma, own_cameras, timed
from ace_jax.data.recording import iterate
from ace_jax.errors import UserError


class ScaledSource:
    """The source with its positions in metres; depth, where there is any, is in metres already."""

    metric = True

    def __init__(self, source: FrameSource, metres_per_unit: float) -> None:
        """Wraps a source.

        Args:
            source: with poses in units of its own.
            metres_per_unit: length of such a unit.

        Raises:
            UserError: that is no length.
        """
        if not (math.isfinite(metres_per_unit) and metres_per_unit > 0):
            raise UserError(f"--scale {metres_per_unit:g}: give the metres of one unit, above 0")
        self._source, self._scale = source, metres_per_unit
        self.name, self.camera, self.has_depth = source.name, source.camera, source.has_depth
        self.inverse_depth_sigma = inverse_depth_sigma(source)
        self.own_cameras = own_cameras(source)
        self.timed = timed(source)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Frame:
        frame = self._source[index]
        if frame.world_from_camera is None:
            return frame
        return dataclasses.replace(frame, world_from_camera=self._scaled(frame.world_from_camera))

    def __iter__(self) -> Iterator[Frame]:
        return iterate(self)

    def timestamps(self) -> np.ndarray:
        """(N,) float64 seconds."""
        return self._source.timestamps()

    def names(self) -> list[str]:
        """N frame names."""
        return self._source.names()

    def poses(self) -> np.ndarray | None:
        """(N, 4, 4) float64 world_from_camera, metres, NaN where a frame has none, or None."""
        poses = self._source.poses()
        return None if poses is None else self._scaled(poses)

    def _scaled(self, poses: np.ndarray) -> np.ndarray:
        scaled = np.array(poses)
        scaled[..., :3, 3] *= self._scale
        return scaled
