"""Frames with their features, extracted on a thread of their own beside tracking."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ace_jax.data.background import Background
from ace_jax.data.frame import BadFrame, Frame
from ace_jax.data.playback import Arrival
from ace_jax.features.base import Features


class Observation(NamedTuple):
    """A frame that is ready to be tracked.

    Attributes:
        index: of the frame in its source.
        frame: the frame, or why it cannot be used.
        features: of the frame; None for a bad one.
        arrival: seconds on `time.perf_counter`'s clock, see `Arrival`.
        read_ms: how long reading took, or, where that is unknown, how long the feature thread
            waited for the frame.
        features_ms: how long extraction took.
    """

    index: int
    frame: Frame | BadFrame
    features: Features | None
    arrival: float
    read_ms: float
    features_ms: float


class FeatureStream(Background[Observation]):
    """Iterates once over observations, in the frames' order, a bounded number of frames ahead.

    An exception of the frames' iterator or of the extraction is raised at its frame, except
    `BadFrame` of the extraction, which becomes the observation's frame. Use as a context manager.

    Args:
        arrivals: the frames.
        observe: features of a frame; called on the stream's thread.
        prepare: called on each frame first; what it returns is the frame.
        ahead: observations that may wait to be tracked; 0: the frames' iterator sets the limit.
    """

    def __init__(
        self,
        arrivals: Iterable[Arrival],
        observe: Callable[[Frame], Features],
        prepare: Callable[[Frame], Frame] = lambda frame: frame,
        ahead: int = 2,
    ) -> None:
        self._arrivals = arrivals
        self._observe = observe
        self._prepare = prepare
        super().__init__(self._observations(), ahead=ahead, name="features")

    def _observations(self) -> Iterator[Observation]:
        last = time.perf_counter()
        for index, frame, arrival, read_ms in self._arrivals:
            start = time.perf_counter()
            waited_ms = (start - last) * 1e3
            features = None
            if not isinstance(frame, BadFrame):
                frame, features = self._features(frame)
            last = time.perf_counter()
            yield Observation(
                index,
                frame,
                features,
                arrival,
                waited_ms if read_ms is None else read_ms,
                (last - start) * 1e3,
            )

    def _features(self, frame: Frame) -> tuple[Frame | BadFrame, Features | None]:
        try:
            frame = self._prepare(frame)
            return frame, self._observe(frame)
        except BadFrame as error:
            return error, None
