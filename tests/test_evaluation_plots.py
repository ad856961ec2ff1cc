"""Views, gaps and colours of the trajectory picture."""

import cv2
import numpy as np
import pytest

from ace_jax.evaluation.plots import save_figure, trajectory_figure, view_axes
from ace_jax.evaluation.trajectory import Trajectory
from ace_jax.geometry.rigid import from_quaternion


def _turning_camera(up: np.ndarray, count: int = 40, turn: float = 2.0) -> Trajectory:
    """A camera that looks 30 degrees down, turns about `up` and moves along a level line."""
    along = np.cross(up, [0.3, 0.8, -0.5])
    along /= np.linalg.norm(along)
    poses = np.tile(np.eye(4), (count, 1, 1))
    for pose, angle, step in zip(
        poses, np.linspace(0, turn, count), np.linspace(0, 3, count), strict=True
    ):
        heading = np.cos(angle) * along + np.sin(angle) * np.cross(up, along)
        forward = np.cos(np.pi / 6) * heading - np.sin(np.pi / 6) * up
        right = np.cross(forward, up)
        right /= np.linalg.norm(right)
        pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
        pose[:3, 3] = step * along + 0.2 * np.sin(3 * step) * np.cross(up, along)
    return Trajectory(np.arange(count) / 30, poses)


@pytest.mark.parametrize("up", [[0, 0, 1], [0, -1, 0], [0.6, 0, 0.8]])
def test_up_is_found_for_a_camera_that_looks_down(up):
    up = np.array(up, float)
    axes = view_axes(_turning_camera(up).world_from_camera)
    assert axes[2] @ up > 0.99
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(axes) == pytest.approx(1)


def test_a_camera_that_does_not_turn_gets_the_image_up():
    poses = np.tile(np.eye(4), (10, 1, 1))
    poses[:, 2, 3] = np.arange(10)
    axes = view_axes(poses)
    np.testing.assert_allclose(axes[2], [0, -1, 0], atol=1e-9)
    np.testing.assert_allclose(axes[0], [0, 0, 1], atol=1e-9)


def test_both_views_have_one_scale():
    figure = trajectory_figure(_turning_camera(np.array([0.0, 0, 1])))
    figure.canvas.draw()
    scales = [
        (view.transData.transform([[1, 0], [0, 1]]) - view.transData.transform([0, 0])).max()
        for view in figure.axes
    ]
    assert scales[0] == pytest.approx(scales[1], rel=0.01)
    for view in figure.axes:
        assert view.get_aspect() == 1.0


def test_errors_are_coloured_and_tracking_gaps_are_not_bridged():
    truth = _turning_camera(np.array([0.0, 0, 1]))
    poses = truth.world_from_camera.copy()
    poses[:, :3, 3] += np.random.default_rng(0).normal(size=(40, 3)) * 0.01
    poses[15:25] = np.nan
    figure = trajectory_figure(Trajectory(truth.timestamps, poses), truth, "a room")
    top, side, bar = figure.axes
    assert bar.get_ylabel() == "position error (cm)"
    for view in (top, side):
        (lines,) = view.collections
        assert len(lines.get_segments()) == 30 - 1 - 1
        assert lines.get_array().max() > 0.3  # centimetres
    assert "ATE RMSE" in figure.get_suptitle()


def test_a_reference_without_overlap_is_left_out():
    truth = _turning_camera(np.array([0.0, 0, 1]))
    late = Trajectory(truth.timestamps + 99, truth.world_from_camera)
    figure = trajectory_figure(truth, late)
    assert len(figure.axes) == 2


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("reference", [False, True])
def test_next_to_no_poses_still_give_a_picture(tmp_path, count, reference):
    truth = _turning_camera(np.array([0.0, 0, 1]))
    save_figure(
        tmp_path / "t.png", trajectory_figure(truth[:count], truth if reference else None, "x")
    )
    image = cv2.imread(str(tmp_path / "t.png"))
    assert image.min() < 128


def test_stationary_camera(tmp_path):
    still = Trajectory(np.arange(5.0), np.tile(from_quaternion(np.ones(4), np.ones(3)), (5, 1, 1)))
    save_figure(tmp_path / "t.png", trajectory_figure(still, still))
    assert (tmp_path / "t.png").exists()
