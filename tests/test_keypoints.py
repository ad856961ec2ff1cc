import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.features import keypoints
from ace_jax.geometry.interpolation import sample_bilinear


def _blob(height, width, x, y, sigma=0.8):
    rows, columns = np.mgrid[:height, :width]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)).astype(np.float32)


def test_local_maxima_equal_brute_force():
    rng = np.random.default_rng(0)
    heatmap = rng.random((24, 32), np.float32)
    result = np.asarray(jax.jit(keypoints.local_maxima, static_argnums=1)(heatmap, 2))
    for y, x in np.ndindex(heatmap.shape):
        window = heatmap[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
        assert result[y, x] == (heatmap[y, x] if heatmap[y, x] == window.max() else 0)


def test_best_of_blocks_equals_brute_force():
    rng = np.random.default_rng(1)
    peaks = np.where(rng.random((16, 24)) < 0.1, rng.random((16, 24)), 0).astype(np.float32)
    x, y, value = (np.asarray(a) for a in jax.jit(keypoints.best_of_blocks)(peaks))
    blocks = peaks.reshape(4, 4, 6, 4).transpose(0, 2, 1, 3).reshape(24, 16)
    np.testing.assert_array_equal(value, blocks.max(axis=1))
    np.testing.assert_array_equal(peaks[y, x], value)
    np.testing.assert_array_equal(y // 4 * 6 + x // 4, np.arange(24))


def test_top_pads_when_there_are_few():
    values, index = keypoints.top(jnp.array([0.0, 3.0, 1.0]), 5)
    np.testing.assert_array_equal(values, [3, 1, 0, 0, 0])
    np.testing.assert_array_equal(index[:2], [1, 2])


def test_refine_finds_the_centre_of_a_blob_and_stays_finite_at_the_border():
    # The centroid of a 3x3 window is biased towards its middle; it must at least halve the error.
    heatmap = jnp.asarray(_blob(16, 16, 7.3, 8.6))
    refine = jax.jit(keypoints.refine)
    uv = refine(heatmap, np.array([7, 0]), np.array([9, 15]))
    error = np.linalg.norm(np.asarray(uv[0]) - [7.3, 8.6])
    assert error < 0.5 * np.hypot(0.3, 0.4)
    assert np.isfinite(uv).all()
    flat = refine(np.zeros((16, 16), np.float32), np.array([0, 3]), np.array([7, 3]))
    np.testing.assert_array_equal(flat, [[0, 7], [3, 3]])


def test_sample_bilinear_is_exact_on_a_plane_and_clamps():
    rows, columns = np.mgrid[:6, :9].astype(np.float32)
    maps = jnp.stack([columns, 2 * rows], axis=-1)
    values = sample_bilinear(maps, jnp.array([[3.25, 4.5], [-5.0, 99.0]]))
    np.testing.assert_allclose(values, [[3.25, 9.0], [0.0, 10.0]], atol=1e-6)


def test_cell_probabilities_are_a_softmax_and_do_not_overflow():
    logits = np.random.default_rng(0).normal(size=(2, 3, 65)).astype(np.float32) * 5
    probabilities = jax.jit(keypoints.cell_probabilities)
    heatmap = probabilities(logits)
    expected = jax.nn.softmax(logits)[1, 2, 3 * 8 + 5]
    np.testing.assert_allclose(heatmap[8 + 3, 16 + 5], expected, rtol=1e-5)
    assert np.isfinite(probabilities(logits * 1e6)).all()


def test_normalize_of_zero_is_zero_with_finite_gradient():
    gradient = jax.jit(jax.grad(lambda x: keypoints.normalize(x).sum()))(jnp.zeros((2, 4)))
    assert np.isfinite(gradient).all()


def test_greedy_maxima_equal_sorted_suppression():
    rng = np.random.default_rng(2)
    scores = np.where(rng.random((40, 48)) < 0.2, rng.random((40, 48)), 0).astype(np.float32)
    result = np.asarray(jax.jit(keypoints.greedy_maxima, static_argnums=(1, 2))(scores, 4, 4))
    expected, taken = np.zeros_like(scores), np.zeros(scores.shape, bool)
    for index in np.argsort(-scores, axis=None):
        y, x = np.unravel_index(index, scores.shape)
        if scores[y, x] > 0 and not taken[y, x]:
            expected[y, x] = scores[y, x]
            taken[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5] = True
    # What four rounds leave undecided is dropped, never kept wrongly.
    assert ((result == expected) | (result == 0)).all()
    assert (result > 0).sum() >= 0.97 * (expected > 0).sum()
