"""Random access to sources that can only be read forward: videos and live cameras."""

import collections
import threading
from collections.abc import Callable

import numpy as np

from ace_jax.data.frame import BadFrame

KEPT = 16  # frames that stay available after newer ones were read


class ForwardReader:
    """Access by number to a stream that only goes forward; used by several threads at once.

    Frames between are read and dropped; the last few stay available, so that threads which read
    ahead may come in any order.
    """

    def __init__(
        self,
        advance: Callable[[], tuple[np.ndarray, ...] | None],
        restart: Callable[[int], int] | None = None,
    ) -> None:
        """Wraps a stream.

        Args:
            advance: the next frame, or None where it cannot be read.
            restart: puts the stream to a frame at or before the given one and returns its number;
                None for a stream without a way back.
        """
        self._advance, self._restart = advance, restart
        self._next = 0
        self._kept: collections.OrderedDict[int, tuple | None] = collections.OrderedDict()
        self._lock = threading.Lock()

    def read(self, index: int) -> tuple[np.ndarray, ...]:
        """Frame number `index`.

        Raises:
            BadFrame: it cannot be read, or is gone.
        """
        with self._lock:
            if index < self._next and index not in self._kept:
                if self._restart is None:
                    raise BadFrame(f"frame {index} is gone: a live camera has no way back")
                self._next = self._restart(index)
                self._kept.clear()
            while self._next <= index:
                self._kept[self._next] = self._advance()
                self._next += 1
                if len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            frame = self._kept.get(index)
        if frame is None:
            raise BadFrame(f"frame {index} cannot be read")
        return frame
