"""7-Scenes: files as published (depth not registered), made from an analytic plane."""

import cv2
import numpy as np
import pytest
from data_scene import plane_depth, pose, texture

from ace_jax.data import seven_scenes
from ace_jax.data.frame import BadFrame, FrameSource
from ace_jax.data.images import read_depth
from ace_jax.data.poses_file import with_poses
from ace_jax.data.seven_scenes import COLOUR_FROM_DEPTH, DEPTH_CENTRE, SevenScenes
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera

COLOUR = Camera(525.0, 525.0, 320.0, 240.0, 640, 480)
DEPTH_CAMERA = Camera(585.0, 585.0, *DEPTH_CENTRE, 640, 480)
NUMBERS = (2, 3, 4, 5)


def write_sequence(folder, numbers=NUMBERS, suffix="png"):
    """Depth from the depth camera, colour from the colour camera, pose of the depth camera."""
    folder.mkdir(parents=True)
    for number in numbers:
        stem = folder / f"frame-{number:06d}"
        world_from_depth = pose(number) @ COLOUR_FROM_DEPTH
        depth = plane_depth(DEPTH_CAMERA, world_from_depth)
        units = np.uint16(np.rint(1000 * depth))
        units[:20], units[20:40] = 0, 65535
        cv2.imwrite(f"{stem}.depth.png", units)
        cv2.imwrite(f"{stem}.color.{suffix}", texture(COLOUR, pose(number))[:, :, ::-1])
        skewed = world_from_depth.copy()
        skewed[:3, :3] *= 1.0005  # published rotations are not exactly orthonormal
        np.savetxt(f"{stem}.pose.txt", skewed)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_sequence(tmp_path_factory.mktemp("scene") / "seq-01")


@pytest.fixture
def sequence(tmp_path, whole):
    """A copy whose files a test may damage."""
    folder = tmp_path / "seq-01"
    folder.mkdir()
    for file in whole.iterdir():
        (folder / file.name).hardlink_to(file)
    return folder


def replace(path, data: bytes):
    path.unlink()  # not through the link
    path.write_bytes(data)


def test_depth_and_pose_are_those_of_the_colour_camera(whole):
    source = SevenScenes(whole)
    assert isinstance(source, FrameSource)
    assert len(source) == 4
    assert source.has_depth
    frame = source[1]
    assert frame.camera == COLOUR
    np.testing.assert_allclose(frame.world_from_camera, pose(3), atol=1e-6)
    np.testing.assert_array_equal(frame.rgb, texture(COLOUR, pose(3)))
    seen = frame.depth > 0
    assert seen[60:440, 50:580].all()
    assert not seen[:40].any()  # 0 and 65535
    truth = plane_depth(COLOUR, pose(3))
    # A millimetre of quantisation, and half a pixel of rounding on the slope.
    assert np.abs(frame.depth - truth)[seen].max() < 0.006
    assert np.abs(frame.depth - truth)[seen].mean() < 0.001


def test_rotations_are_orthonormal(whole):
    rotations = SevenScenes(whole).poses()[:, :3, :3]
    identity = np.broadcast_to(np.eye(3), rotations.shape)
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), identity, atol=1e-12)


def test_time_counts_from_frame_zero_also_when_the_run_starts_later(whole):
    source = SevenScenes(whole)
    np.testing.assert_allclose(source.timestamps(), np.array(NUMBERS) / 30)
    assert source.names() == [f"seq-01/frame-{n:06d}" for n in NUMBERS]
    assert source[0].index == 0
    assert source[-1].timestamp == 5 / 30


def test_jpeg_colour_and_missing_depth(tmp_path):
    folder = write_sequence(tmp_path / "seq-02", numbers=(0,), suffix="jpg")
    (folder / "frame-000000.depth.png").unlink()
    (folder / "frame-000000.pose.txt").unlink()
    source = SevenScenes(folder)
    assert not source.has_depth
    assert source.poses() is None
    assert source[0].depth is None
    assert source[0].world_from_camera is None
    assert np.abs(source[0].rgb.astype(int) - texture(COLOUR, pose(0))).mean() < 3


def test_damaged_frames_are_bad_frames_and_the_stream_goes_on(sequence):
    depth = sequence / "frame-000003.depth.png"
    replace(depth, depth.read_bytes()[:-2000])
    small = cv2.imencode(".png", np.zeros((240, 320, 3), np.uint8))[1].tobytes()
    replace(sequence / "frame-000004.color.png", small)
    small = cv2.imencode(".png", np.ones((240, 320), np.uint16))[1].tobytes()
    replace(sequence / "frame-000005.depth.png", small)
    source = SevenScenes(sequence)
    for index, what in ((1, "frame-000003.depth.png: truncated"), (2, "320 x 240"), (3, "320")):
        with pytest.raises(BadFrame, match=what):
            source[index]
    assert [frame.index for frame in source] == [0]
    (sequence / "frame-000002.depth.png").unlink()
    with pytest.raises(BadFrame, match="No such file"):
        SevenScenes(sequence)[0]


