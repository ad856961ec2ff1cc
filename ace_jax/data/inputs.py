"""Inputs of the Python API: images, depth, intrinsics and poses in their usual forms, checked.

An image is a file or an array (colour, with alpha, or grey; 8 bit, or floats from 0 to 1); depth an
array in metres; intrinsics a `Camera`, a (3, 3) matrix or [fx, fy, cx, cy].
"""

import math
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from ace_jax.data.frame import BadFrame
from ace_jax.data.images import read_rgb
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import camera_from_matrix

ImageLike = str | os.PathLike[str] | ArrayLike
Intrinsics = Camera | ArrayLike

# Depth cameras end at tens of metres; what is farther than this in the median is in millimetres.
_MAX_MEDIAN_DEPTH = 100.0
_WANTED = "an image is a file or an array (H, W, 3), 8 bit or floats from 0 to 1"
_INTRINSICS = (
    "intrinsics must be a Camera, four numbers fx fy cx cy, or a (3, 3) matrix "
    "[fx 0 cx; 0 fy cy; 0 0 1]"
)


def as_image(image: ImageLike, what: str = "image") -> np.ndarray:
    """Colours of an image: (H, W, 3) uint8 RGB; itself if it is that.

    Args:
        image: a file (PNG or JPEG), or an array (H, W, 3), (H, W, 4) with alpha, which is dropped,
            (H, W) or (H, W, 1) grey; uint8, or floating point from 0 to 1. Pillow images and JAX
            arrays are arrays, too.
        what: its name in messages.

    Raises:
        UserError: it is anything else, or the file cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        try:
            return read_rgb(Path(image))
        except BadFrame as error:
            raise UserError(str(error)) from error
    pixels = _array(image, what)
    if pixels.ndim == 4:
        raise UserError(f"{what}: {len(pixels)} images at once; pass them one by one")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise UserError(f"{what} has shape {pixels.shape}: {_WANTED}")
    if pixels.shape[2] not in (1, 3, 4):
        last = "; put the channels last" if pixels.shape[0] in (1, 3, 4) else ""
        raise UserError(f"{what} has shape {pixels.shape}: {_WANTED}{last}")
    if pixels.dtype != np.uint8:
        pixels = _eight_bit(pixels, what)
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    return pixels[..., :3]


def _eight_bit(pixels: np.ndarray, what: str) -> np.ndarray:
    if pixels.dtype.kind != "f":
        raise UserError(
            f"{what} is {pixels.dtype}: {_WANTED}; scale to 8 bit, then .astype(np.uint8)"
        )
    low, high = float(pixels.min()), float(pixels.max())  # NaN passes no comparison
    if not (low >= 0.0 and high <= 1.0):
        raise UserError(
            f"{what} has floats from {low:g} to {high:g}: {_WANTED}; "
            "of 0 to 255, pass .astype(np.uint8)"
        )
    return np.rint(255.0 * pixels).astype(np.uint8)


def as_depth(depth: ArrayLike, size: tuple[int, int]) -> np.ndarray:
    """Depth as (H, W) float32 metres, 0 where it is unknown (negative or not finite).

    Args:
        depth: (H, W) or (H, W, 1) metres along the optical axis, registered to the image.
        size: (H, W) of the image.

    Raises:
        UserError: integers (whose unit nothing tells), millimetres, or another size.
    """
    if isinstance(depth, str | os.PathLike):
        raise UserError("depth is an array in metres: read the file and divide by its units")
    metres = _array(depth, "depth")
    if metres.ndim == 3 and metres.shape[2] == 1:
        metres = metres[..., 0]
    if metres.dtype.kind != "f":
        raise UserError(
            f"depth is {metres.dtype}, it must be in metres: depth / 1000.0 for millimetres"
        )
    if metres.shape != tuple(size):
        raise UserError(
            f"depth has shape {metres.shape}, the image {tuple(size)}: register it to the image"
        )
    with np.errstate(invalid="ignore"):
        known = (metres > 0) & np.isfinite(metres)
    metres = np.where(known, metres, 0.0).astype(np.float32)
    if known.any() and np.median(metres[known]) > _MAX_MEDIAN_DEPTH:
        raise UserError(
            f"depth is {np.median(metres[known]):.0f} in the median, it must be in metres: "
            "depth / 1000 for millimetres"
        )
    return metres


def as_camera(intrinsics: Intrinsics, width: int, height: int) -> Camera:
    """A camera from itself, a (3, 3) matrix, or [fx, fy, cx, cy].

    Args:
        intrinsics: in pixels; the centre of the top-left pixel is (0, 0).
        width: of the image, pixels.
        height: of the image, pixels.

    Raises:
        UserError: they are none of these, impossible, or for another image size.
    """
    if isinstance(intrinsics, Camera):
        camera = intrinsics
    else:
        values = _numbers(intrinsics)
        if values.shape == (4,):
            fx, fy, cx, cy = values.tolist()
            camera = Camera(fx, fy, cx, cy, width, height)
        elif values.shape == (3, 3) and np.allclose(values[2], (0.0, 0.0, 1.0)):
            camera = camera_from_matrix(values, width, height)
        else:
            row = f", whose last row is not 0 0 1 ({values[2]})" if values.shape == (3, 3) else ""
            raise UserError(f"{_INTRINSICS}, not an array {values.shape}{row}")
    return check_camera(camera, (width, height))


def check_camera(camera: Camera, size: tuple[int, int] | None = None) -> Camera:
    """The camera, if it can be one.

    Args:
        camera: to be checked.
        size: (width, height) of its images, if known.

    Raises:
        UserError: a value is not finite, a focal length not positive, or the size another one.
    """
    try:
        values = [float(value) for value in camera.intrinsics]
    except (TypeError, ValueError) as error:
        raise UserError(f"{_INTRINSICS}: {error}") from error
    if not all(map(math.isfinite, values)) or min(values[:2]) <= 0:
        numbers = " ".join(f"{value:g}" for value in values)
        raise UserError(f"{_INTRINSICS}; fx fy cx cy are {numbers}")
    if size is not None and (camera.width, camera.height) != tuple(size):
        raise UserError(
            f"the image has {size[0]} x {size[1]} pixels, its intrinsics are for "
            f"{camera.width} x {camera.height}"
        )
    return camera


def as_poses(poses: ArrayLike | Sequence[Any], count: int) -> np.ndarray:
    """(N, 4, 4) float64 world_from_camera; NaN where an image has none (None, or NaN).

    Args:
        poses: (N, 4, 4) or a list of (4, 4), some of them None.
        count: N.

    Raises:
        UserError: another number or shape, or none of them is a rigid motion.
    """
    unknown = np.full((4, 4), np.nan)
    try:
        rows = [unknown if pose is None else np.asarray(pose, np.float64) for pose in poses]  # type: ignore[union-attr]
    except (TypeError, ValueError) as error:
        raise UserError(f"poses are (4, 4) world_from_camera each: {error}") from error
    wrong = [row.shape for row in rows if row.shape != (4, 4)]
    if wrong or len(rows) != count:
        shape = f"{wrong[0]}" if wrong else f"{len(rows)} poses"
        raise UserError(f"{count} images need {count} poses (4, 4) world_from_camera, not {shape}")
    return np.stack(rows) if rows else np.empty((0, 4, 4))


def as_seed(seed: SupportsIndex) -> int:
    """A seed as an integer.

    Raises:
        UserError: it is none.
    """
    try:
        return operator.index(seed)
    except TypeError as error:
        raise UserError(f"a seed is an integer, not {type(seed).__name__}") from error


def _array(values: Any, what: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except Exception as error:  # whatever a library says of its arrays (on a GPU, ragged, ...)
        raise UserError(f"{what} is no array: {error}") from error
    if array.dtype.kind not in "biuf":
        raise UserError(f"{what} is no array of numbers but {type(values).__name__}")
    return array


def _numbers(intrinsics: Any) -> np.ndarray:
    try:
        return np.asarray(intrinsics, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{_INTRINSICS}: {error}") from error
