"""examples/vslam_lab_rgbd.py: a sequence in VSLAM-LAB's layout."""

import runpy
import sys
import types

import cv2
import numpy as np
import pytest
import yaml
from data_scene import CAMERA, plane_depth, pose, texture
from repository import REPO

import ace_jax

FACTOR = 5000.0


@pytest.fixture
def arguments(tmp_path):
    """The program's arguments; the files are written."""
    lines = ["ts_rgb0 (s),path_rgb0,ts_depth0 (s),path_depth0\n"]
    for kind in ("rgb_0", "depth_0"):
        (tmp_path / kind).mkdir()
    for i in range(3):
        names = (f"rgb_0/{i}.png", f"depth_0/{i}.png")
        cv2.imwrite(str(tmp_path / names[0]), texture(CAMERA, pose(i))[:, :, ::-1])
        units = np.rint(FACTOR * plane_depth(CAMERA, pose(i)))
        cv2.imwrite(str(tmp_path / names[1]), units.astype(np.uint16))
        time = f"1305031102.{175304 + 33333 * i}"
        lines.append(f"{time},{names[0]},{time},{names[1]}\n")
    (tmp_path / "rgb.csv").write_text("".join(lines))
    camera = {
        "cam_name": "rgb0",
        "focal_length": [50.0, 52.0],
        "principal_point": [31.5, 23.5],
        "image_dimension": [64, 48],
        "depth_name": "depth0",
        "depth_factor": FACTOR,
    }
    (tmp_path / "calibration.yaml").write_text(yaml.safe_dump({"cameras": [camera]}))
    given = {
        "sequence_path": tmp_path,
        "calibration_yaml": tmp_path / "calibration.yaml",
        "rgb_csv": tmp_path / "rgb.csv",
        "exp_folder": tmp_path,
        "exp_it": "7",
        "verbose": "0",  # it is given, and ignored
    }
    return [word for key, value in given.items() for word in (f"--{key}", str(value))]


def test_a_sequence_becomes_a_trajectory(arguments, tmp_path, monkeypatch):
    seen = []

    class Slam:
        def __init__(self, camera):
            assert camera == CAMERA

        def track(self, rgb, depth, seconds):
            seen.append((rgb, depth, seconds))

        def finish(self):
            times = np.array([seconds for *_, seconds in seen])
            poses = np.stack([pose(i) for i in range(len(seen))])
            return types.SimpleNamespace(timestamps=times, world_from_camera=poses)

    monkeypatch.setattr(ace_jax, "Slam", Slam)
    monkeypatch.setattr(sys, "argv", ["vslam_lab_rgbd.py", *arguments])
    runpy.run_path(str(REPO / "examples/vslam_lab_rgbd.py"), run_name="__main__")
    for i, (rgb, depth, seconds) in enumerate(seen):
        np.testing.assert_array_equal(rgb, texture(CAMERA, pose(i)))
        np.testing.assert_allclose(depth, plane_depth(CAMERA, pose(i)), atol=1.1 / FACTOR)
        assert abs(seconds - 1305031102.175304 - 0.033333 * i) < 1e-6
    header, *rows = (tmp_path / "00007_KeyFrameTrajectory.csv").read_text().splitlines()
    assert header == "timestamp,tx,ty,tz,qx,qy,qz,qw"
    values = np.array([[float(v) for v in row.split(",")] for row in rows])
    np.testing.assert_allclose(values[:, 1:4], [pose(i)[:3, 3] for i in range(3)], atol=1e-12)
