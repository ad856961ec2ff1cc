"""Live cameras: `live/webcam`, `live/webcam/1`, `live/realsense`.

A live source has a length of its own choosing (`FRAMES`), as every source has one; end it sooner by
--max_frames or Ctrl-C. A frame is read when it is asked for, in order. A webcam's intrinsics come
from `webcam.json` below the data root, in the form of a folder's `intrinsics.json`; without it a
field of view of 60 degrees is assumed. A RealSense brings its own, and depth aligned to colour.
"""

import importlib
import math
import time
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from absl import logging

from ace_jax.data.intrinsics import read_intrinsics
from ace_jax.data.recording import Recording
from ace_jax.data.sequential import ForwardReader
from ace_jax.data.undistortion import Undistortion
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.distortion import RadialTangential

FRAMES = 54_000  # half an hour at 30 Hz
FRAMES_PER_SECOND = 30.0
_FIELD_OF_VIEW = math.radians(60.0)


class Device(Protocol):
    """A camera that is on.

    Attributes:
        camera: its intrinsics.
        has_depth: whether it measures depth.
        lens: distortion of its colour images, or None.
    """

    camera: Camera
    has_depth: bool
    lens: RadialTangential | None

    def read(self) -> tuple[np.ndarray, np.ndarray | None] | None:
        """The next colour (H, W, 3) uint8 and depth (H, W) float32 metres; None if it failed."""
        ...


class Live(Recording):
    """Frames of a device, as they come; `timestamps()` are nominal, a frame's own time is true."""

    random_access = False

    def __init__(self, device: Device, name: str, *, frames: int = FRAMES) -> None:
        """Starts reading when the first frame is asked for.

        Args:
            device: the camera.
            name: for messages.
            frames: the length that the source claims.
        """
        super().__init__(
            name,
            device.camera,
            names=[f"{number:06d}" for number in range(frames)],
            timestamps=np.arange(frames) / FRAMES_PER_SECOND,
            poses=None,
            has_depth=device.has_depth,
        )
        self._device = device
        self._started: float | None = None
        self._undistortion = None if device.lens is None else Undistortion(self.camera, device.lens)
        self._reader = ForwardReader(self._advance)
        self._count = 0

    def _advance(self) -> tuple[np.ndarray, np.ndarray | None] | None:
        frame = self._device.read()
        now = time.monotonic()
        self._started = now if self._started is None else self._started
        self._timestamps[self._count] = now - self._started
        self._count += 1
        return frame

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        rgb, depth = self._reader.read(index)
        return (rgb, depth) if self._undistortion is None else self._undistortion(rgb, depth)


class Webcam:
    """A camera that OpenCV opens; see `Device`."""

    has_depth = False

    def __init__(self, number: int, intrinsics: Path) -> None:
        """Switches it on.

        Raises:
            UserError: there is none of this number.
        """
        self._capture = cv2.VideoCapture(number)
        done, image = self._capture.read()
        if not done:
            raise UserError(f"no webcam number {number}; close other programs that use it")
        height, width = image.shape[:2]
        self.lens = None
        if intrinsics.is_file():
            known = read_intrinsics(intrinsics)
            self.camera, self.lens = known.camera(width, height), known.lens()
        else:
            focal = 0.5 * width / math.tan(0.5 * _FIELD_OF_VIEW)
            self.camera = Camera(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)
            logging.warning("no %s: a field of view of 60 degrees is assumed", intrinsics)

    def read(self) -> tuple[np.ndarray, None] | None:
        """See `Device`."""
        done, image = self._capture.read()
        return (cv2.cvtColor(image, cv2.COLOR_BGR2RGB), None) if done else None


class RealSense:
    """An Intel RealSense depth camera, through `pyrealsense2`; see `Device`."""

    has_depth = True
    lens = None  # colour streams of the D400 are rectified to within a pixel

    def __init__(self, sdk: Any) -> None:
        """Switches it on, 640 x 480 at 30 Hz.

        Args:
            sdk: the module `pyrealsense2`.

        Raises:
            UserError: no camera is connected.
        """
        self._pipeline, config = sdk.pipeline(), sdk.config()
        config.enable_stream(sdk.stream.color, 640, 480, sdk.format.rgb8, 30)
        config.enable_stream(sdk.stream.depth, 640, 480, sdk.format.z16, 30)
        try:
            profile = self._pipeline.start(config)
        except RuntimeError as error:
            raise UserError(f"no RealSense camera: {error}; check its cable (USB 3)") from error
        self._align = sdk.align(sdk.stream.color)
        self._metres = profile.get_device().first_depth_sensor().get_depth_scale()
        seen = profile.get_stream(sdk.stream.color).as_video_stream_profile().get_intrinsics()
        self.camera = Camera(seen.fx, seen.fy, seen.ppx, seen.ppy, seen.width, seen.height)

    def read(self) -> tuple[np.ndarray, np.ndarray] | None:
        """See `Device`."""
        try:
            frames = self._align.process(self._pipeline.wait_for_frames())
        except RuntimeError:  # no frame within 5 s
            return None
        # The buffers belong to the driver: copy.
        rgb = np.array(frames.get_color_frame().get_data())
        depth = np.asarray(frames.get_depth_frame().get_data()).astype(np.float32)
        return rgb, depth * np.float32(self._metres)


def open_named(rest: str, root: Path) -> Live:
    """Opens `live/webcam[/N]` or `live/realsense`."""
    kind, _, number = rest.partition("/")
    if kind == "webcam" and (not number or number.isdecimal()):
        return Live(Webcam(int(number or 0), root / "webcam.json"), f"live/{rest}")
    if kind == "realsense" and not number:
        try:
            sdk = importlib.import_module("pyrealsense2")
        except ImportError as error:
            raise UserError(
                "live/realsense needs the extra `live`: pip install pyrealsense2"
            ) from error
        return Live(RealSense(sdk), "live/realsense")
    raise UserError(f"no live source {rest!r}: take webcam, webcam/N or realsense")
