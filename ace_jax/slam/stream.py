"""Frames with their features, extracted on a thread of their own beside tracking."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

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
        read_ms: how long the feature thread waited for the frame.
        features_ms: how long extraction took.
    """

    index: int
    frame: Frame | BadFrame
    features: Features | None
    arrival: float
    read_ms: float
    features_ms: float


class FeatureStream:
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
        self._queue: queue.Queue[Observation | BaseException | None] = queue.Queue(ahead)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="features", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Observation]:
        return self

    def __next__(self) -> Observation:
        if self._closed.is_set():
            raise StopIteration
        result = self._queue.get()
        if isinstance(result, Observation):
            return result
        self.close()
        if result is None:
            raise StopIteration
        raise result

    def __enter__(self) -> "FeatureStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drops what is not handed out and ends the thread."""
        self._closed.set()
        while self._thread.is_alive():
            while not self._queue.empty():
                self._queue.get_nowait()
            self._thread.join(0.01)

    def _run(self) -> None:
        try:
            last = time.perf_counter()
            for index, frame, arrival in self._arrivals:
                start = time.perf_counter()
                features = None
                if not isinstance(frame, BadFrame):
                    frame, features = self._features(frame)
                end = time.perf_counter()
                self._put(
                    Observation(
                        index, frame, features, arrival, (start - last) * 1e3, (end - start) * 1e3
                    )
                )
                if self._closed.is_set():
                    return
                last = time.perf_counter()
            self._put(None)
        except BaseException as error:  # the consumer's thread is where it is to be seen
            self._put(error)

    def _features(self, frame: Frame) -> tuple[Frame | BadFrame, Features | None]:
        try:
            frame = self._prepare(frame)
            return frame, self._observe(frame)
        except BadFrame as error:
            return error, None

    def _put(self, item: Observation | BaseException | None) -> None:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue
