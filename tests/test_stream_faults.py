"""Faults of a stream do what they are called, and leave poses alone."""

import dataclasses

import numpy as np
import pytest
from slam_scene import RoomSource
from stream_faults import FAULTS, STAY, TELEPORTS, FaultySource

from ace_jax.data.frame import BadFrame, FrameSource


@dataclasses.dataclass
class Cycle(RoomSource):
    """A longer recording of few pictures."""

    def _view(self, index: int) -> int:
        return index % 4


@pytest.fixture(scope="module")
def source():
    return Cycle(160)


@pytest.mark.parametrize("name", FAULTS)
def test_it_is_a_source_whose_poses_are_those_of_its_pictures(source, name):
    faulty = FAULTS[name](source)
    assert isinstance(faulty, FrameSource)
    assert len(faulty) == len(faulty.timestamps()) == len(faulty.names()) == len(faulty.poses())
    truth = source.poses()
    for index in {0, len(faulty) // 2, len(faulty) - 1, *np.flatnonzero(faulty.disturbed)[:2]}:
        frame, own = faulty[index], int(faulty.order[index])
        assert (frame.index, frame.name) == (index, source.names()[own])
        assert frame.timestamp == faulty.timestamps()[index]
        np.testing.assert_array_equal(frame.world_from_camera, truth[own])
        same = np.array_equal(frame.rgb, source[own].rgb) and frame.depth is not None
        assert same or faulty.disturbed[index]
    with pytest.raises(IndexError):
        faulty[len(faulty)]


def test_what_is_done_to_pictures(source):
    spoilt = {
        name: (faulty[int(i)], source[int(i)].rgb.astype(float))
        for name in ("black", "blurred", "without_depth", "overexposed", "covered", "swayed")
        for faulty in [FAULTS[name](source)]
        for i in [np.flatnonzero(faulty.disturbed)[faulty.disturbed.sum() // 2]]
    }
    assert not spoilt["black"][0].rgb.any()
    assert not spoilt["black"][0].depth.any()
    frame, before = spoilt["blurred"]
    assert np.abs(np.diff(frame.rgb.astype(float), axis=1)).mean() < 0.6 * (
        np.abs(np.diff(before, axis=1)).mean()
    )
    assert spoilt["without_depth"][0].depth is None
    frame, before = spoilt["overexposed"]
    np.testing.assert_array_equal(frame.rgb, np.minimum(4 * before, 255))
    frame, _ = spoilt["covered"]
    assert not frame.depth.any()
    assert frame.rgb.max() < 60
    frame, before = spoilt["swayed"]
    changed = (frame.depth == 1.0).mean()
    assert changed == pytest.approx(0.4, abs=0.01)


def test_who_walks_by_comes_from_the_side_and_goes(source):
    faulty = FAULTS["passed"](source)
    hidden = np.flatnonzero(faulty.disturbed)
    shares = np.array([(faulty[int(i)].depth == 1.0).mean() for i in hidden])
    assert shares[0] < 0.03
    assert shares.max() == pytest.approx(0.4, abs=0.01)
    assert (np.abs(np.diff(shares)) < 0.04).all()
    assert shares.min() < 0.03


def test_what_is_done_to_the_order(source):
    few = FAULTS["dropped"](source)
    assert 0.6 < len(few) / len(source) < 0.8
    times = FAULTS["disordered"](source).timestamps()
    assert (np.diff(times) == 0).sum() >= 8
    assert (np.diff(times) < 0).sum() >= 4
    assert set(times) == set(source.timestamps())
    stalled = FAULTS["stalled"](source)
    jump = stalled.jumps[0]
    assert np.diff(stalled.timestamps())[jump - 1] == pytest.approx(10.0)
    taken = FAULTS["kidnapped"](source)
    assert len(taken.jumps) == TELEPORTS
    seen = taken.order[: taken.jumps[0]]
    assert not set(taken.order[taken.jumps[0] :]) & set(seen)
    assert len(taken) == len(seen) + TELEPORTS * STAY
    assert (np.diff(taken.timestamps()) > 0).all()


def test_an_effect_may_make_a_frame_unreadable(source):
    def broken(frame):
        raise BadFrame(f"{frame.name}: torn")

    faulty = FaultySource(source, "torn", effects={3: broken})
    with pytest.raises(BadFrame, match="000003: torn"):
        faulty[3]
    assert [frame.index for frame in faulty][:5] == [0, 1, 2, 4, 5]
