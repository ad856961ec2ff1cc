"""Real-time playback: frames arrive at the recording's own times, and late frames are dropped."""

import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

from ace_jax.data.frame import BadFrame, Frame, FrameSource


class Arrival(NamedTuple):
    """A frame of a stream.

    Attributes:
        index: of the frame in its source.
        frame: the frame, or why it cannot be read.
        time: seconds on `time.perf_counter`'s clock at which it arrived.
        read_ms: how long reading and decoding took; None if that was done ahead.
    """

    index: int
    frame: Frame | BadFrame
    time: float
    read_ms: float | None = None


class Player:
    """Iterates over a source at the pace of its timestamps.

    A frame arrives when its time has come; only then it is read and decoded. As in a camera driver,
    a frame is lost if `buffer` earlier ones are still in work, or if so many later ones have
    arrived before it was its turn to be read. Tell the player by `done` of each frame that is out
    of work.

    Args:
        source: the recording.
        speed: 2 plays twice as fast.
        buffer: frames that may be in work at once.
    """

    def __init__(self, source: FrameSource, *, speed: float = 1.0, buffer: int = 4) -> None:
        if not speed > 0 or buffer < 1:
            raise ValueError("speed must be positive and buffer at least 1")
        self._source = source
        self._times = (source.timestamps() - source.timestamps()[0]) / speed
        self._size = buffer
        self._buffer = threading.Semaphore(buffer)
        self._closed = threading.Event()
        self.late = 0

    def __iter__(self) -> Iterator[Arrival]:
        """Plays the recording once, from now on."""
        start = time.perf_counter()
        for index, seconds in enumerate(self._times):
            arrival = start + float(seconds)
            if self._closed.wait(max(0.0, arrival - time.perf_counter())):
                return
            later = self._times[index + self._size : index + self._size + 1]
            overtaken = len(later) and time.perf_counter() > start + float(later[0])
            if overtaken or not self._buffer.acquire(blocking=False):
                self.late += 1
                continue
            began = time.perf_counter()
            try:
                frame: Frame | BadFrame = self._source[index]
            except BadFrame as error:
                frame = error
            yield Arrival(index, frame, arrival, (time.perf_counter() - began) * 1e3)

    def done(self) -> None:
        """One frame that was handed out is not in work any more."""
        self._buffer.release()

    def close(self) -> None:
        """Ends the play; an iterator that waits for the next frame returns."""
        self._closed.set()
