"""Mapping beside tracking: computation on a worker thread, bookkeeping on the tracking thread.

A mapping task is a generator. It reads and changes the map between its `yield`s, always on the
thread that calls the queue, and yields the heavy computations as functions of arrays that it
gathered before; the value of the `yield` is the function's result. So no other thread ever sees the
map, nothing needs a lock, and each change is complete before the next frame is tracked.
"""

import collections
import contextlib
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

Job = Callable[[], Any]
MappingTask = Generator[Job, Any, None]


def together(tasks: Iterable[MappingTask]) -> MappingTask:
    """One task of several: what they compute next, each of them, is one job."""
    running = []
    for task in tasks:
        with contextlib.suppress(StopIteration):
            running.append((task, next(task)))
    while running:
        jobs = [job for _, job in running]
        results = yield lambda jobs=jobs: [job() for job in jobs]
        before, running = running, []
        for (task, _), result in zip(before, results, strict=True):
            with contextlib.suppress(StopIteration):
                running.append((task, task.send(result)))


class MappingQueue:
    """Runs mapping tasks one after the other, in steps between frames.

    A task that fails (a job, or what it does to the map) is given up, and its exception raised by
    the call in which it failed. The queue goes on with the next task at the next call.

    Args:
        lag: frames between the start of a job and the moment when its result is taken, waiting for
            it if it is not done: the same frames then always see the same map, whatever the load.
            0 computes at once, on the caller's thread. None takes results as soon as they are
            there and never waits (a live camera).

    Attributes:
        age: frames since the present job began.
    """

    def __init__(self, lag: int | None = 0):
        self.lag = lag
        self._tasks: collections.deque[MappingTask] = collections.deque()
        self._running: MappingTask | None = None
        self._result: Future[Any] | None = None
        self.age = 0
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, task: MappingTask) -> None:
        """Adds a task; it begins now if none is running."""
        self._tasks.append(task)
        self._begin()

    def advance(self) -> None:
        """Once a frame, before it is tracked: takes the result that is due, begins the next job."""
        if self._result is not None:
            self.age += 1
            due = self._result.done() if self.lag is None else self.age >= self.lag
            if due:
                self._resume(self._result.result)
        self._begin()

    def finish(self) -> None:
        """Runs everything that was submitted to its end."""
        self._begin()
        while self._result is not None:
            self._resume(self._result.result)
            self._begin()
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    def _begin(self) -> None:
        while self._running is None and self._tasks:
            self._running = self._tasks.popleft()
            self._resume(lambda: None)

    def _resume(self, result: Callable[[], Any]) -> None:
        """Gives the running task a job's result, and starts its next job."""
        self._result, self.age = None, 0
        try:
            job = self._running.send(result())
            while self.lag == 0:
                job = self._running.send(job())
        except StopIteration:
            self._running = None
            return
        except BaseException:
            self._running.close()
            self._running = None
            raise
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="mapping")
        self._result = self._pool.submit(job)
