"""Pose files of both kinds, matched by time and by name."""

import numpy as np
import pytest
from data_scene import PlaneSource, pose, rotation

from ace_jax.data.frame import FrameSource
from ace_jax.data.pose_writers import write_trajectory_tum
from ace_jax.data.poses_file import (
    NamedPoses,
    Trajectory,
    read_matrices,
    read_poses,
    read_trajectory,
    with_poses,
)
from ace_jax.errors import UserError
from ace_jax.geometry.rigid import (
    from_quaternion,
    invert,
    project_to_so3,
    slerp,
    to_quaternion,
)


def tum_line(seconds, world_from_camera):
    w, x, y, z = to_quaternion(world_from_camera[:3, :3])
    return " ".join(repr(float(v)) for v in (seconds, *world_from_camera[:3, 3], x, y, z, w))


def named_line(name, world_from_camera, *extra):
    camera_from_world = invert(world_from_camera)
    values = (*to_quaternion(camera_from_world[:3, :3]), *camera_from_world[:3, 3], *extra)
    return " ".join([name, *(repr(float(v)) for v in values)])


def test_quaternions_round_trip_at_every_angle():
    rng = np.random.default_rng(0)
    for angle in (0.0, 1e-9, 1e-4, 1.0, 3.0, np.pi - 1e-9, np.pi):
        axis = rng.normal(size=3)
        matrix = rotation(angle * axis / np.linalg.norm(axis))
        wxyz = to_quaternion(matrix)
        assert wxyz[0] >= 0
        np.testing.assert_allclose(from_quaternion(wxyz, np.zeros(3))[:3, :3], matrix, atol=1e-12)


def test_projection_to_so3_gives_the_nearest_rotation():
    matrix = rotation(np.array([0.3, -0.2, 0.9]))
    noisy = matrix + np.random.default_rng(1).normal(0, 1e-3, (20, 3, 3))
    projected = project_to_so3(noisy)
    np.testing.assert_allclose(np.linalg.det(projected), 1.0)
    assert (
        np.linalg.norm(projected - noisy, axis=(1, 2))
        <= np.linalg.norm(matrix - noisy, axis=(1, 2))
    ).all()


def test_slerp_goes_the_short_way():
    a, b = (to_quaternion(rotation(np.array([0, 0, angle]))) for angle in (0.2, 0.6))
    middle = slerp(a[None], -b[None], np.array([0.25]))[0]
    np.testing.assert_allclose(
        from_quaternion(middle, np.zeros(3))[:3, :3], rotation(np.array([0, 0, 0.3])), atol=1e-12
    )


def test_trajectory_interpolates_between_near_neighbours(tmp_path):
    path = tmp_path / "gt.txt"
    times = [0.0, 0.04, 0.30]
    path.write_text("# comment\n" + "\n".join(tum_line(t, pose(i)) for i, t in enumerate(times)))
    trajectory = read_poses(path)
    assert isinstance(trajectory, Trajectory)
    at = trajectory.at(np.array([0.0, 0.01, 0.04, 0.055, 0.1, 0.285, 0.31, 0.4, -0.01]))
    np.testing.assert_allclose(at[[0, 2]], [pose(0), pose(1)], atol=1e-9)
    np.testing.assert_allclose(at[1][:3, 3], 0.75 * pose(0)[:3, 3] + 0.25 * pose(1)[:3, 3])
    step = np.array([0.02, 0.05, 0.11])
    np.testing.assert_allclose(at[1][:3, :3], rotation(1.25 * step), atol=1e-9)
    # In a gap of 0.26 s the nearest sample serves, within 0.02 s.
    np.testing.assert_allclose(at[3], pose(1), atol=1e-9)
    np.testing.assert_allclose(at[[5, 6]], [pose(2)] * 2, atol=1e-9)
    assert np.isnan(at[[4, 7]]).all()
    np.testing.assert_allclose(at[8], pose(0), atol=1e-9)
    nearest = trajectory.at(np.array([0.011, 0.03]), interpolate=False)
    np.testing.assert_allclose(nearest, [pose(0), pose(1)], atol=1e-9)


def test_trajectory_survives_disorder_and_nan(tmp_path):
    path = tmp_path / "gt.txt"
    lines = [tum_line(2.0, pose(2)), "1.5 nan 0 0 0 0 0 1", tum_line(1.0, pose(1))]
    lines += [tum_line(2.0, pose(3)), "3 0 0 0 0 0 0 0"]
    path.write_text("\n".join(lines))
    trajectory = read_poses(path)
    np.testing.assert_array_equal(trajectory.timestamps, [1.0, 2.0])
    np.testing.assert_allclose(trajectory.world_from_camera, [pose(1), pose(2)], atol=1e-9)
    assert np.isnan(trajectory.at(np.array([1.5]))).all()


def test_named_poses_match_with_and_without_folders_and_suffixes(tmp_path):
    path = tmp_path / "sfm.txt"
    lines = [named_line(f"seq-01/frame-00000{i}.color.png", pose(i), 525.5) for i in range(3)]
    lines.append(named_line("seq-02/frame-000002.color.png", pose(4), 525.5))
    path.write_text("\n".join(lines))
    poses = read_poses(path)
    assert isinstance(poses, NamedPoses)
    assert poses.focal == 525.5
    found = poses.of(
        ["seq-01/frame-000000", "frame-000001.jpg", "frame-000002", "seq-02/frame-000002"]
    )
    np.testing.assert_allclose(found[[0, 1, 3]], [pose(0), pose(1), pose(4)], atol=1e-9)
    assert np.isnan(found[2]).all()  # two folders have it


