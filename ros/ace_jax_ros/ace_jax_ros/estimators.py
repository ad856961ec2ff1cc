"""From messages to estimates: SLAM, and localization in a map; no ROS.

A message is any object with the fields of its ROS type (`ace_jax.data.ros_messages`).
"""

import dataclasses
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ace_jax
from ace_jax.data.ros_messages import camera_of, colour_of, depth_of, stamp_of
from ace_jax.data.undistortion import Undistortion
from ace_jax.geometry.camera import Camera


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What is known of the camera at an image's time.

    Attributes:
        stamp: of the colour image, nanoseconds.
        frame_id: of the colour image: the camera's optical frame.
        world_from_camera: (4, 4), or None.
        covariance: (6, 6), see `frames.base_covariance`.
        inliers: that support the pose.
        reason: why there is no pose; "".
    """

    stamp: int
    frame_id: str
    world_from_camera: np.ndarray | None
    covariance: np.ndarray
    inliers: int
    reason: str = ""


class Pictures:
    """Colour and depth as arrays without lens distortion."""

    def __init__(self) -> None:
        self.camera: Camera | None = None
        self._undistortion: Undistortion | None = None

    def calibrate(self, info: Any) -> None:
        """Takes the first CameraInfo; later ones are ignored.

        Raises:
            UserError: the camera is not calibrated, or its lens model is not supported.
        """
        if self.camera is None:
            camera, lens = camera_of(info, "camera_info")
            self._undistortion = None if lens is None else Undistortion(camera, lens)
            self.camera = camera

    def read(self, colour: Any, depth: Any | None) -> tuple[np.ndarray, np.ndarray | None]:
        """(H, W, 3) uint8 and (H, W) metres.

        Raises:
            BadFrame: an encoding that is not supported, or a damaged image.
        """
        rgb = colour_of(colour)
        metres = None if depth is None else depth_of(depth)
        return (rgb, metres) if self._undistortion is None else self._undistortion(rgb, metres)


class SlamEstimator:
    """SLAM of frames; compiles when the camera is known.

    Args:
        position_sigma: metres, published as the covariance.
        rotation_sigma: radians, likewise.
        **options: of `ace_jax.Slam`.
    """

    def __init__(self, position_sigma: float, rotation_sigma: float, **options: Any) -> None:
        self.pictures, self._options = Pictures(), options
        self._slam: ace_jax.Slam | None = None
        sigmas = np.array([position_sigma] * 3 + [rotation_sigma] * 3)
        self._covariance = np.diag(sigmas**2)

    def __call__(self, colour: Any, depth: Any | None) -> Estimate:
        """The camera's pose in the world of its first frame (or of the session).

        Raises:
            BadFrame, UserError: the frame cannot be used; the next one may.
        """
        rgb, metres = self.pictures.read(colour, depth)
        if self._slam is None:
            self._slam = ace_jax.Slam(self.pictures.camera, realtime=True, **self._options)
        stamp = stamp_of(colour)
        pose = self._slam.track(rgb, metres, 1e-9 * stamp)
        reason = "" if pose.tracked else pose.lost_because or pose.state.lower()
        frame_id = colour.header.frame_id
        return Estimate(
            stamp, frame_id, pose.world_from_camera, self._covariance, pose.inliers, reason
        )

    def save(self, folder: str) -> bool:
        """Writes the trajectory and the map; False if there was no frame."""
        if self._slam is None:
            return False
        self._slam.finish().save(folder)
        return True


class LocalizationEstimator:
    """Each image by itself, in a map.

    Args:
        locate: an image (H, W, 3) and [fx, fy, cx, cy] to an answer: `load_localizer`.
        min_inliers: answers with fewer do not count.
    """

    def __init__(self, locate: Callable[..., Any], min_inliers: int = 0) -> None:
        self.pictures, self._locate, self._min = Pictures(), locate, min_inliers

    def __call__(self, colour: Any, depth: Any | None = None) -> Estimate:
        """The camera's pose in the map's world.

        Raises:
            BadFrame, UserError, ValueError: the image cannot be used; the next one may.
        """
        rgb, _ = self.pictures.read(colour, None)
        camera = self.pictures.camera
        answer = self._locate(rgb, [float(x) for x in camera.intrinsics])
        inliers = int(answer.num_inliers)
        found = bool(answer.success) and inliers >= self._min
        return Estimate(
            stamp_of(colour),
            colour.header.frame_id,
            answer.world_from_camera if found else None,
            np.asarray(answer.covariance, np.float64),
            inliers,
            "" if found else "not recognised",
        )


def load_localizer(path: str) -> Callable[..., Any]:
    """A map file's relocalizer, or that of a folder which `ace-jax export` wrote.

    Raises:
        UserError: there is none.
    """
    folder = Path(path)
    program = folder / "relocalizer.py"
    if not folder.is_dir():
        return ace_jax.Relocalizer.load(path)
    if not program.is_file():
        raise ace_jax.UserError(f"{path} has no relocalizer.py: give a map, or an exported one")
    spec = importlib.util.spec_from_file_location("exported_relocalizer", program)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Relocalizer(folder)
