"""Features ahead of tracking: order, errors in place, a clean end."""

import threading

import pytest
from data_scene import PlaneSource

from ace_jax.data.frame import BadFrame
from ace_jax.data.playback import Arrival
from ace_jax.slam.stream import FeatureStream


def arrivals(source):
    for index in range(len(source)):
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


def test_a_bug_in_the_extractor_is_not_hidden():
    def observe(frame):
        raise RuntimeError("a bug")

    with (
        FeatureStream(arrivals(PlaneSource(3)), observe) as stream,
        pytest.raises(RuntimeError, match="a bug"),
    ):
        next(stream)


def test_frames_are_prepared_first():
    with FeatureStream(
        arrivals(PlaneSource(2)), lambda frame: frame, lambda frame: frame.name
    ) as stream:
        assert [(o.frame, o.features) for o in stream] == [
            (name, name) for name in PlaneSource(2).names()
        ]
