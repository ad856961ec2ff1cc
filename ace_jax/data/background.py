"""Background iteration: an iterator on its own thread, a bounded number of items ahead."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class _Ended(NamedTuple):
    """Takes the place of an item after the last one; why the iterator ended."""

    error: BaseException | None


class Background(Generic[Item]):
    """Iterates once over the items of another iterator, which runs on a thread.

    What the iterator raises is raised at its item. Use as a context manager; what the iterator
    waits for must come, or be closed before this is.

    Args:
        items: taken one after the other, on the thread.
        ahead: items that may wait for the consumer; 0: the iterator sets the limit.
        name: of the thread.
    """

    def __init__(self, items: Iterable[Item], *, ahead: int, name: str) -> None:
        self._items = items
        self._queue: queue.Queue[Item | _Ended] = queue.Queue(ahead)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if self._closed.is_set():
            raise StopIteration
        item = self._queue.get()
        if not isinstance(item, _Ended):
            return item
        self.close()
        if item.error is None:
            raise StopIteration
        raise item.error

    def __enter__(self) -> "Background[Item]":
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
            for item in self._items:
                self._put(item)
                if self._closed.is_set():
                    return
            self._put(_Ended(None))
        except BaseException as error:  # the consumer's thread is where it is to be seen
            self._put(_Ended(error))

    def _put(self, item: Item | _Ended) -> None:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue
