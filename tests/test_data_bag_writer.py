"""What is written as MCAP is read back by our reader of bags, and by rosbags."""

import sys

import numpy as np
import pytest
from data_scene import CAMERA, PlaneSource, pose

from ace_jax.data.bag_writer import OPTICAL, TOPICS, write_bag
from ace_jax.data.export import export
from ace_jax.data.recognition import recognise
from ace_jax.data.registry import open_sequence
from ace_jax.data.verbs.convert import convert
from ace_jax.errors import UserError
from ace_jax.geometry.rigid import from_quaternion

START = 1305031102.175304  # seconds, of TUM's freiburg1_xyz


@pytest.fixture
def rosbags():
    return pytest.importorskip("rosbags.highlevel")


@pytest.fixture
def tum(tmp_path):
    """A TUM recording, opened by its path."""
    source = PlaneSource(5, lost=(3,), first_time=START)
    export(source, tmp_path / "rgbd_dataset_freiburg1_plane", "tum")
    return open_sequence(str(tmp_path / "rgbd_dataset_freiburg1_plane"), tmp_path)


def test_tum_as_mcap(tum, tmp_path, rosbags):
    out = tmp_path / "plane_bag"
    said = convert(tum, "mcap", str(out))
    assert said == f"{out}: 5 of 5 frames, layout mcap; open it as {out}"
    for path in (out, next(out.glob("*.mcap"))):
        assert recognise(path)[0] == "bag"
        back = open_sequence(str(path), tmp_path)
        assert back.camera == CAMERA
        assert back.topics == tuple(list(TOPICS)[i] for i in (1, 2, 0))
        np.testing.assert_allclose(back.timestamps(), tum.timestamps(), atol=1e-6)
        for i in range(5):
            np.testing.assert_array_equal(back[i].rgb, tum[i].rgb)
            np.testing.assert_allclose(back[i].depth, tum[i].depth, atol=0.0006)
            assert (back[i].depth[tum[i].depth == 0] == 0).all()


def test_poses_are_tf_and_a_topic(tmp_path, rosbags):
    assert write_bag(PlaneSource(4, lost=(2,), first_time=START), tmp_path / "bag") == 4
    found, moved = {}, []
    with rosbags.AnyReader([tmp_path / "bag"]) as reader:
        assert {c.topic: c.msgtype for c in reader.connections} == TOPICS
        for connection, at, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            if connection.topic == "/camera/pose":
                assert message.header.frame_id == "map"
                p, q = message.pose.position, message.pose.orientation
                found[at] = from_quaternion(
                    np.array([q.w, q.x, q.y, q.z]), np.array([p.x, p.y, p.z])
                )
            if connection.topic == "/tf":
                (transform,) = message.transforms
                assert (transform.header.frame_id, transform.child_frame_id) == ("map", OPTICAL)
                p = transform.transform.translation
                moved.append([p.x, p.y, p.z])
    times = [round((START + i / 30) * 1e9) for i in (0, 1, 3)]
    assert list(found) == times
    np.testing.assert_allclose(list(found.values()), [pose(0), pose(1), pose(3)], atol=1e-9)
    np.testing.assert_allclose(moved, [pose(i)[:3, 3] for i in (0, 1, 3)], atol=1e-9)


def test_colour_alone_and_bad_frames(tmp_path, rosbags):
    assert write_bag(PlaneSource(4, has_depth=False, bad=(1,)), tmp_path / "bag") == 3
    assert not open_sequence(f"bag/{tmp_path / 'bag'}", tmp_path).has_depth


def test_refusals(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="in use"):
        write_bag(PlaneSource(2), tmp_path)
    with pytest.raises(UserError, match="negative"):
        write_bag(PlaneSource(2, first_time=-1.0), tmp_path / "bag")
    monkeypatch.setitem(sys.modules, "rosbags.rosbag2", None)
    with pytest.raises(UserError, match="pip install rosbags"):
        write_bag(PlaneSource(2), tmp_path / "bag")
