"""`Frame`, one frame of a recording, and `FrameSource`, the interface of all readers."""

import dataclasses
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from ace_jax.geometry.camera import SAME_CAMERA, Camera, largest_shift


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
    readout: float = 0.0


def inverse_depth_sigma(source: "FrameSource") -> float | None:
    """Noise of a source's depth as inverse depth, 1/m; None: that of a consumer depth camera.

    A source whose depth is better (or worse) than a Kinect's says so by an attribute of this name.
    """
    return getattr(source, "inverse_depth_sigma", None)


def own_cameras(source: "FrameSource") -> bool:
    """Whether frames of a source may differ in their intrinsics (a phone that focuses).

    Such a source says so by an attribute of this name.
    """
    return getattr(source, "own_cameras", False)


def as_seen_by(frame: Frame, camera: Camera) -> Frame:
    """A frame as another camera at its place would have taken it.

    Images of pinhole cameras differ by scale and shift alone. Where the frame shows nothing, depth
    is unknown and colours are those of the border. If the cameras are the same (`SAME_CAMERA`), so
    is the frame.

    Raises:
        BadFrame: the image has another size than the camera's, or is smaller than `frame.camera`'s.
    """
    own, size = frame.camera, (camera.height, camera.width)
    if frame.rgb.shape != (*size, 3) or (frame.depth is not None and frame.depth.shape != size):
        raise BadFrame(
            f"{frame.name}: image of {frame.rgb.shape[1]}x{frame.rgb.shape[0]} in a stream of "
            f"{camera.width}x{camera.height}"
        )
    if (own.height, own.width) != size:
        raise BadFrame(
            f"{frame.name}: image of {frame.rgb.shape[1]}x{frame.rgb.shape[0]}, but its intrinsics "
            f"are of {own.width}x{own.height}"
        )
    if largest_shift(camera, own) <= SAME_CAMERA:
        return frame
    sx, sy = float(own.fx / camera.fx), float(own.fy / camera.fy)
    own_from_camera = np.array(
        [[sx, 0.0, own.cx - sx * camera.cx], [0.0, sy, own.cy - sy * camera.cy]]
    )
    rgb = cv2.warpAffine(
        frame.rgb,
        own_from_camera,
        size[::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    depth = frame.depth
    if depth is not None:  # depths across an edge must not mix
        depth = cv2.warpAffine(
            depth,
            own_from_camera,
            size[::-1],
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
        )
    return dataclasses.replace(frame, rgb=rgb, depth=depth, camera=camera)


def timed(source: "FrameSource") -> bool:
    """Whether a source knows its frames' times; without, it may be a set of photos in any order."""
    return getattr(source, "timed", True)


def random_access(source: "FrameSource") -> bool:
    """Whether frames may be read in any order; a live camera's are gone once they were read."""
    return getattr(source, "random_access", True)


def metric(source: "FrameSource") -> bool:
    """Whether a source's lengths are metres: structure from motion alone knows no scale."""
    return getattr(source, "metric", True)


def rendered(source: "FrameSource") -> bool:
    """Whether frames are computed when they are first read, which takes long."""
    return getattr(source, "rendered", False)


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
