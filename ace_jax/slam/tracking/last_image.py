"""Dense alignment with the last tracked image, for frames in which too few landmarks are found.

Features need texture and sharp images. In a fast turn, under motion blur or above a bare floor few
of them match; dense alignment of the RGB-D images still estimates the motion.
"""

import numpy as np

from ace_jax.data.frame import Frame
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.dense_alignment import DenseImage, align, dense_image, small_size
from ace_jax.geometry.rigid import invert
from ace_jax.slam.config import SlamConfig


class LastImage:
    """Keeps one image; it is made small when it is asked for.

    Args:
        camera: intrinsics of the frames.
        config: its `dense_*` constants.
    """

    def __init__(self, camera: Camera, config: SlamConfig) -> None:
        self._camera, self._config = camera, config
        self._frame: Frame | None = None
        self._small: DenseImage | None = None

    def warm_up(self) -> None:
        """Compiles the alignment with a blank image."""
        width, height = small_size(self._camera)
        blank = DenseImage(*np.zeros((2, height, width), np.float32))
        align(blank, blank, self._camera, np.eye(4, dtype=np.float32))

    def remember(self, frame: Frame) -> None:
        """Takes a tracked frame."""
        self._frame = None if frame.depth is None else frame
        self._small = None

    def age(self, timestamp: float) -> float:
        """Seconds since the image was taken; infinite if there is none."""
        return np.inf if self._frame is None else timestamp - self._frame.timestamp

    def pose_of(
        self, frame: Frame, last: np.ndarray, predicted: np.ndarray | None
    ) -> np.ndarray | None:
        """Pose of a new frame by dense alignment, or None where the images do not agree.

        Args:
            frame: the new one.
            last: (4, 4) camera_from_world of the remembered frame, as known now.
            predicted: (4, 4) camera_from_world that is tried first; then the last pose is.

        Returns:
            (4, 4) float32 camera_from_world.
        """
        if self._frame is None or frame.depth is None:
            return None
        if self._small is None:
            self._small = dense_image(self._frame.rgb, self._frame.depth, self._camera)
        image = dense_image(frame.rgb, frame.depth, self._camera)
        starts = [np.eye(4)]
        if predicted is not None:
            starts.insert(0, predicted @ invert(last))
        config = self._config
        for start in starts:
            found = align(self._small, image, self._camera, start.astype(np.float32))
            if (
                found.agreement > config.dense_agreement
                and found.overlap > config.dense_overlap
                and found.deviation[0] < config.dense_deviation[0]
                and found.deviation[1] < config.dense_deviation[1]
            ):
                return (np.asarray(found.pose, np.float64) @ last).astype(np.float32)
        return None
