"""Mapping tasks step between frames, deterministically or as results come."""

import threading

import pytest

from ace_jax.slam.mapping.mapping_queue import MappingQueue, together


def recorder(log, name, jobs, value=None):
    """A task of some jobs that notes what happens and on which thread."""

    def job(i):
        return lambda: (i, threading.current_thread())

    for i in range(jobs):
        log.append((name, i, "begin"))
        got, thread = yield job(i) if value is None else value
        assert got == i
        log.append((name, i, "end", thread is threading.main_thread()))


def test_without_lag_everything_happens_at_once_on_the_callers_thread():
    log = []
    queue = MappingQueue(0)
    queue.submit(recorder(log, "a", 2))
    assert log == [
        ("a", 0, "begin"),
        ("a", 0, "end", True),
        ("a", 1, "begin"),
        ("a", 1, "end", True),
    ]


def test_with_a_lag_results_are_taken_at_fixed_frames():
    log = []
    queue = MappingQueue(2)
    queue.submit(recorder(log, "a", 2))
    queue.submit(recorder(log, "b", 1))
    lengths = []
    for _ in range(7):
        queue.advance()
        lengths.append(len(log))
    # Frame 2: a's first job ends and its second begins; frame 4: a ends, b begins; frame 6: b ends.
    assert lengths == [1, 3, 3, 5, 5, 6, 6]
    assert [entry[0] for entry in log] == ["a"] * 4 + ["b"] * 2
    assert not any(entry[3] for entry in log if len(entry) == 4), "computed beside tracking"
    queue.finish()


def test_without_waiting_a_slow_job_holds_nobody_up():
    gate = threading.Event()
    seen = []

    def task():
        seen.append((yield gate.wait))

    queue = MappingQueue(None)
    queue.submit(task())
    for _ in range(50):
        queue.advance()
    assert seen == []
    gate.set()
    queue.finish()
    assert seen == [True]


def test_finish_runs_what_waits():
    log = []
    queue = MappingQueue(5)
    for name in "abc":
        queue.submit(recorder(log, name, 1))
    queue.finish()
    assert [entry[0] for entry in log if entry[2] == "end"] == ["a", "b", "c"]
    queue.submit(recorder(log, "d", 1))  # it may go on after that
    queue.finish()
    assert log[-1][:3] == ("d", 0, "end")


@pytest.mark.parametrize("where", ["job", "map"])
@pytest.mark.parametrize("lag", [0, 1, None])
def test_a_failure_is_raised_once_where_the_map_is_kept_and_the_next_task_goes_on(lag, where):
    log = []

    def failing():
        log.append("begin")
        try:
            yield (lambda: 1 / 0) if where == "job" else (lambda: 0)
            1 / 0  # noqa: B018
        finally:
            log.append("given up")

    queue = MappingQueue(lag)

    def until_it_fails():
        queue.submit(failing())
        queue.submit(recorder(log, "next", 1))
        queue.finish()

    with pytest.raises(ZeroDivisionError):
        until_it_fails()
    assert log == ["begin", "given up"]
    if lag == 0:
        queue.submit(recorder(log, "next", 1))
    for _ in range(3):
        queue.advance()
    queue.finish()
    assert [entry[0] for entry in log[2:]] == ["next", "next"]


def test_tasks_together_are_one_job_a_step_and_each_gets_its_own_results():
    log, jobs = [], 0

    def nothing():
        return
        yield

    task = together(
        [recorder(log, "a", 2), nothing(), recorder(log, "b", 1), recorder(log, "c", 3)]
    )
    result = None
    try:
        while True:
            result = task.send(result)()
            jobs += 1
    except StopIteration:
        pass
    assert jobs == 3
    ends = [entry[:2] for entry in log if entry[2] == "end"]
    assert ends == [("a", 0), ("b", 0), ("c", 0), ("a", 1), ("c", 1), ("c", 2)]
    assert not list(together([nothing()]))
