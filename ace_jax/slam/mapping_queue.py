"""Mapping beside tracking: computation on a worker thread, bookkeeping on the tracking thread.

A mapping task is a generator. It reads and changes the map between its `yield`s, always on the
thread that calls the queue, and yields the heavy computations as functions of arrays that it
gathered before; the value of the `yield` is the function's result. So no other thread ever sees the
map, nothing needs a lock, and each change is complete before the next frame is tracked.
"""

import collections
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

Job = Callable[[], Any]
MappingTask = Generator[Job, Any, None]


class MappingQueue:
    """Runs mapping tasks one after the other, in steps between frames.

    Args:
        lag: frames between the start of a job and the moment when its result is taken, waiting for
            it if it is not done: the same frames then always see the same map, whatever the load.
            0 computes at once, on the caller's thread. None takes results as soon as they are
            there and never waits (a live camera).
    """

    def __init__(self, lag: int | None = 0):
        self.lag = lag
        self._tasks: collections.deque[MappingTask] = collections.deque()
        self._running: MappingTask | None = None
        self._result: Future[Any] | None = None
        self._age = 0
        self._pool: ThreadPoolExecutor | None = None

    @property
    def waiting(self) -> int:
        """Tasks that have not begun."""
        return len(self._tasks)

    def submit(self, task: MappingTask) -> None:
        """Adds a task; it begins now if none is running."""
        self._tasks.append(task)
        if self._running is None:
            self._next_task()

    def advance(self) -> None:
        """Once a frame, before it is tracked: takes the result that is due, begins the next job."""
        if self._result is None:
            return
        self._age += 1
        due = self._result.done() if self.lag is None else self._age >= self.lag
        if due:
            self._resume(self._result.result())

    def finish(self) -> None:
        """Runs everything that was submitted to its end."""
        while self._result is not None:
            self._resume(self._result.result())
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _next_task(self) -> None:
        self._running = self._tasks.popleft() if self._tasks else None
        if self._running is not None:
            self._resume(None)

    def _resume(self, value: Any) -> None:
        self._result, self._age = None, 0
        try:
            job = self._running.send(value)
            while self.lag == 0:
                job = self._running.send(job())
        except StopIteration:
            self._next_task()
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="mapping")
        self._result = self._pool.submit(job)
