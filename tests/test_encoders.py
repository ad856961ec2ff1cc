"""ACE's encoder and SuperPoint against the official modules and front end."""

import jax
import numpy as np
import pytest

from ace_jax.errors import UserError
from ace_jax.features import superpoint
from ace_jax.features.image import short_side_size
from ace_jax.features.registry import create
from ace_jax.models.superpoint import SuperPointMaps
from ace_jax.weights import checkpoint


def _error(result, expected):
    return np.linalg.norm(result - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("suffix", ["", "_odd"])
def test_ace_encoder_equals_upstream(shared_dir, suffix):
    module, params = checkpoint.load(shared_dir / "golden/ace/encoder_random.pt").build()
    io = np.load(shared_dir / "golden/ace/net_io.npz")
    features = jax.jit(module.apply)({"params": params}, io[f"image{suffix}"][:, 0])
    assert _error(features, np.moveaxis(io[f"features{suffix}"], 1, -1)) < 1e-5


def test_ace_encoder_and_head_equal_upstream(shared_dir):
    head, variables = checkpoint.load(
        shared_dir / "golden/ace/head_random_hidden128.pt", "ace_head"
    ).build()
    io = np.load(shared_dir / "golden/ace/net_io.npz")
    features = np.moveaxis(io["features"], 1, -1).reshape(-1, 64)
    xyz = jax.jit(head.apply)(variables, features).xyz
    expected = np.moveaxis(io["scene_coordinates"], 1, -1).reshape(-1, 3)
    assert _error(xyz, expected) < 1e-5


@pytest.fixture(scope="module")
def superpoint_io(shared_dir):
    return np.load(shared_dir / "golden/superpoint/io.npz")


def test_superpoint_network_equals_upstream(shared_dir, superpoint_io):
    module, params = checkpoint.load(
        shared_dir / "golden/superpoint/superpoint_random.pth", "superpoint"
    ).build()
    image = superpoint_io["image_u8"][None].astype(np.float32) / 255
    maps = jax.jit(module.apply)({"params": params}, image)
    semi, desc = (np.moveaxis(superpoint_io[name], 1, -1) for name in ("semi", "desc"))
    assert _error(maps.keypoint_logits, semi) < 1e-5
    np.testing.assert_allclose(maps.descriptors, desc, atol=1e-5)


def test_superpoint_keypoints_and_descriptors_equal_the_front_end(superpoint_io):
    semi, desc = (np.moveaxis(superpoint_io[name], 1, -1) for name in ("semi", "desc"))
    maps = SuperPointMaps(semi, desc)
    points = superpoint_io["frontend_pts"]
    uv, scores = jax.jit(lambda m: superpoint.detect(m, 400, 0.015))(maps)
    found = {tuple(p) for p in np.asarray(uv)[np.asarray(scores) > 0].astype(int)}
    expected = {tuple(p) for p in points[:2].T.astype(int)}
    assert len(found ^ expected) <= 0.01 * len(expected)
    np.testing.assert_allclose(np.asarray(scores)[:50], points[2, :50], rtol=1e-3)

    chosen = superpoint_io["frontend_desc_sel_idx"]
    descriptors = superpoint.describe(maps, points[:2, chosen].T.astype(np.float32))
    np.testing.assert_allclose(descriptors, superpoint_io["frontend_desc_sel"].T, atol=1e-5)


def test_superpoint_extractor(shared_dir, superpoint_io):
    extractor = create(
        "superpoint", shared_dir / "golden/superpoint/superpoint_random.pth", max_features=400
    )
    features = extractor.extract(superpoint_io["image_u8"])
    mask = np.asarray(features.mask)
    expected = superpoint_io["frontend_pts"]
    # Grey from three equal channels is the grey image up to the last bit.
    assert abs(mask.sum() - expected.shape[1]) <= 3
    np.testing.assert_allclose(np.asarray(features.uv)[:20], expected[:2, :20].T, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1)[mask], 1, atol=1e-5)
    assert (np.asarray(features.descriptors)[~mask] == 0).all()


def test_ace_extractor_gives_raw_features_at_cell_centres(shared_dir):
    path = shared_dir / "golden/ace/encoder_random.pt"
    image = np.random.default_rng(0).integers(0, 255, (51, 70), dtype=np.uint8)
    extractor = create("ace", path, short_side=None)
    features = extractor.extract(image)
    module, params = checkpoint.load(path).build()
    grey = (image[:48, :64] / 255.0 - 0.4) / 0.25
    expected = jax.jit(module.apply)({"params": params}, grey[None].astype(np.float32))
    np.testing.assert_allclose(features.descriptors, expected.reshape(48, 64), atol=1e-4)
    np.testing.assert_allclose(features.uv[:2], [[3.5, 3.5], [11.5, 3.5]])
    assert extractor.dim == 64
    with pytest.raises(UserError, match="not one cell"):
        extractor.extract(image[:5])


def test_dinov2_extractor_sizes_and_options(shared_dir):
    path = shared_dir / "golden/dinov2/b_reg4.pth"
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 4), dtype=np.uint8)
    extractor = create("dinov2_vits14_reg", path, short_side=30, normalize=True)
    features = extractor.extract(image)
    assert features.descriptors.shape == (2 * 2, 48)
    # 80x60 becomes 40x30, of which 28x28 is used; centres are given in the image of 80x60.
    np.testing.assert_allclose(features.uv[0], [13.5, 13.5])
    np.testing.assert_allclose(features.uv[-1], [41.5, 41.5])
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-5)
    half = create("dinov2_vits14_reg", path, short_side=30, normalize=True, dtype="bfloat16")
    assert np.abs(half.extract(image).descriptors - features.descriptors).max() < 0.03
    for option in ({"dtype": "float8"}, {"normalization": "none"}):
        with pytest.raises(UserError, match="there are"):
            create("dinov2_vits14_reg", path, **option)


def test_a_large_image_is_reduced_to_the_short_side():
    assert short_side_size(4000, 3000, 480) == (640, 480)
    assert short_side_size(3000, 4000, 480) == (480, 640)
    assert short_side_size(14, 14, 480) == (480, 480)
    assert short_side_size(70, 50, None) == (70, 50)


def test_missing_weights_name_the_download_and_the_licence(tmp_path):
    with pytest.raises(UserError, match=r"weights download superpoint` \(.*NON-COMMERCIAL"):
        create("superpoint", tmp_path)
    with pytest.raises(UserError, match="weights download dinov2_vits14"):
        create("dinov2_vits14", tmp_path)
