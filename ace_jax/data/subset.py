"""A subset of a frame source: start, stride and maximum number of frames."""

import dataclasses
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ace_jax.data.frame import (
    Frame,
    FrameSource,
    inverse_depth_sigma,
    metric,
    own_cameras,
    random_access,
    rendered,
    timed,
)
from ace_jax.data.recording import iterate
from ace_jax.errors import UserError


class SubsetSource:
    """Frames start, start + stride, ... of a source; times, names and poses stay the frames' own.

    Frames are counted anew from 0, as `Frame.index` is the position in the source at hand.
    """

    def __init__(
        self,
        source: FrameSource,
        *,
        start: int = 0,
        stride: int = 1,
        max_frames: int | None = None,
        indices: Sequence[int] | None = None,
    ) -> None:
        """Selects frames.

        Args:
            source: the whole recording.
            start: first frame, counted from 0.
            stride: take every n-th frame.
            max_frames: at most so many; None for all.
            indices: these frames, in any order, instead of start, stride and max_frames.

        Raises:
            UserError: nothing is left, or a value makes no sense.
        """
        if start < 0 or stride < 1 or (max_frames is not None and max_frames < 1):
            raise UserError(
                f"start {start}, stride {stride}, max_frames {max_frames}: start must be at least "
                "0, the others at least 1"
            )
        self._indices = (
            range(start, len(source), stride)[:max_frames] if indices is None else list(indices)
        )
        if not self._indices:
            raise UserError(f"{source.name} has {len(source)} frames, start {start} leaves none")
        self._source = source
        self.name, self.camera, self.has_depth = source.name, source.camera, source.has_depth
        self.inverse_depth_sigma = inverse_depth_sigma(source)
        self.own_cameras = own_cameras(source)
        self.timed = timed(source)
        self.random_access = random_access(source)
        self.metric = metric(source)
        self.rendered = rendered(source)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Frame:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} frames, not one numbered {index}")
        frame = self._source[self._indices[index]]
        return dataclasses.replace(frame, index=index % len(self))

    def __iter__(self) -> Iterator[Frame]:
        return iterate(self)

    def prepare(self, indices: Iterable[int] | None = None) -> None:
        """Lets a source that computes its frames compute these; see `SyntheticSource.prepare`."""
        source: Any = self._source
        if hasattr(source, "prepare"):
            chosen = range(len(self)) if indices is None else indices
            source.prepare(sorted({self._indices[index] for index in chosen}))

    def timestamps(self) -> np.ndarray:
        """(N,) float64 seconds."""
        return self._source.timestamps()[self._positions]

    def names(self) -> list[str]:
        """N frame names."""
        names = self._source.names()
        return [names[i] for i in self._indices]

    def poses(self) -> np.ndarray | None:
        """(N, 4, 4) float64 world_from_camera, NaN where a frame has none, or None."""
        poses = self._source.poses()
        return None if poses is None else poses[self._positions]

    @property
    def _positions(self) -> np.ndarray:
        return np.asarray(self._indices)
