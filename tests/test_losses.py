"""Losses and their gradients against upstream's values."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from precision import double_precision
from repository import GOLDEN

from ace_jax.geometry.camera import Camera
from ace_jax.training import losses


class Case:
    """The 256 points of ACE-G's oracle, or the 512 of ACE's."""

    def __init__(self, values, xyz, scale, pose, intrinsics, uv):
        self.xyz, self.pose, self.uv = (jnp.asarray(values[k], float) for k in (xyz, pose, uv))
        self.scale = jnp.asarray(values[scale][:, 0], float) if scale else None
        k = values[intrinsics].astype(float)
        self.camera = Camera(k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2], 640, 480)

    def reproject(self, xyz):
        return losses.reproject(xyz, self.pose, self.camera, self.uv)


@pytest.fixture
def x64():
    """In float32 a pixel error of 1 px at pixel 600 is itself only good to 6e-5."""
    with double_precision(True):
        yield


@pytest.fixture
def ace_g(x64):
    values = np.load(GOLDEN / "ace_g_losses.npz")
    fields = ["pred_coords", "pred_uncertainties", "w2c_b34", "intrinsics", "target_pixels"]
    return values, Case(values, *fields)


def _close(actual, expected, rtol=1e-5):
    """Relative, with the largest value as the floor's unit: single terms nearly cancel."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-6 * np.abs(expected).max())


def test_invalid_points_are_upstreams(ace_g):
    values, case = ace_g
    np.testing.assert_array_equal(~case.reproject(case.xyz).valid, values["invalid_mask"])


@pytest.mark.parametrize(
    ("name", "prior", "masked"),
    [
        ("nll2d_prior0.1", 0.1, False),
        ("nll2d_prior10", 10.0, False),
        ("nll2d_prior0.1_masked", 0.1, True),
    ],
)
def test_reprojection_nll(ace_g, name, prior, masked):
    values, case = ace_g
    mask = jnp.asarray(values["target_mask"]) if masked else None

    def loss(xyz, scale):
        each = losses.reprojection_nll(case.reproject(xyz), scale, case.camera, case.uv, prior)
        return losses.masked_mean(each, mask), each

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (total, each), gradients = run(case.xyz, case.scale)
    chosen = np.ones(256, bool) if mask is None else values["target_mask"]
    np.testing.assert_allclose(each[chosen], values[f"{name}/losses_2d"], rtol=1e-5)
    np.testing.assert_allclose(total, values[f"{name}/loss"], rtol=1e-5)
    _close(gradients[0], values[f"{name}/grad_pred_coords"])
    _close(gradients[1], values[f"{name}/grad_pred_uncertainties"][:, 0])
    assert not np.asarray(gradients[0])[~chosen].any()


def test_coordinate_nll(ace_g):
    values, case = ace_g
    target = values["target_coords"]
    known = (target != 0).any(axis=1)

    def loss(xyz, scale):
        each = losses.coordinate_nll(xyz, scale, target)
        return losses.masked_mean(each, known), each

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    (total, each), gradients = run(case.xyz, case.scale)
    np.testing.assert_allclose(each[known], values["nll3d/losses_3d"], rtol=1e-5)
    np.testing.assert_allclose(total, values["nll3d/loss"], rtol=1e-5)
    _close(gradients[0], values["nll3d/grad_pred_coords"])
    _close(gradients[1], values["nll3d/grad_pred_uncertainties"][:, 0])


@pytest.mark.parametrize("iteration", [0, 700])
def test_dynamic_tanh_of_ace_g(ace_g, iteration):
    values, case = ace_g
    name = f"dyntanh2d_it{iteration}"
    width = losses.tanh_width(iteration / 1000)

    def loss(xyz):
        each = losses.ace_loss(case.reproject(xyz), case.camera, case.uv, width, euclidean=True)
        return each.mean(), each

    (total, each), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(case.xyz)
    # Upstream's pixels are float32: its errors are good to one step of a number near 600.
    np.testing.assert_allclose(each, values[f"{name}/losses_2d"], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(total, values[f"{name}/loss"], rtol=1e-5)
    _close(gradient, values[f"{name}/grad_pred_coords"])


@pytest.mark.parametrize("iteration", [0, 12500, 24999])
def test_a_step_of_ace(iteration, x64):
    values = np.load(GOLDEN / "ace_losses.npz")
    fields = ["step_pred_coords", None, "step_w2c_b34", "step_intrinsics", "step_target_px"]
    case = Case(values, *fields)
    width = losses.tanh_width(iteration / 25000)

    def loss(xyz):
        return losses.ace_loss(case.reproject(xyz), case.camera, case.uv, width).mean()

    total, gradient = jax.jit(jax.value_and_grad(loss))(case.xyz)
    np.testing.assert_allclose(total, values[f"step_it{iteration}_loss"], rtol=1e-5)
    _close(gradient, values[f"step_it{iteration}_grad_pred"], rtol=2e-4)


def test_dynamic_tanh_over_a_run():
    errors = np.load(GOLDEN / "ace_losses.npz")["errors"]
    expected = json.loads((GOLDEN / "ace_dynamic_tanh.json").read_text())
    assert len(expected) == 18
    for name, value in expected.items():
        total, soft, low, circle, iteration = (part for part in name.split("_"))
        width = losses.tanh_width(
            int(iteration[2:]) / int(total[5:]),
            widest=float(soft[4:]),
            narrowest=float(low[3:]),
            circle=circle == "circleTrue",
        )
        np.testing.assert_allclose(losses.dynamic_tanh(errors, width).sum(), value, rtol=1e-4)


@pytest.mark.parametrize("bad", [0.0, 1e20, -1e20, np.nan, np.inf])
def test_masked_values_do_not_count_whatever_they_are(bad):
    run = jax.jit(jax.value_and_grad(losses.masked_mean))
    value, gradient = run(np.array([1.0, bad, 5.0]), np.array([True, False, True]))
    assert value == 3.0
    np.testing.assert_array_equal(gradient, [0.5, 0.0, 0.5])
    assert run(np.full(3, bad), np.zeros(3, bool))[0] == 0.0


@jax.jit
@jax.grad
def _of_an_extreme_prediction(args):
    camera, uv = Camera(500.0, 500.0, 320.0, 240.0, 640, 480), jnp.array([[320.0, 240.0]])
    reprojection = losses.reproject(args[0], jnp.eye(4), camera, uv)
    return jnp.sum(
        losses.reprojection_nll(reprojection, args[1], camera, uv)
        + losses.ace_loss(reprojection, camera, uv, 5.0, euclidean=True)
    )


@pytest.mark.parametrize("z", [-3.0, 0.0, 1e-9, 0.1, 2000.0, 1e8])
@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e6])
def test_extreme_predictions_keep_finite_gradients(z, scale):
    gradients = _of_an_extreme_prediction((np.array([[0.0, 0.0, z]]), np.array([scale])))
    assert all(np.isfinite(g).all() for g in gradients)
