"""Replica renderings: camera file, poses by frame number, damage."""

import json

import numpy as np
import pytest
from data_scene import CAMERA, PlaneSource, pose

from ace_jax.data.export import export
from ace_jax.data.frame import BadFrame
from ace_jax.data.replica import Replica
from ace_jax.errors import UserError


@pytest.fixture
def scene(tmp_path):
    export(PlaneSource(4), tmp_path / "room0", "replica")
    return tmp_path / "room0"


def test_camera_file_beside_or_above_or_published_values(scene):
    (scene / "cam_params.json").rename(scene.parent / "cam_params.json")
    assert Replica(scene).camera == CAMERA
    (scene.parent / "cam_params.json").unlink()
    source = Replica(scene)
    assert (source.camera.fx, source.camera.cx, source.camera.width) == (600.0, 599.5, 1200)
    with pytest.raises(BadFrame, match="64 x 48 pixels, the camera 1200 x 680"):
        source[0]


def test_poses_belong_to_frame_numbers(scene):
    (scene / "results/frame000001.jpg").unlink()
    source = Replica(scene)
    np.testing.assert_allclose(source.poses(), [pose(0), pose(2), pose(3)], atol=1e-9)
    np.testing.assert_allclose(source.timestamps(), np.array([0, 2, 3]) / 30)
    assert source.names() == ["frame000000", "frame000002", "frame000003"]


def test_truncated_image(scene):
    path = scene / "results/frame000002.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadFrame, match="truncated"):
        Replica(scene)[2]
    assert [frame.index for frame in Replica(scene)] == [0, 1, 3]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("traj.txt", "1 2 3\n", "line 1"),
        ("traj.txt", "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\n", "has 1 poses, but there is a frame"),
        ("cam_params.json", "{}", "unreadable"),
        ("cam_params.json", "{", "unreadable"),
        (
            "cam_params.json",
            json.dumps({"camera": dict.fromkeys(("w", "h", "fx", "fy", "cx", "cy", "scale"), 0)}),
            "must be positive",
        ),
    ],
)
def test_unreadable_files_say_why(scene, file, text, message):
    (scene / file).write_text(text)
    with pytest.raises(UserError, match=message):
        Replica(scene)


def test_no_frames(scene):
    for path in (scene / "results").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="no frames"):
        Replica(scene)
    (scene / "results").rmdir()
    with pytest.raises(UserError, match="no folder"):
        Replica(scene)
