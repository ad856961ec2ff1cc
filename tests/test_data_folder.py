"""A user's own folder: pairing by name, times, poses, and what is said when something is wrong."""

import json

import cv2
import numpy as np
import pytest
from data_scene import PlaneSource, pose

from ace_jax.data.export import export
from ace_jax.data.folder import Folder
from ace_jax.data.frame import BadFrame
from ace_jax.errors import UserError


@pytest.fixture
def folder(tmp_path):
    export(PlaneSource(4), tmp_path / "own", "folder")
    return tmp_path / "own"


def edit_intrinsics(folder, **changes):
    path = folder / "intrinsics.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


def rename(folder, old, new):
    for kind in ("rgb", "depth"):
        (folder / kind / f"{old}.png").rename(folder / kind / f"{new}.png")


def test_pairs_by_name_not_by_order(folder):
    (folder / "depth/000001.png").unlink()
    source = Folder(folder)
    assert (len(source), source.dropped_rgb, source.dropped_depth) == (3, 1, 0)
    assert source.names() == ["000000", "000002", "000003"]
    np.testing.assert_allclose(source[1].depth, PlaneSource()[2].depth, atol=2e-4)
    np.testing.assert_allclose(source[1].world_from_camera, pose(2), atol=1e-9)
    np.testing.assert_allclose(source.timestamps(), np.array([0, 2, 3]) / 30, atol=1e-9)


def test_natural_order_and_times_without_a_file(folder):
    (folder / "times.txt").unlink()
    for i, name in enumerate(("10", "9", "2", "1")):
        rename(folder, f"00000{i}", name)
    source = Folder(folder)
    assert source.names() == ["1", "2", "9", "10"]
    np.testing.assert_allclose(source.timestamps(), np.arange(4) / 30)
    for name in source.names():
        rename(folder, name, f"{float(name):.3f}")
    np.testing.assert_allclose(Folder(folder).timestamps(), [1, 2, 9, 10])


def test_times_one_a_line_or_with_file_names(folder):
    (folder / "times.txt").write_text("5\n6\n7\n8\n")
    np.testing.assert_allclose(Folder(folder).timestamps(), [5, 6, 7, 8])
    (folder / "times.txt").write_text("".join(f"rgb/00000{3 - i}.png {i}\n" for i in range(4)))
    np.testing.assert_allclose(Folder(folder).timestamps(), [3, 2, 1, 0])


def test_poses_as_trajectory_and_by_name(folder):
    (folder / "poses.txt").write_text("0.0333333 1 2 3 0 0 0 1\n")
    poses = Folder(folder).poses()
    np.testing.assert_array_equal(np.isnan(poses[:, 0, 3]), [True, False, True, True])
    np.testing.assert_allclose(poses[1, :3, 3], [1, 2, 3])
    (folder / "poses.txt").write_text("000002.png 1 0 0 0 1 2 3\n")
    np.testing.assert_allclose(Folder(folder).poses()[2, :3, 3], [-1, -2, -3])


def test_size_comes_from_the_images(folder):
    edit_intrinsics(folder, width=None, height=None)
    (folder / "rgb/000000.png").write_bytes(b"")  # the first that can be read says it
    source = Folder(folder)
    assert (source.camera.width, source.camera.height) == (64, 48)
    with pytest.raises(BadFrame):
        source[0]


def test_depth_of_another_size_and_type(folder):
    cv2.imwrite(str(folder / "depth/000001.png"), np.ones((24, 32), np.uint16))
    cv2.imwrite(str(folder / "depth/000002.png"), np.ones((48, 64), np.uint8))
    source = Folder(folder)
    with pytest.raises(BadFrame, match=r"depth of frame 000001 has 32 x 24 .* 64 x 48"):
        source[1]
    with pytest.raises(BadFrame, match="16-bit"):
        source[2]


def test_distortion_is_removed(folder):
    plain = Folder(folder)[0]
    edit_intrinsics(folder, distortion=[0.3, 0, 0, 0])
    bent = Folder(folder)[0]
    assert bent.rgb.shape == plain.rgb.shape
    assert np.any(bent.rgb != plain.rgb)
    assert np.any(bent.depth != plain.depth)


def test_depth_scale(folder):
    plain = Folder(folder)[0].depth
    edit_intrinsics(folder, depth_scale=10000)
    np.testing.assert_allclose(Folder(folder)[0].depth, plain / 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("intrinsics.json", None, "write one like"),
        ("intrinsics.json", "{", "unreadable"),
        ("intrinsics.json", "[1, 2]", "lacks fx"),
        ("intrinsics.json", '{"fx": 1, "fy": 1}', "lacks cx, cy"),
        ("intrinsics.json", '{"fx": "a", "fy": 1, "cx": 1, "cy": 1}', "unreadable"),
        ("intrinsics.json", '{"fx": 0, "fy": 1, "cx": 1, "cy": 1}', "must be positive"),
        ("intrinsics.json", '{"fx": NaN, "fy": 1, "cx": 1, "cy": 1}', "not finite"),
        (
            "intrinsics.json",
            '{"fx": 1, "fy": 1, "cx": 1, "cy": 1, "distortion": [1]}',
            "4 or 5 numbers",
        ),
        ("times.txt", "1\n2\n", "2 times for 4 images"),
        ("times.txt", "000000 1\n", "no time for an image"),
        ("times.txt", "nan\n1\n2\n3\n", "4 times for 4 images"),
        ("poses.txt", "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\n", "1 poses for 4 images"),
        ("poses.txt", "what\n", "poses.txt: line 1"),
    ],
)
def test_what_is_wrong_is_said(folder, file, text, message):
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text)
    with pytest.raises(UserError, match=message):
        Folder(folder)


def test_nothing_to_read(folder):
    for path in (folder / "depth").iterdir():
        path.rename(path.with_name("d" + path.name))
    with pytest.raises(UserError, match="paired with colour by name"):
        Folder(folder)
    for path in (folder / "rgb").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="no PNG or JPEG images"):
        Folder(folder)
    with pytest.raises(UserError, match="no PNG or JPEG images"):
        Folder(folder / "nothing")
