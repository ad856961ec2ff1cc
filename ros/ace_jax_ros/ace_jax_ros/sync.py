"""Which messages make one frame, and which frames are left out: no ROS."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class Pairing:
    """Colour and depth images of nearly the same time, each used once.

    An image is paired with the nearest of those of the other kind that have arrived.

    Args:
        tolerance: largest difference of their stamps, nanoseconds.
        kept: so many unpaired images are remembered of each kind.
    """

    def __init__(self, tolerance: int, kept: int = 10) -> None:
        self._tolerance = tolerance
        self._waiting: tuple[deque, deque] = (deque(maxlen=kept), deque(maxlen=kept))

    def colour(self, stamp: int, message: Any) -> tuple[Any, Any] | None:
        """Takes a colour image; returns colour and depth if that completes a frame."""
        return self._add(0, stamp, message)

    def depth(self, stamp: int, message: Any) -> tuple[Any, Any] | None:
        """Takes a depth image; returns colour and depth if that completes a frame."""
        return self._add(1, stamp, message)

    def _add(self, kind: int, stamp: int, message: Any) -> tuple[Any, Any] | None:
        others = self._waiting[1 - kind]
        best = min(others, key=lambda other: abs(other[0] - stamp), default=None)
        if best is None or abs(best[0] - stamp) > self._tolerance:
            self._waiting[kind].append((stamp, message))
            return None
        for waiting, until in ((others, best[0]), (self._waiting[kind], stamp)):
            while waiting and waiting[0][0] <= until:  # what is older will find no partner
                waiting.popleft()
        pair = (message, best[1])
        return pair if kind == 0 else pair[::-1]


class LatestWorker:
    """A thread that works on the newest item; what arrives while it works replaces what waits.

    Attributes:
        dropped: items that were replaced.
    """

    def __init__(self, work: Callable[[Any], None]) -> None:
        self._work, self._condition = work, threading.Condition()
        self._item: list[Any] = []
        self._closed, self.dropped = False, 0
        self._thread = threading.Thread(target=self._run, name="ace_jax", daemon=True)
        self._thread.start()

    def put(self, item: Any) -> None:
        """Hands an item over and returns at once."""
        with self._condition:
            self.dropped += len(self._item)
            self._item = [item]
            self._condition.notify()

    def close(self) -> None:
        """Finishes the item that is worked on; one that waits is left."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._item or self._closed)
                if self._closed:
                    return
                item, self._item = self._item[0], []
            self._work(item)
