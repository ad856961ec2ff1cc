"""Validates input images and resizes them to the extractor's working size."""

import cv2
import numpy as np

from ace_jax.errors import UserError


def as_rgb(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of a grey, RGB or RGBA image (alpha is dropped).

    Raises:
        UserError: the array is empty, not uint8, or has another shape.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise UserError(f"an image must be uint8, got {image.dtype}; scale it to 0..255 first")
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=-1)
    if image.ndim != 3 or image.shape[-1] not in (3, 4) or 0 in image.shape:
        raise UserError(f"an image must be (H, W, 3), got shape {image.shape}")
    return image[..., :3]


def working_size(
    width: int, height: int, image_size: tuple[int, int] | None, multiple: int
) -> tuple[int, int]:
    """The size (width, height) at which an image is processed.

    The aspect ratio is kept up to rounding, and the area is at most that of `image_size`, so that
    the cost does not depend on the camera; images are never enlarged by more than the rounding.

    Args:
        width: of the image, pixels.
        height: of the image, pixels.
        image_size: (width, height) whose area is the limit; None for no limit.
        multiple: both sides of the result are multiples of this.
    """
    scale = 1.0
    if image_size is not None:
        scale = min(1.0, (image_size[0] * image_size[1] / (width * height)) ** 0.5)

    def side(length: int) -> int:
        return max(1, round(length * scale / multiple)) * multiple

    return side(width), side(height)


def short_side_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """The size (width, height) whose shorter side is `short_side`; the aspect ratio is kept."""
    if short_side is None or short_side == min(width, height):
        return width, height
    if width <= height:
        return short_side, int(short_side * height / width)
    return int(short_side * width / height), short_side


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Area-averaging when shrinking, linear when enlarging; pixel centres at half pixels."""
    if (image.shape[1], image.shape[0]) == tuple(size):
        return image
    shrinks = size[0] <= image.shape[1] and size[1] <= image.shape[0]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def pixel_scale(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(2,) float32 s with x_image = (x_working + 0.5) * s - 0.5."""
    return np.array([image.shape[1] / size[0], image.shape[0] / size[1]], np.float32)
