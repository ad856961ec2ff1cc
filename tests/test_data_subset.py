"""A part of a source keeps times, names and poses with their frames."""

import numpy as np
import pytest
from data_scene import PlaneSource, pose

from ace_jax.data.frame import BadFrame, FrameSource
from ace_jax.data.subset import SubsetSource
from ace_jax.errors import UserError


def test_everything_stays_aligned():
    source = PlaneSource(10, lost=(4,))
    subset = SubsetSource(source, start=1, stride=3, max_frames=3)
    assert isinstance(subset, FrameSource)
    assert len(subset) == 3
    np.testing.assert_allclose(subset.timestamps(), np.array([1, 4, 7]) / 30)
    assert subset.names() == ["plane-1", "plane-4", "plane-7"]
    np.testing.assert_allclose(subset.poses()[[0, 2]], [pose(1), pose(7)])
    assert np.isnan(subset.poses()[1]).all()
    for i, frame in enumerate(subset):
        assert frame.index == i
        assert frame.name == subset.names()[i]
        assert frame.timestamp == subset.timestamps()[i]
    assert subset[-1].name == "plane-7"
    assert subset[-1].index == 2


def test_subset_of_a_subset_and_ends():
    source = PlaneSource(10)
    nested = SubsetSource(SubsetSource(source, start=2, stride=2), start=1, stride=2)
    assert nested.names() == ["plane-4", "plane-8"]
    assert len(SubsetSource(source, stride=4)) == 3
    assert len(SubsetSource(source, max_frames=99)) == 10
    with pytest.raises(IndexError):
        nested[2]
    with pytest.raises(IndexError):
        nested[-3]


def test_bad_frames_pass_through():
    subset = SubsetSource(PlaneSource(6, bad=(2,)), stride=2)
    with pytest.raises(BadFrame):
        subset[1]
    assert [frame.index for frame in subset] == [0, 2]


@pytest.mark.parametrize(
    "arguments", [{"start": 10}, {"start": -1}, {"stride": 0}, {"max_frames": 0}]
)
def test_refusals(arguments):
    with pytest.raises(UserError, match="start"):
        SubsetSource(PlaneSource(10), **arguments)
