"""Planes of depth images, and how two depth images lie to each other."""

import dataclasses

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
import pytest
from data_scene import rotation
from depth_scene import CAMERA, WALLS, depth_image, view, views

from ace_jax.geometry import relative_poses
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.depth_planes import fit_planes, grid_pixels
from ace_jax.geometry.plane_registration import Registration, register
from ace_jax.geometry.relative_poses import RelativePoses
from ace_jax.slam.config import RegistrationConfig
from ace_jax.slam.mapping.depth_edges import DepthEdges

MEMORY, TRUST_AFTER = RegistrationConfig.memory, RegistrationConfig.trust_after


def planes_of(poses):
    return np.stack([fit_planes(depth_image(pose), CAMERA) for pose in poses])


def motion(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (second @ np.linalg.inv(first)).astype(np.float32)


def twist(matrix: np.ndarray) -> np.ndarray:
    return np.asarray(jaxlie.SE3.from_matrix(jnp.asarray(matrix, jnp.float32)).log())


def assert_planes(planes: np.ndarray, wall: np.ndarray) -> None:
    """All that are known are this one."""
    known = planes[planes.any(-1)]
    np.testing.assert_allclose(known, np.broadcast_to(wall, known.shape), atol=3e-4)


def test_a_wall_is_found_as_it_stands():
    pose = view([0.1, 0.2, -0.1], [0.1, -0.1, 0.2])
    wall = WALLS[:1]
    planes = fit_planes(depth_image(pose, wall), CAMERA)
    in_camera = wall[0] @ np.linalg.inv(pose)[:3, :3] / (1 - wall[0] @ np.linalg.inv(pose)[:3, 3])
    assert np.abs(planes).sum(-1).astype(bool).mean() > 0.9
    assert_planes(planes, in_camera)


def test_no_plane_across_edges_or_holes():
    depth = np.full((240, 320), 2.0, np.float32)
    depth[:, 160:] = 3.0
    depth[100:140, 20:60] = 0.0
    depth[200:, 20:60] = np.nan
    planes = fit_planes(depth, CAMERA)
    v, u = grid_pixels(CAMERA)
    reach = 4  # pixels, half a window
    for i, row in enumerate(v):
        for j, column in enumerate(u):
            window = depth[row - reach : row + reach + 1, column - reach : column + reach + 1]
            whole = window.shape == (2 * reach + 1, 2 * reach + 1) and np.isfinite(window).all()
            broken = not (whole and np.ptp(window) == 0 and window.min() > 0)
            assert planes[i, j].any() != broken
            if not broken:
                np.testing.assert_allclose(planes[i, j], [0, 0, 1 / depth[row, column]], atol=1e-6)


@pytest.mark.parametrize("width", [64, 320, 640, 1200])
def test_windows_are_symmetric_at_every_size(width):
    """A window with its centre off would shift every plane."""
    scale = width / 640
    camera = Camera(500 * scale, 500 * scale, 320 * scale, 240 * scale, width, int(480 * scale))
    v, u = np.mgrid[: camera.height, : camera.width]
    x, y = (u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy
    wall = np.array([0.1, -0.05, 0.4])
    depth = (1 / (wall[0] * x + wall[1] * y + wall[2])).astype(np.float32)
    planes = fit_planes(depth, camera)
    assert planes[1:-1, 1:-1].any(-1).all()
    assert_planes(planes, wall)


@pytest.mark.parametrize("seed", range(3))
def test_two_views_of_a_corner_are_registered(seed):
    rng = np.random.default_rng(seed)
    poses = views(4, seed)
    planes = planes_of(poses)
    true = np.stack([motion(poses[0], pose) for pose in poses[1:]])
    off = np.eye(4, dtype=np.float32)
    off[:3, :3] = rotation(0.004 * rng.normal(size=3))
    off[:3, 3] = 0.006 * rng.normal(size=3)
    found = register(planes[0], planes[1:], off @ true, CAMERA)
    assert np.all(found.success)
    for measured, information, start, move, exact in zip(
        found.other_from_camera, found.information, off @ true, found.move, true, strict=True
    ):
        error = twist(np.asarray(measured) @ np.linalg.inv(exact))
        before = twist(off)
        # What the view does not tell (a floor hardly in sight) is known to be uncertain.
        chi_square = error @ information @ error
        assert chi_square < min(0.6, 0.1 * (before @ information @ before))
        assert np.linalg.norm(error[3:]) < 0.3 * np.linalg.norm(before[3:])
        np.testing.assert_allclose(
            move, twist(np.asarray(measured) @ np.linalg.inv(start)), atol=1e-5
        )


def test_one_wall_tells_nothing_along_itself():
    wall = np.array([[0.0, 0.0, 0.5]])
    poses = [np.eye(4), view([0, 0, 0], [0.05, 0.02, 0.1])]
    planes = np.stack([fit_planes(depth_image(pose, wall), CAMERA) for pose in poses])
    found = register(planes[0], planes[1:], motion(*poses)[None], CAMERA)
    information = np.asarray(found.information[0])
    assert information[2, 2] > 1e4  # a centimetre towards the wall is seen
    assert np.abs(information[:2, :2]).max() < 1e-3 * information[2, 2]
    assert information[5, 5] < 1e-3 * information[4, 4]  # nor a turn about its normal


def test_views_without_a_common_surface_are_not_registered():
    poses = [np.eye(4), view([0, np.pi, 0], [0, 0, 0])]
    planes = np.stack([fit_planes(depth_image(poses[0]), CAMERA)] * 2)
    planes[1, 5:] = 0.0
    found = register(planes[0], planes[1:], motion(*poses)[None], CAMERA)
    assert not found.success[0]
    nothing = register(0 * planes[0], 0 * planes[1:], motion(*poses)[None], CAMERA)
    assert not nothing.success[0]
    for values in jax.tree.leaves(nothing):
        assert np.isfinite(np.asarray(values)).all()


def _relative(rng, count: int, poses: np.ndarray) -> RelativePoses:
    first, second = rng.permuted(np.tile(np.arange(len(poses)), (count, 1)), axis=1)[:, :2].T
    root = rng.normal(size=(count, 6, 6))
    measured = poses[second] @ np.linalg.inv(poses[first])
    return RelativePoses(first, second, measured.astype(np.float32), root @ root.mT)


def test_normal_equations_are_derivatives_of_the_error():
    rng = np.random.default_rng(0)
    poses = np.stack(views(5, 1))
    relative = _relative(rng, 7, poses)

    def moved_by(twists):
        return jax.vmap(lambda t, p: jaxlie.SE3.exp(t).as_matrix() @ p)(twists, poses)

    def cost(twists):
        return 0.5 * relative_poses.chi_square(relative, moved_by(twists))

    start = jnp.asarray(1e-3 * rng.normal(size=(5, 6)), jnp.float32)
    normal_equations = jax.jit(relative_poses.normal_equations)
    hessian, gradient = normal_equations(relative, jax.jit(moved_by)(start))
    scale = np.abs(gradient).max()
    np.testing.assert_allclose(gradient, jax.jit(jax.grad(cost))(start), atol=2e-2 * scale)
    exact = jax.jit(jax.hessian(cost))(jnp.zeros((5, 6)))
    np.testing.assert_allclose(hessian, exact, atol=2e-2 * np.abs(exact).max())
    true = normal_equations(relative, jnp.asarray(poses, jnp.float32))[1]
    assert np.abs(true).max() < 1e-2 * scale


def _registration(count: int, disagreement: float) -> Registration:
    """As many pairs, each off by so many standard deviations along every direction."""
    information = np.tile(1e4 * np.eye(6, dtype=np.float32), (count, 1, 1))
    return Registration(
        other_from_camera=np.tile(np.eye(4, dtype=np.float32), (count, 1, 1)),
        information=information,
        move=np.full((count, 6), 0.01 * disagreement, np.float32),
        success=np.ones(count, bool),
    )


def test_edges_are_trusted_as_far_as_they_agree_with_the_landmarks():
    edges = DepthEdges()
    edges.add(1, [0], _registration(1, 0.1))
    assert edges.trust == 0.0  # too few to tell
    edges.add(
        2,
        list(range(3, 3 + TRUST_AFTER)),
        _registration(TRUST_AFTER, 0.5),
    )
    assert edges.trust == 1.0
    edges.add(
        9,
        list(range(10, 10 + MEMORY)),
        _registration(MEMORY, 3.0),
    )
    np.testing.assert_allclose(edges.trust, 3.0**-4, rtol=1e-4)


def test_what_was_measured_badly_stays_doubtful():
    edges = DepthEdges()
    edges.add(1, [0], _registration(1, 2.0))
    edges.add(
        2,
        list(range(3, 3 + TRUST_AFTER)),
        _registration(TRUST_AFTER, 2.0),
    )
    before = edges.trust
    edges.add(
        50,
        list(range(51, 51 + MEMORY)),
        _registration(MEMORY, 0.5),
    )
    assert before < 0.1 < edges.trust == 1.0
    for pair, trust in (((0, 1), before), ((2, 3), before), ((50, 51), 1.0)):
        inside = edges.within(np.array(pair), np.arange(2), num_free=2, capacity=8)
        np.testing.assert_allclose(inside.information[0], trust * 1e4 * np.eye(6), rtol=1e-5)


def test_a_window_gets_the_edges_that_tell_it_something():
    edges = DepthEdges()
    failed = dataclasses.replace(_registration(2, 0.2), success=np.array([True, False]))
    edges.add(10, [11, 12], failed)
    assert len(edges) == 1
    edges.add(13, [10, 11, 99], _registration(3, 0.2))
    edges.add(14, [10, 11], _registration(2, 0.2))
    assert edges.trust == 1.0
    inside = edges.within(np.array([13, 10, 11]), np.array([0, 5, 6]), num_free=2, capacity=3)
    pairs = list(zip(inside.first.tolist(), inside.second.tolist(), strict=True))
    used = inside.information.any((1, 2))
    assert sorted(pairs[: used.sum()]) == [(0, 5), (0, 6)]  # 10-11 are both fixed, 99 is outside
    np.testing.assert_allclose(inside.information[0], 1e4 * np.eye(6), rtol=1e-6)
    full = edges.within(np.array([13, 10, 11, 14]), np.arange(4), num_free=4, capacity=3)
    newest = list(zip(full.first.tolist(), full.second.tolist(), strict=True))
    assert set(newest) >= {(3, 1), (3, 2)}  # of five, three fit
    edges.keep({10, 11, 14})
    assert len(edges) == 3
