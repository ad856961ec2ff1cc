"""XFeat against ONNX Runtime's outputs and upstream's keypoints on a real frame."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ace_jax.errors import UserError
from ace_jax.features.registry import create, names
from ace_jax.models.layers import Conv, depth_to_space, space_to_depth
from ace_jax.weights import checkpoint


@pytest.fixture(scope="module")
def golden(shared_dir):
    return np.load(shared_dir / "golden/xfeat/frame000100.npz")


@pytest.fixture(scope="module")
def frame(shared_dir):
    path = shared_dir / "golden/xfeat/frame-000100.color.jpg"
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


@pytest.mark.parametrize(("block", "out", "stride"), [(4, 4, 1), (4, 2, 2), (2, 1, 2), (1, 4, 1)])
def test_blocked_convolution_is_the_convolution(block, out, stride):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 8, 16, 3)).astype(np.float32)
    params = {
        "kernel": rng.normal(size=(3, 3, 3, 5)).astype(np.float32),
        "bias": np.arange(5, dtype=np.float32),
    }

    def to_blocks(maps, b):
        n, h, w, c = maps.shape
        blocks = np.reshape(maps, (n, h // b, b, w // b, b, c)).transpose(0, 1, 3, 2, 4, 5)
        return blocks.reshape(n, h // b, w // b, b * b * c)

    def run(x, **options):
        return np.asarray(jax.jit(Conv(5, stride=stride, **options).apply)({"params": params}, x))

    result = run(to_blocks(x, block), block=block, block_out=out)
    np.testing.assert_allclose(result, to_blocks(run(x), out), atol=1e-4)


def test_depth_to_space_inverts():
    x = jnp.arange(2 * 16 * 8.0).reshape(2, 16, 8)
    np.testing.assert_array_equal(depth_to_space(space_to_depth(x, 8), 8), x)


def test_network_equals_onnx_runtime(shared_dir, golden):
    network, params = checkpoint.load(shared_dir / "weights/xfeat.onnx", "xfeat").build()
    image = golden["image_320x240_rgb_u8"][None].astype(np.float32) / 255
    maps = jax.jit(network.apply)({"params": params}, image)
    for name in ("descriptors", "keypoint_logits"):
        expected = np.moveaxis(golden[name].astype(np.float32), 1, -1)
        # The oracle is stored in float16; relative to the largest value this is 1e-3.
        error = np.abs(getattr(maps, name) - expected).max() / np.abs(expected).max()
        assert error < 1e-3, name
    np.testing.assert_allclose(maps.reliability, golden["reliability"][:, 0], atol=1e-4)


def test_sparse_features_are_upstreams(shared_dir, golden, frame):
    features = create(
        "xfeat", shared_dir / "weights", image_size=None, max_features=4096, refine=False
    ).extract(frame)
    mask = np.asarray(features.mask)
    uv, upstream = np.asarray(features.uv)[mask], golden["upstream_kpts_640x480"]
    distance = np.linalg.norm(uv[:, None] - upstream[None], axis=-1)
    # Upstream has no limit of one keypoint in 4x4 pixels, and drops points on the last column.
    # Both lists end at 4096, in the midst of many near-equal scores.
    assert (distance.min(axis=1) < 1e-3)[:2500].mean() > 0.99
    assert (distance.min(axis=0) < 1e-3)[:2500].mean() > 0.97
    pairs = distance.argmin(axis=1)
    near = distance.min(axis=1) < 1e-3
    scores = np.asarray(features.scores)[mask][near]
    expected = golden["upstream_scores_640x480"][pairs[near]]
    # Upstream reads a neighbouring pixel's score for 0.4 % of the points, and reliability half a
    # pixel away.
    assert np.quantile(np.abs(scores - expected), 0.98) < 0.02


@pytest.mark.parametrize("name", ["xfeat", "xfeat_blobs"])
def test_features_lie_in_the_given_image(shared_dir, frame, name):
    half, full = (
        create(name, shared_dir / "weights", image_size=size, max_features=300).extract(frame)
        for size in ((320, 240), None)
    )
    for features in (half, full):
        assert features.uv.shape == (300, 2)
        assert features.descriptors.shape == (300, 64)
        assert (np.diff(features.scores) <= 0).all()
        uv = np.asarray(features.uv)[np.asarray(features.mask)]
        assert (uv > -0.5).all()
        assert (uv < [639.5, 479.5]).all()
    np.testing.assert_allclose(np.linalg.norm(half.descriptors, axis=1), 1, atol=1e-5)
    # A point found at both sizes is at the same place. XFeat's keypoints are biased by 0.6 pixel.
    distance = np.linalg.norm(np.asarray(half.uv)[:, None] - np.asarray(full.uv)[None], axis=-1)
    near = distance.min(axis=1) < 3
    assert near.mean() > 0.2
    offset = np.asarray(full.uv)[distance.argmin(axis=1)] - np.asarray(half.uv)
    assert np.abs(np.median(offset[near], axis=0)).max() < (0.7 if name == "xfeat" else 0.2)


def test_dense_features_cover_the_grid(shared_dir, frame):
    features = create("xfeat_dense", shared_dir / "weights", image_size=(320, 240)).extract(frame)
    assert features.uv.shape == (1200, 2)
    assert len(np.unique(np.asarray(features.uv), axis=0)) == 1200
    np.testing.assert_allclose(np.asarray(features.uv).mean(axis=0), [319.5, 239.5], atol=1e-3)
    assert (np.diff(features.scores) <= 0).all()


def test_odd_images(shared_dir, frame):
    extractor = create("xfeat", shared_dir / "weights", max_features=300)
    tiny = extractor.extract(np.zeros((14, 14), np.uint8))
    assert np.isfinite(tiny.descriptors).all()
    assert not np.asarray(tiny.mask).any()
    # An enlarged image has the same features, in its own pixels; alpha is ignored.
    large = cv2.resize(frame, (4000, 3000), interpolation=cv2.INTER_LINEAR)
    large = np.dstack([large, np.full((3000, 4000), 7, np.uint8)])
    few, many = extractor.extract(frame), extractor.extract(large)
    uv, expected = np.asarray(many.uv), (np.asarray(few.uv) + 0.5) * 6.25 - 0.5
    nearest = np.linalg.norm(uv[:, None] - expected[None], axis=-1).min(axis=1)
    assert (nearest < 6.25).mean() > 0.6


def test_missing_or_wrong_weights_are_one_line(shared_dir, tmp_path):
    with pytest.raises(UserError, match=r"looked for xfeat.safetensors or xfeat.onnx"):
        create("xfeat", tmp_path)
    (tmp_path / "xfeat.onnx").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="not a readable ONNX file"):
        create("xfeat", tmp_path)
    other = shared_dir / "golden/dinov2/a_noreg.safetensors"
    (tmp_path / "xfeat.safetensors").write_bytes(other.read_bytes())
    with pytest.raises(UserError, match="holds DINOv2 weights, not XFeat's"):
        create("xfeat", tmp_path)


def test_unknown_name_and_option_are_one_line():
    with pytest.raises(UserError, match="unknown features 'sitf'; there are"):
        create("sitf")
    with pytest.raises(UserError, match="no option max_feature"):
        create("sift", max_feature=3)
    assert "xfeat_dense" in names()
