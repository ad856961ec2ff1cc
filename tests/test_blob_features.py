import cv2
import jax
import numpy as np
import pytest

from ace_jax.errors import UserError
from ace_jax.features import root_sift
from ace_jax.features.registry import create
from ace_jax.slam.run import CompilationCounter


def _texture(height=160, width=160, seed=0):
    """An image (H, W, 3) with structure at many scales."""
    rng = np.random.default_rng(seed)
    image = sum(
        cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), sigma) * sigma
        for sigma in (1.0, 2.0, 4.0, 8.0)
    )
    grey = np.clip(128 + 45 * image / image.std(), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def _right_matches(first, second, where):
    """Mutual matches, and how many of them lie within a pixel of where they should."""
    a, b = (np.asarray(f.descriptors)[np.asarray(f.mask)] for f in (first, second))
    similarity = a @ b.T
    forward = similarity.argmax(axis=1)
    mutual = similarity.argmax(axis=0)[forward] == np.arange(len(a))
    expected = where(np.asarray(first.uv)[np.asarray(first.mask)])
    off = np.linalg.norm(np.asarray(second.uv)[forward] - expected, axis=1)
    return int(mutual.sum()), int((mutual & (off < 1.0)).sum())


def test_descriptors_agree_with_opencv_sift():
    image = _texture()
    features = create("blobs", image_size=None, max_features=150).extract(image)
    uv = np.asarray(features.uv)[np.asarray(features.mask)]
    uv = uv[((uv > 24) & (uv < 160 - 24)).all(axis=1)]
    points = [cv2.KeyPoint(float(x), float(y), 4.0, 0.0) for x, y in uv]
    _, theirs = cv2.SIFT_create().compute(image[..., 0], points)
    theirs = np.sqrt(theirs / theirs.sum(axis=1, keepdims=True))
    theirs = theirs.reshape(-1, 16, 8)[..., -np.arange(8)].reshape(-1, 128)  # from x to minus y
    ours = np.asarray(features.descriptors)[np.asarray(features.mask)]
    kept = np.linalg.norm(
        np.asarray(features.uv)[np.asarray(features.mask)][:, None] - uv, axis=-1
    ).argmin(axis=0)
    assert len(uv) > 30
    similarity = np.sum(ours[kept] * theirs, axis=1)
    assert np.median(similarity) > 0.95
    # Each is most like its own keypoint's, by far.
    assert ((ours[kept] @ theirs.T).argmax(axis=1) == np.arange(len(uv))).mean() > 0.97


def test_direction_maps_add_up_to_the_gradient():
    grey = _texture()[..., 0].astype(np.float32)
    maps = np.asarray(root_sift.direction_maps(grey))
    angles = np.arange(8) * np.pi / 4
    x, y = root_sift.gradient(grey)
    np.testing.assert_allclose(np.tensordot(np.cos(angles), maps, 1), x, atol=1e-3)
    np.testing.assert_allclose(np.tensordot(np.sin(angles), maps, 1), y, atol=1e-3)
    assert (maps >= 0).all()
    assert ((maps > 1e-3).sum(axis=0) <= 2).all()


def test_oriented_descriptors_survive_any_roll_and_upright_ones_do_not():
    image = _texture()

    def turned_back(uv):  # where a pixel of the image is after np.rot90
        return np.stack([uv[:, 1], 159 - uv[:, 0]], axis=1)

    rolled = np.ascontiguousarray(np.rot90(image))
    found = {}
    for oriented in (True, False):
        extractor = create("blobs", image_size=None, max_features=150, oriented=oriented)
        features = extractor.extract(image), extractor.extract(rolled)
        found[oriented] = _right_matches(*features, turned_back)
    matches, right = found[True]
    assert matches > 100
    assert right > 0.95 * matches
    assert found[False][1] < 0.1 * right


@pytest.mark.parametrize("angle", [20.0, 45.0])
def test_oriented_descriptors_survive_a_roll_between_the_bins(angle):
    image = _texture()
    turn = cv2.getRotationMatrix2D((79.5, 79.5), angle, 1.0)
    rolled = cv2.warpAffine(image, turn, (160, 160), borderMode=cv2.BORDER_REPLICATE)
    extractor = create("blobs", image_size=None, max_features=150, oriented=True)
    matches, right = _right_matches(
        extractor.extract(image),
        extractor.extract(rolled),
        lambda uv: uv @ turn[:, :2].T + turn[:, 2],
    )
    assert right > 40
    assert right > 0.6 * matches


def test_exposure_does_not_change_descriptors():
    image = _texture()
    darker = (image * 0.5 + 20).astype(np.uint8)
    extractor = create("blobs", image_size=None, max_features=150)
    matches, right = _right_matches(
        extractor.extract(image), extractor.extract(darker), lambda uv: uv
    )
    assert matches > 80
    assert right > 0.95 * matches


def test_padding_is_masked_and_nothing_is_compiled_again():
    extractor = create("blobs", max_features=600)
    extractor.extract(_texture(96, 96))
    with CompilationCounter() as compilations:
        features = extractor.extract(_texture(96, 96, seed=1))
    assert compilations.count == 0
    mask = np.asarray(features.mask)
    assert 0 < mask.sum() < 600
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1)[mask], 1, atol=1e-5)
    assert not np.asarray(features.descriptors)[~mask].any()
    assert (np.diff(features.scores) <= 0).all()
    assert {a.shape[0] for a in jax.tree.leaves(features)} == {600}


def test_images_without_texture_have_no_features_and_finite_values():
    extractor = create("blobs", image_size=None, max_features=150, oriented=True)
    for image in (np.zeros((160, 160, 3), np.uint8), np.full((9, 3), 255, np.uint8)):
        features = extractor.extract(image)
        assert not np.asarray(features.mask).any()
        assert all(np.isfinite(np.asarray(a, float)).all() for a in jax.tree.leaves(features))


def test_what_is_no_image_is_refused():
    with pytest.raises(UserError, match="uint8"):
        create("blobs").extract(np.zeros((8, 8, 3), np.float32))
