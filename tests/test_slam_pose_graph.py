"""Pose graphs: Jacobians against autodiff, known graphs, false loop edges, degenerate input."""

import dataclasses

import jax
import jaxlie
import numpy as np
import pytest
from precision import double_precision
from scipy.spatial.transform import Rotation

from ace_jax.geometry import pose_graph as pg
from ace_jax.geometry.rigid import invert

SIGMA = np.array([0.004] * 3 + [0.001] * 3)  # metres, radians, of one edge


def circle(count: int, turns: float = 2.0) -> np.ndarray:
    """(count, 4, 4) camera_from_world along a circle with 0.15 m between neighbours."""
    angle = np.linspace(0, 2 * np.pi * turns, count, endpoint=False)
    radius = count * 0.15 / (2 * np.pi * turns)
    poses = np.tile(np.eye(4), (count, 1, 1))
    rotation = Rotation.from_euler("yx", np.stack([-angle, 0.2 * np.sin(3 * angle)], 1)).as_matrix()
    centre = radius * np.stack([np.cos(angle), 0.1 * np.sin(2 * angle), np.sin(angle)], 1)
    poses[:, :3, :3] = rotation
    poses[:, :3, 3] = -(rotation @ centre[..., None])[..., 0]
    return poses


def centres(poses: np.ndarray) -> np.ndarray:
    return invert(poses)[:, :3, 3]


def error_of(poses: np.ndarray, truth: np.ndarray) -> float:
    """RMSE of the centres; both have their first pose in common."""
    return float(np.sqrt(np.mean(np.sum((centres(poses) - centres(truth)) ** 2, 1))))


def noisy_graph(truth: np.ndarray, loops: list[tuple[int, int]], seed: int = 0) -> pg.PoseGraph:
    """A start that follows noisy odometry, and loop edges with the same noise."""
    rng = np.random.default_rng(seed)
    count = len(truth)
    chain = [(j - step, j) for j in range(count) for step in (1, 2, 3) if j >= step]
    first, second = np.array(chain + loops).T
    measured = truth[second] @ invert(truth)[first]
    measured = pg.exp(rng.normal(size=(len(first), 6)) * SIGMA) @ measured
    poses = truth.copy()
    for edge, (i, j) in enumerate(chain):
        if j == i + 1:
            poses[j] = measured[edge] @ poses[i]
    return pg.PoseGraph(
        camera_from_world=poses,
        first=first,
        second=second,
        second_from_first=measured,
        information=np.tile(np.diag(1 / SIGMA**2), (len(first), 1, 1)),
        is_loop=np.arange(len(first)) >= len(chain),
        fixed=np.arange(count) == 0,
    )


@pytest.mark.parametrize("scale", [1e-3, 0.05, 0.12, 1.2])
def test_lie_functions_agree_with_jaxlie_and_autodiff(scale):
    twist = np.random.default_rng(1).normal(size=(8, 6)) * scale
    with double_precision(True):

        def perturbed(x):
            return jax.jacfwd(lambda d: (jaxlie.SE3.exp(d) @ jaxlie.SE3.exp(x)).log())(np.zeros(6))

        jacobian, motion, adjoint = jax.jit(
            jax.vmap(
                lambda x: (
                    perturbed(x),
                    jaxlie.SE3.exp(x).as_matrix(),
                    jaxlie.SE3.exp(x).adjoint(),
                )
            )
        )(twist)
    np.testing.assert_allclose(pg.exp(twist), motion, atol=1e-12)
    np.testing.assert_allclose(pg.log(pg.exp(twist)), twist, atol=1e-12)
    np.testing.assert_allclose(pg.adjoint(pg.exp(twist)), adjoint, atol=1e-12)
    np.testing.assert_allclose(pg.left_jacobian_inverse(twist), jacobian, atol=1e-11)


def test_edge_jacobians_agree_with_finite_differences():
    rng = np.random.default_rng(2)
    first, second, measured = (pg.exp(rng.normal(size=(5, 6)) * 0.7) for _ in range(3))

    def error(at_first, at_second):
        moved = pg.exp(at_second) @ second @ invert(pg.exp(at_first) @ first)
        return pg.log(moved @ invert(measured))

    zero, step = np.zeros((5, 6)), 1e-6
    by_first, by_second = pg.edge_jacobians(error(zero, zero), pg.adjoint(measured))
    for axis in range(6):
        move = np.eye(6)[axis] * step
        up, down = error(zero + move, zero), error(zero - move, zero)
        np.testing.assert_allclose(by_first[:, :, axis], (up - down) / (2 * step), atol=1e-7)
        up, down = error(zero, zero + move), error(zero, zero - move)
        np.testing.assert_allclose(by_second[:, :, axis], (up - down) / (2 * step), atol=1e-7)


def test_exact_graph_is_recovered_from_a_bad_start():
    truth = circle(30)
    graph = noisy_graph(truth, [(0, 15), (7, 22)])
    exact = truth[graph.second] @ invert(truth)[graph.first]
    result = pg.optimize_pose_graph(dataclasses.replace(graph, second_from_first=exact))
    assert result.success
    np.testing.assert_allclose(result.camera_from_world, truth, atol=1e-6)


def test_loops_take_the_drift_out():
    truth = circle(400)
    graph = noisy_graph(truth, [(i, i + 200) for i in range(5, 200, 10)])
    result = pg.optimize_pose_graph(graph)
    assert result.success
    assert np.all(result.weights == 1)
    before, after = (
        error_of(p, truth) for p in (graph.camera_from_world, result.camera_from_world)
    )
    assert before > 0.08
    assert after < 0.35 * before
    np.testing.assert_array_equal(result.camera_from_world[0], truth[0])


def test_false_loops_are_switched_off_and_bend_nothing():
    truth = circle(200)
    good = [(i, i + 100) for i in range(5, 100, 20)]
    bad = [(3, 60), (20, 150), (90, 199)]
    graph = noisy_graph(truth, good + bad)
    measured = graph.second_from_first.copy()
    measured[-3:] = pg.exp(np.array([[1.0, 0, 0.5, 0, 0.3, 0]] * 3)) @ measured[-3:]
    result = pg.optimize_pose_graph(dataclasses.replace(graph, second_from_first=measured))
    weights = result.weights[graph.is_loop]
    np.testing.assert_array_equal(weights, [1] * len(good) + [0] * len(bad))
    clean = pg.optimize_pose_graph(noisy_graph(truth, good))
    assert error_of(result.camera_from_world, clean.camera_from_world) < 0.01


def test_degenerate_graphs_stay_finite():
    graph = noisy_graph(circle(12), [(0, 6)])
    alone = dataclasses.replace(graph, fixed=np.ones(12, bool))
    result = pg.optimize_pose_graph(alone)
    np.testing.assert_array_equal(result.camera_from_world, graph.camera_from_world)

    unconnected = np.concatenate([graph.camera_from_world, np.eye(4)[None]])
    loose = dataclasses.replace(graph, camera_from_world=unconnected, fixed=np.arange(13) == 0)
    result = pg.optimize_pose_graph(loose)
    assert result.success
    np.testing.assert_allclose(result.camera_from_world[-1], np.eye(4), atol=1e-9)

    broken = graph.second_from_first.copy()
    broken[3] = np.nan
    result = pg.optimize_pose_graph(dataclasses.replace(graph, second_from_first=broken))
    assert not result.success
    np.testing.assert_array_equal(result.camera_from_world, graph.camera_from_world)
