"""Base class of the file readers: indexing, image sizes and poses."""

import abc
import operator
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from ace_jax.data.frame import BadFrame, Frame, FrameSource
from ace_jax.data.stored_poses import clean_poses, count_poses
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera

# The first Kinect's colour camera reads an image in about 25 of the 33 ms between two images:
# measured on redkitchen 0-499, as what makes most matches of frames that turn at different rates
# agree with one pose (0.5 to 1.0 of the interval are equally good, 0 and 1.5 are worse). TUM's
# reference is motion capture, so it is undone there (fr1_rpy: 5.3 -> 1.6 cm). The SfM reference of
# 7-Scenes was itself computed for a global shutter and shares the distortion's effect on poses
# (redkitchen 0-499: 0.55 cm without, 0.77 cm with), so there it is left alone.
KINECT_READOUT = 0.025


FRAMES_PER_SECOND = 30.0  # of frames whose times nothing tells


def positions_as_times(count: int) -> np.ndarray:
    """(N,) seconds of frames whose times nothing tells."""
    return np.arange(count) / FRAMES_PER_SECOND


class Recording(abc.ABC):
    """A `FrameSource` over files: a subclass says how frame i is read.

    Attributes:
        name: the recording's name, for messages and reports.
        camera: intrinsics of the first frame; of every frame unless the format gives each its own.
            A frame of another size than its camera's is a `BadFrame`.
        own_cameras: whether frames may differ in their intrinsics.
        has_depth: whether frames carry depth.
        timed: whether the times are known; without, frames need not be those of a video.
        pose_counts: what was wrong with the poses as read; None without any.
    """

    def __init__(
        self,
        name: str,
        camera: Camera | Sequence[Camera],
        *,
        names: Sequence[str],
        timestamps: np.ndarray | None,
        poses: np.ndarray | None,
        has_depth: bool,
        readout: float = 0.0,
        recorded_from_camera: np.ndarray | None = None,
    ) -> None:
        """Checks and keeps what is known without reading images.

        Args:
            name: the recording's name.
            camera: intrinsics, of all frames or of each.
            names: N frame names.
            timestamps: (N,) seconds; None if nothing tells them: then they are positions at 30 Hz.
            poses: (N, 4, 4) world_from_camera as read, NaN where missing; None without any.
            has_depth: whether frames carry depth.
            readout: seconds that the colour camera's rolling shutter takes; 0: global shutter.
            recorded_from_camera: (4, 4) where the poses are those of other axes or of another
                camera (OpenGL's, the depth camera): from the colour camera to that.

        Raises:
            UserError: there are no frames.
        """
        if not names:
            raise UserError(f"{name}: no frames found")
        self.name = name
        cameras = [camera] if isinstance(camera, Camera) else list(camera)
        self.own_cameras = not isinstance(camera, Camera)
        self._cameras = cameras if self.own_cameras else None
        self.camera: Camera = cameras[0]
        self.has_depth = has_depth
        self._names = list(names)
        self.timed = timestamps is not None
        times = timestamps if self.timed else positions_as_times(len(self._names))
        self._timestamps = np.asarray(times, np.float64)
        self._readout = readout
        self.pose_counts = None if poses is None else count_poses(poses)
        self._poses = None if poses is None else clean_poses(poses, name)
        if self._poses is not None and recorded_from_camera is not None:
            self._poses = clean_poses(self._poses @ recorded_from_camera, name)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Frame:
        index = operator.index(index)
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} frames, not one numbered {index}")
        camera = self.camera_of(index)
        rgb, depth = self._read(index)
        for what, image in (("image", rgb), ("depth", depth)):
            if image is not None and image.shape[:2] != (camera.height, camera.width):
                raise BadFrame(
                    f"{self.name}: {what} of frame {self._names[index]} has "
                    f"{image.shape[1]} x {image.shape[0]} pixels, the camera "
                    f"{camera.width} x {camera.height}"
                )
        pose = None if self._poses is None else self._poses[index]
        return Frame(
            index=index,
            name=self._names[index],
            timestamp=float(self._timestamps[index]),
            rgb=rgb,
            depth=depth,
            camera=camera,
            world_from_camera=None if pose is None or np.isnan(pose).any() else pose.copy(),
            readout=self._readout,
        )

    def __iter__(self) -> Iterator[Frame]:
        """Every frame that can be read; the others are skipped with a log line."""
        return iterate(self)

    def timestamps(self) -> np.ndarray:
        """(N,) float64 seconds."""
        return self._timestamps.copy()

    def names(self) -> list[str]:
        """N frame names."""
        return list(self._names)

    def poses(self) -> np.ndarray | None:
        """(N, 4, 4) float64 world_from_camera, NaN where a frame has none, or None."""
        return None if self._poses is None else self._poses.copy()

    def camera_of(self, index: int) -> Camera:
        """Intrinsics of one frame."""
        return self.camera if self._cameras is None else self._cameras[index]

    @abc.abstractmethod
    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Colour (H, W, 3) uint8 and depth (H, W) float32 metres of a frame, or `BadFrame`."""


def iterate(source: FrameSource) -> Iterator[Frame]:
    """The frames of a source in order; unreadable ones are skipped with a log line."""
    for index in range(len(source)):
        try:
            yield source[index]
        except BadFrame as error:
            logging.warning("frame %d skipped: %s", index, error)
