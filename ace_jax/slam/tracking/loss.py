"""Likely causes of a tracking loss, from the image and the motion before it."""

import cv2
import numpy as np

from ace_jax.data.frame import Frame
from ace_jax.features.base import Features

DARK = "dark"
NO_DEPTH = "no depth"
LITTLE_TEXTURE = "little texture"
BLUR = "blur"
FAST_TURN = "fast turn"
UNKNOWN_PLACE = "nothing seen before"
GIVEN_UP = "the map failed after its first frames"
TOO_MANY_MAPS = "its map was one too many to be kept"
# Files hold their places: new ones come last.
CAUSES = (
    DARK, NO_DEPTH, LITTLE_TEXTURE, BLUR, FAST_TURN, UNKNOWN_PLACE, GIVEN_UP, TOO_MANY_MAPS
)  # fmt: skip

# Bounds of an explanation for people; nothing depends on them.
_DARK = 20.0  # mean grey level, of 255
_FEW = 60  # features
_BLURRED = 0.5  # sharpness, of the last tracked image's
_FAST = 0.1  # radians a frame


def likely_cause(frame: Frame, features: Features, last: Frame | None, turn: float) -> str:
    """One of `CAUSES`.

    Args:
        frame: the frame without a pose.
        features: of it, with depth.
        last: the last frame that was tracked, if its image is known.
        turn: radians between the two frames that were tracked last; 0: unknown.
    """
    grey = _grey(frame)
    if grey.mean() < _DARK:
        return DARK
    if frame.depth is None or not np.any(frame.depth > 0):
        return NO_DEPTH
    known = np.sum(features.mask)
    if known < _FEW:
        return LITTLE_TEXTURE
    if last is not None and _sharpness(grey) < _BLURRED * _sharpness(_grey(last)):
        return BLUR
    if np.sum(features.depth > 0) < min(_FEW, 0.25 * known):
        return NO_DEPTH
    if turn > _FAST:
        return FAST_TURN
    return UNKNOWN_PLACE


def _grey(frame: Frame) -> np.ndarray:
    width = 320
    size = width, max(round(frame.rgb.shape[0] * width / frame.rgb.shape[1]), 1)
    return cv2.cvtColor(
        cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
    )


def _sharpness(grey: np.ndarray) -> float:
    """How much of an image's contrast is fine detail."""
    return float(cv2.Laplacian(grey, cv2.CV_32F).std() / max(grey.std(), 1.0))