@pytest.mark.parametrize(
    "text",
    [
        "nan " * 16,
        "-inf " * 16,
        "1 2 3",
        "what is this",
        "",
        "0 " * 15 + "1",
        "1 0 0 0 0 1 0 0 0 0 -1 0 0 0 0 1",
    ],
)
def test_a_broken_pose_is_no_pose(sequence, text):
    replace(sequence / "frame-000003.pose.txt", text.encode())
    source = SevenScenes(sequence)
    poses = source.poses()
    np.testing.assert_array_equal(np.isnan(poses).all(axis=(1, 2)), [False, True, False, False])
    assert np.isfinite(poses[[0, 2, 3]]).all()
    assert source[1].world_from_camera is None
    assert source[1].depth is not None


def test_missing_pose_of_one_frame(sequence):
    (sequence / "frame-000002.pose.txt").unlink()
    assert np.isnan(SevenScenes(sequence).poses()[0]).all()


def test_no_frames(tmp_path):
    with pytest.raises(UserError, match="no frames"):
        SevenScenes(tmp_path)


def test_index_errors(whole):
    source = SevenScenes(whole)
    with pytest.raises(IndexError, match="4 frames"):
        source[4]
    with pytest.raises(IndexError):
        source[-5]


def median_depth_error(source, depths, pairs) -> float:
    """Median |depth seen - depth carried there from another frame by the poses|, metres."""
    camera, poses = source.camera, source.poses()
    v, u = np.mgrid[0 : camera.height : 3, 0 : camera.width : 3]
    errors = []
    for i, j in pairs:
        z = depths[i][::3, ::3].astype(np.float64)
        points = np.stack([(u - camera.cx) / camera.fx * z, (v - camera.cy) / camera.fy * z, z])
        j_from_i = np.linalg.inv(poses[j]) @ poses[i]
        x, y, z = j_from_i[:3, :3] @ points[:, z > 0] + j_from_i[:3, 3:]
        column = np.rint(camera.fx * x / z + camera.cx).astype(int)
        row = np.rint(camera.fy * y / z + camera.cy).astype(int)
        inside = (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
        seen = depths[j][row[inside], column[inside]]
        errors.append(np.abs(seen - z[inside])[seen > 0])
    return float(np.median(np.concatenate(errors)))


def test_registration_agrees_with_sfm_poses_on_a_real_sequence(shared_dir):
    """Depth carried to a frame two seconds on by poses of the colour camera meets its depth."""
    folder = shared_dir / "data/7scenes/redkitchen/seq-01"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    source = with_poses(SevenScenes(folder), folder.parent / "seq-01-sfm-pseudo-gt.txt")
    pairs = [(i, i + 60) for i in range(0, 440, 80)]
    numbers = {number for pair in pairs for number in pair}
    registered = {i: source[i].depth for i in numbers}
    stored = {i: read_depth(folder / f"frame-{i:06d}.depth.png", 1000.0) for i in numbers}
    error = median_depth_error(source, registered, pairs)
    unregistered = median_depth_error(source, stored, pairs)
    assert error < 0.03
    assert error < 0.75 * unregistered


def test_colour_and_depth_edges_coincide_on_a_real_sequence(shared_dir, monkeypatch):
    """Colour changes most where registered depth jumps, not some pixels beside it.

    The near side of a jump is up to two pixels too wide, a trait of the sensor.
    """
    folder = shared_dir / "data/7scenes/redkitchen/seq-01"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    shifts = range(-12, 13, 2)
    for centre, aligned in ((DEPTH_CENTRE, True), ((320.0, 240.0), False)):
        monkeypatch.setattr(seven_scenes, "DEPTH_CENTRE", centre)
        source = SevenScenes(folder)
        contrast = np.zeros((len(shifts), len(shifts)))
        for i in range(0, 480, 48):
            frame = source[i]
            grey = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
            grey = cv2.GaussianBlur(grey, (0, 0), 1)
            gradient = np.hypot(cv2.Sobel(grey, -1, 1, 0), cv2.Sobel(grey, -1, 0, 1))
            near, far = (
                frame.depth[40:-40, 70:-70],
                [
                    frame.depth[40 + dy : 440 + dy, 70 + dx : 570 + dx]
                    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))
                ],
            )
            edge = (near > 0) & (np.max(far, axis=0) > 1.1 * near)
            row, column = np.nonzero(edge)
            contrast += [
                [gradient[row + 40 + dy, column + 70 + dx].mean() for dx in shifts] for dy in shifts
            ]
        dy, dx = np.unravel_index(contrast.argmax(), contrast.shape)
        assert (max(abs(shifts[dx]), abs(shifts[dy])) <= 2) == aligned
