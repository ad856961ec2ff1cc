"""Prefetching: frames are read ahead and decoded on background threads."""

import collections
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from ace_jax.data.frame import BadFrame, Frame, FrameSource


class Prefetcher:
    """Iterates once over a source in order, a bounded number of frames ahead.

    Yields the `Frame` of every index, or the `BadFrame` error (as a value) where it cannot be read.
    Any other exception of the source is raised at its frame. Decoding releases Python's global
    lock, so threads do run in parallel.

        with Prefetcher(source) as frames:
            for frame in frames:
                ...
    """

    def __init__(self, source: FrameSource, *, ahead: int = 8, workers: int = 2) -> None:
        """Starts reading.

        Args:
            source: read from several threads at once; all readers of this package allow it.
            ahead: at most so many frames are read or kept beyond the one handed out.
            workers: threads; 1 reads strictly one frame after the other.
        """
        if ahead < 1 or workers < 1:
            raise ValueError("ahead and workers must be at least 1")
        self._source = source
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
        self._pending: collections.deque[Future[Frame | BadFrame]] = collections.deque()
        self._next = 0
        for _ in range(ahead):
            self._submit()

    def __iter__(self) -> Iterator[Frame | BadFrame]:
        return self

    def __next__(self) -> Frame | BadFrame:
        if not self._pending:
            self.close()
            raise StopIteration
        result = self._pending.popleft().result()
        self._submit()
        return result

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drops what is not handed out and ends the threads; reading may be closed repeatedly."""
        self._pending.clear()
        self._next = len(self._source)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self) -> None:
        if self._next < len(self._source):
            self._pending.append(self._pool.submit(self._read, self._next))
            self._next += 1

    def _read(self, index: int) -> Frame | BadFrame:
        try:
            return self._source[index]
        except BadFrame as error:
            return error
