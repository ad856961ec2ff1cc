"""Features ahead of tracking: order, bounds, errors in place, and a clean end."""

import threading
import time

import pytest
from data_scene import PlaneSource

from ace_jax.data.frame import BadFrame
from ace_jax.data.playback import Arrival
from ace_jax.slam.stream import FeatureStream


def arrivals(source, break_at=None, error=None):
    for index in range(len(source)):
        if index == break_at:
            raise error
        try:
            yield Arrival(index, source[index], 0.0)
        except BadFrame as bad:
            yield Arrival(index, bad, 0.0)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "features"]


def test_order_is_kept_and_bad_frames_come_in_place():
    def observe(frame):
        if frame.index == 4:
            raise BadFrame("too small")
        return f"features of {frame.index}"

    with FeatureStream(arrivals(PlaneSource(8, bad=(2,))), observe) as stream:
        seen = list(stream)
    assert [o.index for o in seen] == list(range(8))
    for o in seen:
        if o.index in (2, 4):
            assert isinstance(o.frame, BadFrame)
            assert o.features is None
        else:
            assert o.features == f"features of {o.index}"
    assert str(seen[4].frame) == "too small"
    assert not threads()


def test_extraction_runs_beside_the_consumer_and_not_far_ahead():
    done = []

    def observe(frame):
        assert threading.current_thread() is not threading.main_thread()
        done.append(frame.index)

    with FeatureStream(arrivals(PlaneSource(30)), observe, ahead=2) as stream:
        next(stream)
        deadline = time.monotonic() + 5
        while len(done) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(done) == 4, "one handed out, two that wait, one in hand"


@pytest.mark.parametrize("error", [OSError("disk gone"), KeyboardInterrupt()])
def test_what_breaks_the_source_is_raised_at_its_frame(error):
    with FeatureStream(arrivals(PlaneSource(8), 3, error), lambda frame: None) as stream:
        seen = []
        with pytest.raises(type(error)):
            seen.extend(o.index for o in stream)
    assert not threads()
    with pytest.raises(StopIteration):
        next(stream)


def test_a_bug_in_the_extractor_is_not_hidden():
    def observe(frame):
        raise RuntimeError("a bug")

    with (
        FeatureStream(arrivals(PlaneSource(3)), observe) as stream,
        pytest.raises(RuntimeError, match="a bug"),
    ):
        next(stream)


def test_leaving_early_ends_the_thread():
    with FeatureStream(arrivals(PlaneSource(30)), lambda frame: None) as stream:
        next(stream)
    assert not threads()


def test_frames_are_prepared_first():
    with FeatureStream(
        arrivals(PlaneSource(2)), lambda frame: frame, lambda frame: frame.name
    ) as stream:
        assert [(o.frame, o.features) for o in stream] == [
            (name, name) for name in PlaneSource(2).names()
        ]
