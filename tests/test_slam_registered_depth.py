"""SLAM on depth of another camera notes where that camera is, and takes the warped depth."""

import json

import numpy as np
import pytest
from slam_scene import RoomSource, make_system

from ace_jax.data.depth_camera import DepthCamera
from ace_jax.data.registered_depth import RegisteredDepth
from ace_jax.slam.run import run

pytestmark = pytest.mark.optimized


@pytest.mark.usefixtures("without_pictures")
def test_the_depth_camera_is_in_the_metrics(tmp_path):
    source = RoomSource(3)
    found = DepthCamera(source.camera, np.eye(4), np.full(7, 1e-3), 0.5, 2.0, 0.2, 24, "given")
    registered = RegisteredDepth(source, found)
    np.testing.assert_allclose(registered[1].depth, source[1].depth, rtol=1e-5)
    run(registered, make_system(), tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["frames_tracked"] == 3
    assert metrics["depth_camera"]["depth_focal"] == "given"
    assert metrics["depth_camera"]["pixel_sigma_of_640"] == 0.5
    run(source, make_system(), tmp_path / "plain")
    assert "depth_camera" not in json.loads((tmp_path / "plain" / "metrics.json").read_text())
