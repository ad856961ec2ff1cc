"""Reading ahead: order, bounds, errors in place, and a clean end."""

import threading
import time

import pytest
from data_scene import PlaneSource

from ace_jax.data.frame import BadFrame
from ace_jax.data.prefetch import Prefetcher


class Recorder(PlaneSource):
    """Remembers which frames were asked for; frames may be slow or break the reader."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.asked = []
        self.delay = lambda index: 0.0
        self.broken = None

    def __getitem__(self, index):
        self.asked.append(index)
        time.sleep(self.delay(index))
        if index == self.broken:
            raise RuntimeError("a bug in the reader")
        return super().__getitem__(index)


def prefetch_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("workers", [1, 3])
def test_order_is_kept_and_bad_frames_come_in_place(workers):
    source = Recorder(12, bad=(0, 5, 11))
    source.delay = lambda index: 0.01 * (index % 3 == 0)
    with Prefetcher(source, ahead=4, workers=workers) as frames:
        results = list(frames)
    assert len(results) == 12
    for i, result in enumerate(results):
        if i in source.bad:
            assert isinstance(result, BadFrame)
        else:
            assert result.index == i
    assert not prefetch_threads()


def test_reads_ahead_but_not_further():
    source = Recorder(50)
    with Prefetcher(source, ahead=4) as frames:
        for taken in range(1, 4):
            next(frames)
            deadline = time.monotonic() + 5
            while len(source.asked) < taken + 4 and time.monotonic() < deadline:
                time.sleep(0.002)
            time.sleep(0.02)
            assert sorted(source.asked) == list(range(taken + 4))


def test_closing_early_ends_the_threads():
    source = Recorder(100)
    frames = Prefetcher(source, ahead=8)
    next(frames)
    frames.close()
    frames.close()
    assert not prefetch_threads()
    assert len(source.asked) <= 9
    with pytest.raises(StopIteration):
        next(frames)


def test_other_errors_are_raised_and_the_threads_end():
    source = Recorder(10)
    source.broken = 2
    with Prefetcher(source) as frames:
        assert [next(frames).index, next(frames).index] == [0, 1]
        with pytest.raises(RuntimeError, match="a bug"):
            next(frames)
    assert not prefetch_threads()


def test_short_source_and_refusals():
    with Prefetcher(PlaneSource(1), ahead=16) as frames:
        assert [frame.index for frame in frames] == [0]
    with pytest.raises(ValueError, match="at least 1"):
        Prefetcher(PlaneSource(1), ahead=0)
