"""TUM RGB-D: dropped images, calibration families, distortion, ground truth."""

import cv2
import numpy as np
import pytest
from data_scene import PlaneSource, pose

from ace_jax.data.export import export
from ace_jax.data.frame import BadFrame, FrameSource
from ace_jax.data.tum import FAMILIES, Tum
from ace_jax.data.undistortion import Undistortion
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera


@pytest.fixture
def sequence(tmp_path):
    export(PlaneSource(6, first_time=100.0), tmp_path / "seq", "tum")
    return tmp_path / "seq"


def rewrite(path, change):
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines)) + "\n")


def test_dropped_images_are_counted(sequence):
    def late(lines):
        return [f"{float(lines[0].split()[0]) + 0.016:.6f} {lines[0].split()[1]}", *lines[2:]]

    rewrite(sequence / "depth.txt", late)
    (sequence / "rgb.txt").write_text("# time file\n\n" + (sequence / "rgb.txt").read_text())
    source = Tum(sequence)
    assert isinstance(source, FrameSource)
    assert (len(source), source.dropped_rgb, source.dropped_depth) == (5, 1, 0)
    np.testing.assert_allclose(source.timestamps(), 100 + np.array([0, 2, 3, 4, 5]) / 30, atol=1e-6)
    np.testing.assert_allclose(source[1].world_from_camera, pose(2), atol=1e-6)


def test_ground_truth_is_interpolated(sequence):
    def every_other(lines):
        return [line for line in lines if not line.startswith("#")][::2]

    rewrite(sequence / "groundtruth.txt", every_other)
    between = Tum(sequence).poses()[1]
    np.testing.assert_allclose(between[:3, 3], pose(1)[:3, 3], atol=1e-5)
    np.testing.assert_allclose(between[:3, :3], pose(1)[:3, :3], atol=1e-5)


def test_nan_in_ground_truth_is_no_pose(sequence):
    rewrite(
        sequence / "groundtruth.txt",
        lambda lines: [f"{line.split()[0]} nan nan nan 0 0 0 1" for line in lines[:3]] + lines[3:],
    )
    source = Tum(sequence)
    assert source[0].world_from_camera is None
    assert source[4].world_from_camera is not None


def test_without_depth_and_ground_truth(sequence):
    (sequence / "depth.txt").unlink()
    (sequence / "groundtruth.txt").unlink()
    source = Tum(sequence)
    assert not source.has_depth
    assert source[0].depth is None
    assert source.poses() is None
    assert len(source) == 6


def test_damage_in_a_stream(sequence):
    colour = sorted((sequence / "rgb").iterdir())
    colour[0].write_bytes(colour[0].read_bytes()[:200])
    cv2.imwrite(str(colour[2]), np.zeros((30, 40, 3), np.uint8))
    colour[4].unlink()
    source = Tum(sequence)
    for index in (0, 2, 4):
        with pytest.raises(BadFrame):
            source[index]
    assert [frame.index for frame in source] == [1, 3, 5]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("rgb.txt", None, "rgb.txt: No such file"),
        ("rgb.txt", "", "lists no images"),
        ("rgb.txt", "1.0\n", "time file"),
        ("depth.txt", "later a.png\n", "time file"),
        ("depth.txt", "900.0 depth/a.png\n", "no colour image has a depth image"),
        ("groundtruth.txt", "1 2 3\n", "line 1"),
        ("intrinsics.json", None, "tells no camera"),
        ("intrinsics.json", "{", "unreadable"),
    ],
)
def test_unreadable_lists_say_why(sequence, file, text, message):
    (sequence / file).unlink()
    if text is not None:
        (sequence / file).write_text(text)
    with pytest.raises(UserError, match=message):
        Tum(sequence)


def test_family_is_told_from_the_folder(sequence):
    (sequence / "intrinsics.json").unlink()
    folder = sequence.rename(sequence.parent / "rgbd_dataset_freiburg2_desk")
    source = Tum(folder)
    assert source.camera == Camera(520.9, 521.0, 325.1, 249.7, 64, 48)
    assert np.any(source[0].rgb != PlaneSource()[0].rgb)  # the lens is undone


def test_undistortion_takes_pixels_from_where_the_lens_put_them():
    """A smooth image of the distorted coordinates, resampled, shows OpenCV's own forward model."""
    family = FAMILIES["freiburg1"]
    camera = family.camera(640, 480)
    v, u = np.mgrid[:480, :640]
    rgb = np.stack([u / 4, v / 4, 0 * u], 2).astype(np.uint8)
    depth = (1 + u / 1000).astype(np.float32)
    straight, depth = Undistortion(camera, family.distortion)(rgb, depth)
    pixels = np.array([[100.0, 80.0], [320, 240], [500, 400], [30, 240]])
    rays = np.stack(
        [(pixels[:, 0] - camera.cx) / camera.fx, (pixels[:, 1] - camera.cy) / camera.fy], 1
    )
    k = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    points = np.column_stack([rays, np.ones(4)])
    there, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), k, np.array(family.distortion))
    there = there[:, 0]
    column, row = pixels.astype(int).T
    np.testing.assert_allclose(straight[row, column, :2], there / 4, atol=1.0)
    np.testing.assert_allclose(depth[row, column], 1 + there[:, 0] / 1000, atol=0.0006)
    assert np.abs(there - pixels).max() > 3  # the lens does something


def test_real_sequence(shared_dir):
    folder = shared_dir / "data/tum/rgbd_dataset_freiburg1_rpy"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    source = Tum(folder)
    assert (len(source), source.dropped_rgb, source.dropped_depth) == (119, 1, 0)
    assert np.isfinite(source.poses()).all()
    frame = source[60]
    assert frame.rgb.shape == (480, 640, 3)
    assert 0.5 < np.median(frame.depth[frame.depth > 0]) < 5
    assert frame.camera.fx == pytest.approx(517.3)
