"""A video file with its intrinsics: colour only, times from the frame rate.

`NAME.mp4` (or whatever OpenCV decodes) with `NAME.json` or `intrinsics.json` beside, in the form of
`intrinsics.json` of a folder. Reading in order is fast; going back seeks.
"""

from pathlib import Path

import cv2
import numpy as np

from ace_jax.data.intrinsics import FILE_NAME, Intrinsics, read_intrinsics
from ace_jax.data.places import own_path
from ace_jax.data.recording import Recording
from ace_jax.data.sequential import ForwardReader
from ace_jax.data.undistortion import Undistortion
from ace_jax.errors import UserError

_MAX_FRAMES = 10_000_000  # a damaged header must not make us allocate gigabytes


class Video(Recording):
    """The frames of a video file."""

    def __init__(
        self, path: str | Path, *, intrinsics: Intrinsics | None = None, name: str | None = None
    ) -> None:
        """Opens a video.

        Args:
            path: the file.
            intrinsics: instead of those of the file beside.
            name: for messages; the file's name by default.

        Raises:
            UserError: it is missing or no video, or there are no intrinsics.
        """
        path = Path(path)
        name = name or path.name
        if not path.is_file():
            raise UserError(f"no video {path}")
        self._capture = cv2.VideoCapture(str(path))
        count, fps, width, height = (
            self._capture.get(key)
            for key in (
                cv2.CAP_PROP_FRAME_COUNT,
                cv2.CAP_PROP_FPS,
                cv2.CAP_PROP_FRAME_WIDTH,
                cv2.CAP_PROP_FRAME_HEIGHT,
            )
        )
        if not (self._capture.isOpened() and 1 <= count <= _MAX_FRAMES and min(width, height) >= 1):
            raise UserError(f"{path} is no video that OpenCV can decode; convert it to H.264 MP4")
        own = path.with_suffix(".json")
        if intrinsics is None:
            intrinsics = read_intrinsics(own if own.is_file() else path.with_name(FILE_NAME))
        camera = intrinsics.camera(int(width), int(height))
        lens = intrinsics.lens()
        self._undistortion = None if lens is None else Undistortion(camera, lens)
        self._reader = ForwardReader(self._advance, self._seek)
        super().__init__(
            name,
            camera,
            names=[f"{number:06d}" for number in range(int(count))],
            timestamps=np.arange(int(count)) / (fps if 1e-3 < fps < 1e4 else 30.0),
            poses=None,
            has_depth=False,
        )

    def _advance(self) -> tuple[np.ndarray] | None:
        done, image = self._capture.read()
        return (cv2.cvtColor(image, cv2.COLOR_BGR2RGB),) if done else None

    def _seek(self, index: int) -> int:
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        return index

    def _read(self, index: int) -> tuple[np.ndarray, None]:
        (rgb,) = self._reader.read(index)
        return (rgb if self._undistortion is None else self._undistortion(rgb, None)[0]), None


def open_named(rest: str, root: Path, intrinsics: Intrinsics | None = None) -> Video:
    """Opens `video/FILE`."""
    return Video(own_path(rest, root), intrinsics=intrinsics, name=f"video/{rest.strip('/')}")
