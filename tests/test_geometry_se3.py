"""Rigid motions: group laws, agreement with SVD, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ace_jax.geometry import se3

exp, log, inverse = (jax.jit(f) for f in (se3.exp, se3.log, se3.invert))


def random_motions(seed: int, count: int) -> np.ndarray:
    return np.asarray(exp(np.random.default_rng(seed).normal(size=(count, 6))))


def test_log_inverts_exp():
    tangent = 0.5 * np.random.default_rng(0).normal(size=(100, 6))
    np.testing.assert_allclose(log(exp(tangent)), tangent, atol=1e-5)


def test_inverse():
    motions = random_motions(1, 5)
    identity = motions @ inverse(motions)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(4), (5, 4, 4)), atol=2e-6)


def test_transform_equals_homogeneous_product():
    motions = random_motions(2, 5)
    points = np.random.default_rng(3).normal(size=(5, 7, 3)).astype(np.float32)
    expected = np.einsum("bij,bnj->bni", motions[:, :3, :3], points) + motions[:, None, :3, 3]
    np.testing.assert_allclose(jax.jit(se3.transform)(motions, points), expected, atol=1e-5)


def test_projection_to_so3_agrees_with_svd():
    matrices = np.random.default_rng(0).normal(size=(5000, 3, 3)).astype(np.float32)
    u, s, vt = np.linalg.svd(matrices.astype(np.float64))
    sign = np.sign(np.linalg.det(u @ vt))
    u[:, :, 2] *= sign[:, None]
    gap = (s[:, 1] + sign * s[:, 2]) / s.sum(axis=1)
    error = np.abs(np.asarray(jax.jit(se3.project_to_so3)(matrices)) - u @ vt).max(axis=(1, 2))
    # The rotation is as sensitive as 1 / gap.
    assert np.max(error * gap) < 1e-6
    assert np.median(error) < 5e-7


@jax.jit
def projected_with_gradient(matrix):
    rotation = se3.project_to_so3(matrix)
    loss = lambda m: jnp.sum(se3.project_to_so3(m) * jnp.arange(9.0).reshape(3, 3))  # noqa: E731
    return rotation, jax.grad(loss)(matrix)


@pytest.mark.parametrize(
    "matrix",
    [
        np.zeros((3, 3)),
        np.outer([1.0, 2.0, 3.0], [0.5, -1.0, 2.0]),
        np.full((3, 3), np.nan),
        np.diag([1.0, np.inf, 1.0]),
    ],
)
def test_projection_of_degenerate_matrix_is_finite(matrix):
    rotation, gradient = projected_with_gradient(matrix.astype(np.float32))
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert np.all(np.isfinite(gradient))


angle_with_gradient = jax.jit(jax.value_and_grad(se3.rotation_angle))


@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.3, 3.0, np.pi])
def test_rotation_angle(angle):
    motion = np.asarray(exp(np.array([0.0, 0.0, 0.0, 0.6 * angle, 0.0, 0.8 * angle])))
    found, gradient = angle_with_gradient(motion[:3, :3])
    np.testing.assert_allclose(found, angle, rtol=1e-3, atol=1e-6)
    assert np.all(np.isfinite(gradient))
