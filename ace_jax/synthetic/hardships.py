"""Degradations of recordings: failing light, camera shake, missing stretches."""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

from ace_jax.data.frame import Frame, FrameSource
from ace_jax.data.subset import SubsetSource
from ace_jax.synthetic.trajectory import RATE

NIGHT = 1 / 60  # share of the light that is left
NIGHTS = ((0.0, 1.0), (5.0, 6.0))  # seconds without light
READ_NOISE = 1.5  # grey levels
SHAKES = 2.0  # seconds between the beginnings of two shakes
SHAKE = 0.5  # seconds
BLUR_LENGTH = 25  # pixels of 640 that the image moves during the exposure of a shaken frame
GAP, PERIOD = 2.0, 4.0  # seconds without frames at the end of each period


def darken(frame: Frame) -> Frame:
    """The frame without light where it falls into `NIGHTS`: noise is left of the colours."""
    if not any(start <= frame.timestamp < stop for start, stop in NIGHTS):
        return frame
    rng = np.random.default_rng([frame.index, 1])
    grey = NIGHT * frame.rgb + READ_NOISE * rng.standard_normal(frame.rgb.shape)
    return dataclasses.replace(frame, rgb=np.clip(np.rint(grey), 0, 255).astype(np.uint8))


def shake(frame: Frame) -> Frame:
    """The frame with motion blur in a random direction during shakes; depth stays sharp."""
    if (frame.timestamp - 1.0) % SHAKES >= SHAKE:
        return frame
    length = max(3, round(BLUR_LENGTH * frame.rgb.shape[1] / 640))
    angle = np.random.default_rng([frame.index, 2]).uniform(0, np.pi)
    kernel = motion_kernel(length, angle)
    rgb = cv2.filter2D(frame.rgb, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return dataclasses.replace(frame, rgb=rgb)


def motion_kernel(length: int, angle: float) -> np.ndarray:
    """(L, L) float32 kernel of the blur by a straight motion of `length` pixels."""
    middle = (length - 1) / 2
    steps = np.linspace(-middle, middle, 8 * length)
    kernel = np.zeros((length, length), np.float32)
    rows = np.rint(middle + np.sin(angle) * steps).astype(int)
    np.add.at(kernel, (rows, np.rint(middle + np.cos(angle) * steps).astype(int)), 1)
    return kernel / kernel.sum()


def kept_of_gaps(count: int) -> list[int]:
    """Numbers of the frames that a recording with gaps keeps: all of its second half.

    Before, two seconds of every four are missing, so the camera comes back in places that it may
    not have seen, and later passes through what it missed.
    """
    seconds = np.arange(count) / RATE
    missing = (seconds % PERIOD >= PERIOD - GAP) & (seconds < seconds[-1] / 2)
    return np.flatnonzero(~missing).tolist()


class ImpairedSource(SubsetSource):
    """Another source whose images are impaired, each by itself; times and poses stay.

    Attributes:
        name: of this source.
        camera: intrinsics.
        has_depth: whether frames carry depth.
    """

    def __init__(self, source: FrameSource, name: str, impair: Callable[[Frame], Frame]) -> None:
        """See the class; `impair` makes the frame that is shown of the source's."""
        super().__init__(source)
        self.name = name
        self._impair = impair

    def __getitem__(self, index: int) -> Frame:
        return self._impair(super().__getitem__(index))
