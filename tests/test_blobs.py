import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.features import blobs

CENTRES = [(20.3, 18.7), (44.0, 30.5), (70.8, 12.25)]


DETECT = jax.jit(lambda grey: blobs.detect(grey, 8, 0.5))


def _image(sign=1.0):
    rows, columns = np.mgrid[:48, :96]
    image = np.full((48, 96), 128.0)
    for x, y in CENTRES:
        image += sign * 90 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.5**2))
    return jnp.asarray(image, jnp.float32)


def test_bright_and_dark_blobs_are_found_at_their_centres():
    for sign in (1.0, -1.0):
        uv, scores = DETECT(_image(sign))
        assert (np.asarray(scores) > 5).sum() == 3
        for centre in CENTRES:
            assert np.linalg.norm(np.asarray(uv[:3]) - centre, axis=1).min() < 0.05


def test_an_edge_is_no_blob_and_a_flat_image_has_none():
    edge = np.where(np.arange(96) < 40, 20.0, 220.0) * np.ones((48, 1))
    for image in (edge.astype(np.float32), np.full((48, 96), 7.0, np.float32)):
        uv, scores = DETECT(image)
        assert (np.asarray(scores) == 0).all()
        assert np.isfinite(uv).all()


def test_difference_of_gaussians_equals_the_dense_product():
    image = np.random.default_rng(0).random((20, 24)).astype(np.float32)

    def dense(size, sigma):
        radius = int(np.ceil(3.5 * sigma))
        taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
        matrix = np.zeros((size, size))
        for i in range(size):
            for offset, tap in zip(range(-radius, radius + 1), taps / taps.sum(), strict=True):
                matrix[i, np.clip(i + offset, 0, size - 1)] += tap
        return matrix

    fine = dense(20, 1.2) @ image @ dense(24, 1.2).T
    sigma = 1.2 * np.sqrt(1.6**2 - 1)
    expected = fine - dense(20, sigma) @ fine @ dense(24, sigma).T
    result = jax.jit(blobs.difference_of_gaussians, static_argnums=1)(image, 1.2)
    np.testing.assert_allclose(result, expected, atol=1e-5)
