import jax
import numpy as np

from ace_jax.features.registry import create


def _blobs(height, width, centres, sigma=4.0):
    rows, columns = np.mgrid[:height, :width]
    image = np.full((height, width), 40.0)
    for x, y in centres:
        image += 180 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


CENTRES = [(60.0, 50.0), (150.5, 90.25), (220.0, 160.75)]


def test_keypoints_are_where_the_blobs_are_at_any_working_size():
    image = _blobs(240, 320, CENTRES)
    for size in (None, (160, 120)):
        features = create("sift", image_size=size, max_features=40).extract(image)
        uv = np.asarray(features.uv)[np.asarray(features.mask)]
        for centre in CENTRES:
            assert np.linalg.norm(uv - centre, axis=1).min() < 0.15


def test_padding_is_masked_and_descriptors_are_unit():
    features = create("sift", max_features=50).extract(_blobs(120, 160, CENTRES[:1]))
    mask = np.asarray(features.mask)
    assert 0 < mask.sum() < 50
    lengths = np.linalg.norm(features.descriptors, axis=1)
    np.testing.assert_allclose(lengths[mask], 1, atol=1e-5)
    assert (lengths[~mask] == 0).all()
    assert (np.diff(features.scores) <= 0).all()
    assert {a.shape[0] for a in jax.tree.leaves(features)} == {50}


def test_black_and_tiny_images_have_no_features():
    for image in (np.zeros((120, 160, 3), np.uint8), np.zeros((1, 1), np.uint8)):
        assert not np.asarray(create("sift").extract(image).mask).any()
