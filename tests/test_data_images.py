"""Image files: what is read, and that every kind of damage is a `BadFrame` naming the file."""

import struct

import cv2
import numpy as np
import pytest

from ace_jax.data.frame import BadFrame
from ace_jax.data.images import first_size, image_size, read_depth, read_rgb
from ace_jax.errors import UserError


@pytest.fixture
def rgb() -> np.ndarray:
    v, u = np.mgrid[:48, :64]
    return np.stack([4 * u, 5 * v, 2 * (u + v)], 2).astype(np.uint8)


def write(path, image):
    assert cv2.imwrite(str(path), image)
    return path


def test_reads_rgb_order_and_size(tmp_path, rgb):
    png = write(tmp_path / "a.png", rgb[:, :, ::-1])
    np.testing.assert_array_equal(read_rgb(png), rgb)
    jpg = write(tmp_path / "a.jpg", rgb[:, :, ::-1])
    assert np.abs(read_rgb(jpg).astype(int) - rgb).mean() < 3
    assert image_size(png) == image_size(jpg) == (64, 48)


def test_grey_image_gets_three_channels(tmp_path, rgb):
    image = read_rgb(write(tmp_path / "grey.png", rgb[:, :, 0]))
    np.testing.assert_array_equal(image, np.repeat(rgb[:, :, :1], 3, axis=2))


def test_exif_rotation_is_ignored(tmp_path, rgb):
    """Intrinsics belong to the pixels as stored; turning the image would swap its axes."""
    data = write(tmp_path / "a.jpg", rgb).read_bytes()
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)  # orientation 6: turn by 90 degrees
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + bytes(4)
    turned = tmp_path / "turned.jpg"
    turned.write_bytes(data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:])
    assert cv2.imread(str(turned)).shape[:2] == (64, 48)  # the test's file does say "turn"
    assert read_rgb(turned).shape[:2] == (48, 64)
    assert image_size(turned) == (64, 48)


def test_depth_in_metres_and_invalid_values(tmp_path):
    units = np.array([[0, 1, 1500], [65534, 65535, 40000]], np.uint16)
    depth = read_depth(write(tmp_path / "d.png", units), 1000.0)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, [[0, 0.001, 1.5], [65.534, 0, 40.0]], rtol=1e-6)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_every_truncation_is_a_bad_frame(tmp_path, rgb, suffix):
    whole = write(tmp_path / f"whole{suffix}", rgb).read_bytes()
    path = tmp_path / f"cut{suffix}"
    for length in [*range(0, len(whole) - 8, 97), len(whole) - 2]:
        path.write_bytes(whole[:length])
        with pytest.raises(BadFrame, match=f"cut{suffix}"):
            read_rgb(path)
    path.write_bytes(whole + bytes(100))  # padding after the end does no harm
    assert read_rgb(path).shape == (48, 64, 3)


def test_other_damage_is_a_bad_frame(tmp_path, rgb):
    whole = write(tmp_path / "whole.png", rgb).read_bytes()
    middle = len(whole) // 2
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(whole[:middle] + bytes(60) + whole[middle + 60 :])
    text = tmp_path / "text.png"
    text.write_text("not an image")
    for path in (damaged, text, tmp_path / "missing.png", tmp_path):
        with pytest.raises(BadFrame, match=path.name):
            read_rgb(path)


def test_giant_dimensions_are_refused_before_decoding(tmp_path, rgb):
    data = bytearray(write(tmp_path / "a.png", rgb).read_bytes())
    data[16:24] = struct.pack(">II", 60000, 60000)
    (tmp_path / "giant.png").write_bytes(data)
    with pytest.raises(BadFrame, match=r"giant\.png.*60000"):
        read_rgb(tmp_path / "giant.png")


@pytest.mark.parametrize("image", [np.ones((4, 4), np.uint8), np.ones((4, 4, 3), np.uint16)])
def test_depth_of_another_type_is_refused(tmp_path, image):
    with pytest.raises(BadFrame, match="one 16-bit channel"):
        read_depth(write(tmp_path / "d.png", image), 1000.0)


def test_first_size_passes_over_bad_files(tmp_path, rgb):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    assert first_size([bad, write(tmp_path / "a.png", rgb)], "x") == (64, 48)
    with pytest.raises(UserError, match="none of its 1 images"):
        first_size([bad], "x")