def test_ace_result_lines_have_no_focal_length(tmp_path):
    path = tmp_path / "poses.txt"
    path.write_text(named_line("a.png", pose(0), 0.1, 0.02, 812))
    assert read_poses(path).focal is None
    np.testing.assert_allclose(read_poses(path).of(["a"])[0], pose(0), atol=1e-9)


def test_source_with_other_poses(tmp_path):
    source = PlaneSource()
    path = tmp_path / "named.txt"
    path.write_text("\n".join(named_line(f"plane-{i}.png", pose(i + 7)) for i in (0, 1, 3, 4)))
    posed = with_poses(source, path)
    assert isinstance(posed, FrameSource)
    expected = [pose(7), pose(8), np.full((4, 4), np.nan), pose(10), pose(11)]
    np.testing.assert_allclose(posed.poses(), expected, atol=1e-9)
    assert posed[2].world_from_camera is None
    np.testing.assert_allclose(posed[-1].world_from_camera, pose(11), atol=1e-9)
    np.testing.assert_array_equal(posed[1].rgb, source[1].rgb)
    assert [frame.index for frame in posed] == [0, 1, 2, 3, 4]
    path.write_text("\n".join(tum_line(t, pose(9)) for t in source.timestamps()))
    np.testing.assert_allclose(with_poses(source, path).poses(), [pose(9)] * 5, atol=1e-9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no poses"),
        ("1 2 3\n", "line 1"),
        ("0 0 0 0 0 0 0 1\n1 0 0 x 0 0 0 1\n", "line 2"),
        ("a.png 1 0 0 0 0 0 0\nb.png 1 0 0\n", "line 2"),
        ("other.png 1 0 0 0 0 0 0\n", "none of its names"),
        ("900 0 0 0 0 0 0 1\n", "none of its times"),
        ("1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\n", "4 x 4 matrices, without time or name"),
    ],
)
def test_unusable_files_say_why(tmp_path, text, message):
    path = tmp_path / "poses.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        with_poses(PlaneSource(), path)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_poses(tmp_path / "missing.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match="not a text file"):
        read_poses(tmp_path / "binary.txt")


def test_matrices(tmp_path):
    path = tmp_path / "traj.txt"
    path.write_text("1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\n\n" + "nan " * 16)
    assert read_matrices(path).shape == (2, 4, 4)
    path.write_text("1 2 3\n")
    with pytest.raises(UserError, match=r"line 1.*4 x 4"):
        read_matrices(path)


def _poses(count: int = 20) -> np.ndarray:
    rng = np.random.default_rng(0)
    return from_quaternion(rng.normal(size=(count, 4)), rng.normal(size=(count, 3)))


def test_tum_lines(tmp_path):
    poses, times = _poses(), np.arange(20) / 30 + 1305031102.175304
    poses[4] = np.nan
    write_trajectory_tum(tmp_path / "new" / "t.tum", times, poses)
    lines = (tmp_path / "new" / "t.tum").read_text().splitlines()
    header = lines.pop(0)
    assert header.startswith("# timestamp tx ty tz qx qy qz qw: camera to world")
    assert len(lines) == 19
    for line in lines:
        assert line == line.strip()
        assert len(line.split(" ")) == 8
    keep = np.arange(20) != 4
    read = read_poses(tmp_path / "new" / "t.tum")
    np.testing.assert_array_equal(read.timestamps, times[keep])
    np.testing.assert_allclose(read.world_from_camera, poses[keep], atol=1e-8)


def test_evo_reads_the_trajectory(tmp_path):
    pytest.importorskip("evo")
    from evo.tools import file_interface

    write_trajectory_tum(tmp_path / "t.tum", np.arange(20) / 30, _poses())
    read = file_interface.read_tum_trajectory_file(str(tmp_path / "t.tum"))
    np.testing.assert_allclose(np.stack(read.poses_se3), _poses(), atol=1e-8)
    np.testing.assert_array_equal(read.timestamps, np.arange(20) / 30)


def test_files_without_a_header_are_read_too(tmp_path):
    write_trajectory_tum(tmp_path / "t.tum", np.arange(20) / 30, _poses())
    lines = (tmp_path / "t.tum").read_text().splitlines()[1:]
    (tmp_path / "old.tum").write_text("\n".join(lines))
    old, new = (read_poses(tmp_path / name) for name in ("old.tum", "t.tum"))
    np.testing.assert_array_equal(old.world_from_camera, new.world_from_camera)


def test_a_trajectory_without_poses_is_a_header_alone(tmp_path):
    write_trajectory_tum(tmp_path / "t.tum", np.arange(3), np.full((3, 4, 4), np.nan))
    assert len((tmp_path / "t.tum").read_text().splitlines()) == 1
    assert len(read_trajectory(tmp_path / "t.tum").timestamps) == 0
