"""One frame of a recording, and what every source of frames offers."""

import dataclasses
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from ace_jax.geometry.camera import Camera


@dataclasses.dataclass(frozen=True)
class Frame:
    """One image with what is known about it. Colour and depth are registered, pixel for pixel.

    Attributes:
        index: position in the source, counted from 0 at the source's first frame.
        name: the source's own name of the frame (for messages and for matching pose files).
        timestamp: seconds.
        rgb: (H, W, 3) uint8.
        depth: (H, W) float32 z-depth in metres, 0 where unknown; None for a colour-only source.
        camera: intrinsics of `rgb` (and of `depth`).
        world_from_camera: (4, 4) float64 ground truth of the colour camera, or None.
        depth_delay: seconds from the colour image to the depth image (negative: depth is older).
        readout: seconds from reading the colour image's first row to its last (rolling shutter);
            `timestamp` is the middle row's.
    """

    index: int
    name: str
    timestamp: float
    rgb: np.ndarray
    depth: np.ndarray | None
    camera: Camera
    world_from_camera: np.ndarray | None = None
    depth_delay: float = 0.0
    readout: float = 0.0


def inverse_depth_sigma(source: "FrameSource") -> float | None:
    """Noise of a source's depth as inverse depth, 1/m; None: that of a consumer depth camera.

    A source whose depth is better (or worse) than a Kinect's says so by an attribute of this name.
    """
    return getattr(source, "inverse_depth_sigma", None)


def timed(source: "FrameSource") -> bool:
    """Whether a source knows its frames' times; without, it may be a set of photos in any order."""
    return getattr(source, "timed", True)


# Rendered depth is exact; what is left is where on a slanted surface a feature really lies.
RENDERED_INVERSE_DEPTH_SIGMA = 0.004


class BadFrame(Exception):
    """A frame that cannot be read (truncated file, wrong size); the stream goes on after it."""


@runtime_checkable
class FrameSource(Protocol):
    """A recording: a sequence of frames that are read on access.

    `source[i]` reads frame i and raises `BadFrame` if that one frame cannot be read.
    `poses()` and `timestamps()` read no images.
    """

    name: str
    camera: Camera
    has_depth: bool

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Frame: ...

    def __iter__(self) -> Iterator[Frame]: ...

    def timestamps(self) -> np.ndarray:
        """(N,) float64 seconds."""
        ...

    def names(self) -> list[str]:
        """N frame names."""
        ...

    def poses(self) -> np.ndarray | None:
        """(N, 4, 4) float64 world_from_camera ground truth, NaN where a frame has none, or None."""
        ...
