"""Submissions of the map-free benchmark."""

import zipfile

import numpy as np
import pytest
from commands import run_python
from PIL import Image

from ace_jax.data.frame import BadFrame
from ace_jax.data.map_free import ImageIntrinsics, add_scene, scene_of
from ace_jax.errors import UserError
from ace_jax.geometry.rigid import from_quaternion, invert
from ace_jax.relocalize.queries import ImageQueries

POSE = from_quaternion(np.array([0.9, 0.1, -0.2, 0.3]), np.array([0.5, -0.25, 1.5]))


def test_a_submission_grows_by_scenes(tmp_path):
    path, names = tmp_path / "submission.zip", ["frame_00000.jpg", "frame_00005.jpg"]
    add_scene(path, "s00525/seq1", names, [invert(POSE), None], [519, 0])
    add_scene(path, "s00526/seq1", names, [np.eye(4), invert(POSE)], [20, 30])
    add_scene(path, "s00526/seq1", names, [np.eye(4), invert(POSE)], [21.5, 30])  # in its place
    with zipfile.ZipFile(path) as file:
        assert file.namelist() == ["pose_s00525.txt", "pose_s00526.txt"]
        (line,) = file.read("pose_s00525.txt").decode().splitlines()
        name, *values = line.split()
        assert name == "seq1/frame_00000.jpg"
        values = np.array(values, float)
        np.testing.assert_allclose(from_quaternion(values[:4], values[4:7]), POSE, atol=1e-9)
        assert values[7] == 519
        second = file.read("pose_s00526.txt").decode()
        values = [float(word) for word in second.splitlines()[0].split()[1:]]
        assert values == [1, 0, 0, 0, 0, 0, 0, 21.5]
    other = tmp_path / "photos.zip"
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("holiday.jpg", b"")
    with pytest.raises(UserError, match="name a new file"):
        add_scene(other, "s1/seq1", names, [None, None], [0, 0])
    other.write_text("no zip")
    with pytest.raises(UserError, match="cannot be read"):
        add_scene(other, "s1/seq1", names, [None, None], [0, 0])


def test_each_query_has_its_intrinsics(tmp_path):
    folder = tmp_path / "s00525" / "seq1"
    folder.mkdir(parents=True)
    lines = []
    for i in range(2):
        Image.new("RGB", (54, 72)).save(folder / f"frame_{i:05d}.jpg")
        lines.append(f"seq1/frame_{i:05d}.jpg {59 + i} {60 + i} 26.5 35.5 54 72\n")
    (folder.parent / "intrinsics.txt").write_text("".join(lines))
    assert scene_of(folder) == "s00525/seq1"
    queries = ImageQueries(folder, str(folder.parent / "intrinsics.txt"))
    assert [float(queries[i].camera.fx) for i in range(2)] == [59, 60]
    Image.new("RGB", (54, 72)).save(folder / "frame_00009.jpg")
    with pytest.raises(BadFrame, match="no line for seq1/frame_00009"):
        ImageQueries(folder, str(folder.parent / "intrinsics.txt"))[2]
    with pytest.raises(UserError, match="SCENE/seq1"):
        scene_of(tmp_path)
    for wrong in ("a 1 2 3\n", "a 0 1 2 3 4 5\n", "a 1 1 nan 1 4 5\n", "a 1 1 1 1 inf 5\n"):
        (tmp_path / "wrong.txt").write_text(wrong)
        with pytest.raises(UserError, match="line 1: not NAME"):
            ImageIntrinsics(tmp_path / "wrong.txt")


def test_the_flag_wants_a_scene(tmp_path):
    arguments = ["--map=x", "--seq=y", f"--map_free={tmp_path / 'submission.zip'}"]
    done = run_python("-m", "ace_jax.relocalize", *arguments)
    assert done.returncode == 2
    assert "--images SCENE/seq1" in done.stderr
