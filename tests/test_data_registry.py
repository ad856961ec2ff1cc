"""Names of recordings, and the line that is told when there is nothing."""

import numpy as np
import pytest
from data_scene import PlaneSource, pose

from ace_jax.data.export import export
from ace_jax.data.registry import open_sequence
from ace_jax.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for folder, layout in (
        ("7scenes/chess/seq-03", "7scenes"),
        ("7scenes/fire/seq-01", "7scenes"),
        ("7scenes/fire/seq-02", "7scenes"),
        ("tum/rgbd_dataset_freiburg1_plane", "tum"),
        ("Replica/room0", "replica"),
        ("own/garden", "folder"),
    ):
        export(PlaneSource(6), root / folder, layout)
    return root


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("7scenes/chess/seq-03", "7scenes/chess/seq-03"),
        ("7scenes/chess", "7scenes/chess/seq-03"),
        ("7scenes/fire/seq-02/", "7scenes/fire/seq-02"),
        ("tum/freiburg1_plane", "tum/freiburg1_plane"),
        ("tum/fr1_plane", "tum/freiburg1_plane"),
        ("tum/rgbd_dataset_freiburg1_plane", "tum/freiburg1_plane"),
        ("replica/room0", "replica/room0"),
        ("folder/own/garden", "garden"),
    ],
)
def test_names(root, name, full):
    source = open_sequence(name, root)
    assert source.name == full
    assert len(source) == 6
    np.testing.assert_allclose(source.poses()[4], pose(4), atol=1e-6)


def test_folder_by_absolute_and_working_path(root, monkeypatch):
    assert len(open_sequence(f"folder/{root}/own/garden", "/nowhere")) == 6
    monkeypatch.chdir(root)
    assert len(open_sequence("folder/own/garden", "/nowhere")) == 6


def test_part_and_poses(root, tmp_path):
    (tmp_path / "poses.txt").write_text(
        "".join(f"frame-00000{i}.color.png 1 0 0 0 {-i} 0 0 525.5\n" for i in range(6))
    )
    source = open_sequence(
        "7scenes/chess", root, start=1, stride=2, max_frames=2, poses=tmp_path / "poses.txt"
    )
    assert source.names() == ["seq-03/frame-000001", "seq-03/frame-000003"]
    np.testing.assert_allclose(source.poses()[:, 0, 3], [1, 3])
    np.testing.assert_allclose(source[1].world_from_camera[0, 3], 3)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("7scenes/fire", ["several sequences", "seq-01, seq-02"]),
        ("7scenes/fire/seq-09", ["fire/seq-09", "there: seq-01, seq-02", "https://www.micro"]),
        ("7scenes/heads", ["7scenes/heads", "there: chess, fire", "--data_root"]),
        ("tum/freiburg3_x", ["rgbd_dataset_freiburg3_x.tgz", "https://"]),
        ("replica/office9", ["there: room0", "Replica.zip"]),
        ("folder/nothing", ["rgb/", "intrinsics.json"]),
        ("kitti/00", ["7scenes/SCENE/SEQ", "ace-jax data list"]),
        ("7scenes", ["no sequence '7scenes'"]),
        ("", ["no sequence ''"]),
    ],
)
def test_what_is_missing_is_told_in_one_line(root, name, words):
    with pytest.raises(UserError) as caught:
        open_sequence(name, root)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_folder_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no sequence 'hall': no such folder or file, and no name"):
        open_sequence("hall", "data")
    with pytest.raises(UserError, match=r"no such folder or file$"):
        open_sequence(str(tmp_path / "hall"), "data")
    (tmp_path / "kitchen").mkdir()
    with pytest.raises(UserError, match="did you mean 'kitchen'"):
        open_sequence("kichen", "data")
    with pytest.raises(UserError, match="no folder hall, neither here nor in data: it should hold"):
        open_sequence("folder/hall", "data")


def test_missing_root(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*nowhere/7scenes/chess.*--data_root"):
        open_sequence("7scenes/chess/seq-01", tmp_path / "nowhere")


def test_focal_is_for_7scenes(root):
    with pytest.raises(UserError, match="7scenes only"):
        open_sequence("tum/freiburg1_plane", root, focal=500.0)
