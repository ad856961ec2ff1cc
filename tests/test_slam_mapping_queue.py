"""Mapping tasks step between frames, deterministically or as results come."""

import threading

import pytest

from ace_jax.slam.mapping_queue import MappingQueue


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
    assert queue.waiting == 0


def test_with_a_lag_results_are_taken_at_fixed_frames():
    log = []
    queue = MappingQueue(2)
    queue.submit(recorder(log, "a", 2))
    queue.submit(recorder(log, "b", 1))
    assert queue.waiting == 1
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


@pytest.mark.parametrize("lag", [0, 1, None])
def test_a_failed_job_is_raised_where_the_map_is_kept(lag):
    def task():
        yield lambda: 1 / 0

    def run():
        queue = MappingQueue(lag)
        queue.submit(task())
        queue.finish()

    with pytest.raises(ZeroDivisionError):
        run()
