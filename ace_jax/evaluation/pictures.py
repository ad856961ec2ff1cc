"""Small JPEG images of frames for the reports, with inliers and outliers drawn."""

import cv2
import numpy as np

WIDTH = 480
_THUMBNAIL = 320
_GREY, _RED, _GREEN = (150, 150, 150), (60, 60, 230), (80, 220, 60)  # BGR


def small(rgb: np.ndarray) -> tuple[np.ndarray, float]:
    """A BGR copy (h, 480, 3) of an image (H, W, 3), and its size relative to the image's."""
    factor = WIDTH / rgb.shape[1]
    size = (WIDTH, max(round(rgb.shape[0] * factor), 1))
    return cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR), (
        factor
    )


def jpeg(bgr: np.ndarray) -> bytes:
    """An image (H, W, 3) as a file's content."""
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()


def thumbnail(rgb: np.ndarray) -> bytes:
    """A JPEG of an image (H, W, 3), whose longer side has 320 pixels at most."""
    factor = min(_THUMBNAIL / max(rgb.shape[:2]), 1.0)
    size = tuple(max(round(factor * length), 1) for length in rgb.shape[1::-1])
    bgr = cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 72])[1].tobytes()


def with_answers(rgb: np.ndarray, uv: np.ndarray, voted: np.ndarray, inliers: np.ndarray) -> bytes:
    """The image with its correspondences: inliers green, outliers red, filtered out grey; JPEG.

    Args:
        rgb: (H, W, 3) uint8.
        uv: (N, 2) pixels.
        voted: (N,) bool, whether each passed the uncertainty filter.
        inliers: (N,) bool.
    """
    picture, factor = small(rgb)
    for chosen, colour in ((~voted, _GREY), (voted & ~inliers, _RED), (inliers, _GREEN)):
        for u, v in uv[chosen]:
            centre = (round((u + 0.5) * factor - 0.5), round((v + 0.5) * factor - 0.5))
            cv2.circle(picture, centre, 2, colour, -1, cv2.LINE_AA)
    return jpeg(picture)
