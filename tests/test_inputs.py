"""What users hand over: every usual form gives the same, everything else one clear line."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ace_jax.data.given_images import GivenImages
from ace_jax.data.inputs import as_camera, as_depth, as_image, as_poses, as_seed
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
GREY = RGB[..., 0]
CAMERA = Camera(5.0, 6.0, 3.5, 2.5, 8, 6)
MATRIX = np.array([[5.0, 0, 3.5], [0, 6.0, 2.5], [0, 0, 1]])
DEPTH = np.linspace(0.5, 3.0, 48, dtype=np.float32).reshape(6, 8)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "photo.png"
    Image.fromarray(RGB).save(path)
    return path


@pytest.mark.parametrize(
    "form",
    [
        lambda rgb: rgb,
        lambda rgb: rgb / 255.0,
        lambda rgb: (rgb / 255.0).astype(np.float32),
        lambda rgb: np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)]),
        lambda rgb: rgb.tolist() and Image.fromarray(rgb),
        jnp.asarray,
    ],
    ids=["uint8", "float64", "float32", "alpha", "pillow", "jax"],
)
def test_colour(form):
    image = as_image(form(RGB))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, RGB)


def test_an_image_that_is_one_already_is_not_copied():
    assert np.shares_memory(as_image(RGB), RGB)


@pytest.mark.parametrize("form", [GREY, GREY[..., None], GREY / 255.0, Image.fromarray(GREY)])
def test_grey(form):
    np.testing.assert_array_equal(as_image(form), np.stack([GREY] * 3, axis=2))


@pytest.mark.parametrize("form", [str, lambda path: path])
def test_files(file, form):
    np.testing.assert_array_equal(as_image(form(file)), RGB)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.stack([RGB, RGB]), "2 images at once; pass them one by one"),
        (RGB.transpose(2, 0, 1), r"shape \(3, 6, 8\).*put the channels last"),
        (np.zeros((6, 8, 2), np.uint8), r"shape \(6, 8, 2\)"),
        (np.zeros(3, np.uint8), r"shape \(3,\)"),
        (np.zeros((0, 8, 3), np.uint8), r"shape \(0, 8, 3\)"),
        (RGB.astype(np.float32), r"floats from .* to 255.*astype\(np.uint8\)"),
        (np.full((6, 8), np.nan), "nan"),
        (RGB.astype(np.uint16), "uint16.*8 bit"),
        (RGB.astype(np.int64), "int64.*8 bit"),
        (None, "no array of numbers but NoneType"),
        ("nowhere/photo.png", "nowhere/photo.png: No such file"),
        ([[1, 2], [3]], "no array"),
    ],
)
def test_images_that_are_none(image, words):
    with pytest.raises(UserError, match=words) as caught:
        as_image(image)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", [DEPTH, DEPTH[..., None], DEPTH.astype(np.float64)])
def test_depth(form):
    depth = as_depth(form, (6, 8))
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, DEPTH)


def test_depth_that_is_unknown_is_zero():
    depth = np.full((6, 8), 2.0)
    depth[0, :4] = np.nan, np.inf, -np.inf, -1.0
    np.testing.assert_array_equal(as_depth(depth, (6, 8))[0], [0, 0, 0, 0, 2, 2, 2, 2])


@pytest.mark.parametrize(
    ("depth", "words"),
    [
        ((1000 * DEPTH).astype(np.uint16), r"uint16.*metres: depth / 1000.0"),
        (1000 * DEPTH, "in the median.*depth / 1000"),
        (DEPTH[:3], r"\(3, 8\), the image \(6, 8\): register"),
        ("depth.png", "read the file"),
    ],
)
def test_depth_that_is_none(depth, words):
    with pytest.raises(UserError, match=words):
        as_depth(depth, (6, 8))


@pytest.mark.parametrize(
    "intrinsics", [CAMERA, MATRIX, MATRIX.tolist(), [5, 6, 3.5, 2.5], jnp.array([5, 6, 3.5, 2.5])]
)
def test_intrinsics(intrinsics):
    assert as_camera(intrinsics, 8, 6) == CAMERA


@pytest.mark.parametrize(
    ("intrinsics", "words"),
    [
        (np.eye(4), r"not an array \(4, 4\)"),
        ([5, 6, 3.5], r"not an array \(3,\)"),
        (np.zeros((3, 3)), "intrinsics"),
        (MATRIX.T, r"not an array \(3, 3\), whose last row is not 0 0 1"),
        ("camera", "intrinsics must be"),
        ([5, -6, 3.5, 2.5], "5 -6 3.5 2.5"),
        ([5, np.nan, 3.5, 2.5], "nan"),
        (CAMERA.replace(width=4), "8 x 6 pixels, its intrinsics are for 4 x 6"),
        (CAMERA.replace(fx=0.0), "0 6 3.5 2.5"),
    ],
)
def test_intrinsics_that_are_none(intrinsics, words):
    with pytest.raises(UserError, match=words):
        as_camera(intrinsics, 8, 6)


def test_the_message_shows_the_matrix_that_is_meant():
    with pytest.raises(UserError) as raised:
        as_camera(np.eye(4), 640, 480)
    (rows,) = re.findall(r"\[(.*)\]", str(raised.value))
    assert [row.split() for row in rows.split(";")] == [
        ["fx", "0", "cx"],
        ["0", "fy", "cy"],
        ["0", "0", "1"],
    ]


def test_poses():
    poses = as_poses([np.eye(4), None, np.eye(4).tolist()], 3)
    np.testing.assert_array_equal(np.isfinite(poses[:, 0, 0]), [True, False, True])
    np.testing.assert_array_equal(as_poses(np.stack([np.eye(4)] * 2), 2)[1], np.eye(4))
    for wrong in (np.eye(4), [np.eye(3)] * 3, [np.eye(4)] * 2, None, "poses"):
        with pytest.raises(UserError, match="poses"):
            as_poses(wrong, 3)


def test_seeds_are_integers():
    assert as_seed(3) == as_seed(np.int32(3)) == as_seed(jnp.array(3)) == 3
    for wrong in (3.0, "3", None):
        with pytest.raises(UserError, match="a seed is an integer"):
            as_seed(wrong)


def test_given_images_are_a_recording(file):
    source = GivenImages(
        [file, RGB, GREY], MATRIX, [np.eye(4), None, np.eye(4)], [DEPTH, None, DEPTH], [1, 2, 3]
    )
    assert (len(source), source.has_depth, source.own_cameras) == (3, True, False)
    assert source.camera == CAMERA
    assert source.names() == ["photo.png", "000001", "000002"]
    first, second, third = source
    np.testing.assert_array_equal(first.rgb, RGB)
    np.testing.assert_array_equal(third.rgb[..., 2], GREY)
    assert second.world_from_camera is None
    assert not second.depth.any()
    assert third.timestamp == 3.0


def test_given_images_may_have_cameras_of_their_own():
    small = CAMERA.replace(width=4)
    source = GivenImages([RGB, RGB[:, :4]], [CAMERA, small])
    assert source.own_cameras
    assert not source.has_depth
    assert source[1].camera == small


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("kitchen", MATRIX), "give a list of images; open the recording kitchen"),
        (([RGB], [CAMERA, CAMERA]), "1 images, but 2 cameras"),
        (([RGB], MATRIX, None, [DEPTH, DEPTH]), "1 images, but depth of 2"),
        (([], MATRIX), "no frames"),
        (([RGB, None], MATRIX), "image 1 is no array"),
    ],
)
def test_given_images_that_do_not_fit(arguments, words):
    with pytest.raises(UserError, match=words):
        GivenImages(*arguments)
