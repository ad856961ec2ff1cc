"""Messages of ROS as frames: for bags (`data.bag`) and the nodes under `ros/`; no ROS is needed.

A message is any object with the fields of its ROS type, such as those of `rclpy` and `rosbags`.
"""

from typing import Any

import cv2
import numpy as np

from ace_jax.data.frame import BadFrame
from ace_jax.data.images import MAX_PIXELS
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.distortion import Distortion, Fisheye, RadialTangential
from ace_jax.geometry.host_camera import camera_from_matrix

_TO_RGB = {
    "rgb8": None,
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
}


def stamp_of(message: Any) -> int:
    """Nanoseconds of a ROS 2 message's header."""
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


def camera_of(message: Any, topic: str) -> tuple[Camera, Distortion | None]:
    """Intrinsics and lens (None: the images are undistorted) of a CameraInfo.

    Args:
        message: of ROS 1 or 2.
        topic: for messages.

    Raises:
        UserError: the camera is not calibrated, or its distortion model is not supported.
    """
    values = message.K if hasattr(message, "K") else message.k
    lens = np.array(message.D if hasattr(message, "D") else message.d, np.float64).ravel()
    k = np.array(values, np.float64).reshape(3, 3)
    if min(k[0, 0], k[1, 1]) <= 0 or not (np.isfinite(k).all() and np.isfinite(lens).all()):
        raise UserError(f"{topic} says no focal length; calibrate the camera")
    camera = camera_from_matrix(k, int(message.width), int(message.height))
    if not np.any(lens):
        return camera, None
    if message.distortion_model in ("plumb_bob", "rational_polynomial") and len(lens) <= 8:
        return camera, RadialTangential(*lens.tolist())
    if message.distortion_model in ("equidistant", "fisheye") and len(lens) == 4:
        return camera, Fisheye(*lens.tolist())
    raise UserError(
        f"{topic}: the distortion model {message.distortion_model!r} is not supported; record "
        "the rectified topic"
    )


def colour_of(message: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an Image or a CompressedImage.

    Raises:
        BadFrame: its encoding is another, or it is damaged.
    """
    if hasattr(message, "format"):  # CompressedImage
        image = cv2.imdecode(np.asarray(message.data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise BadFrame("a compressed image cannot be decoded")
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if message.encoding not in _TO_RGB:
        raise BadFrame(f"the encoding {message.encoding!r} is not supported")
    channels = {"mono8": 1, "rgba8": 4, "bgra8": 4}.get(message.encoding, 3)
    image = _pixels(message, np.dtype(np.uint8), channels)
    conversion = _TO_RGB[message.encoding]
    return image if conversion is None else cv2.cvtColor(image, conversion)


def depth_of(message: Any) -> np.ndarray:
    """(H, W) float32 metres, 0 where unknown, of an Image: 16UC1 millimetres or 32FC1 metres.

    Raises:
        BadFrame: its encoding is another, or it is damaged.
    """
    if message.encoding in ("16UC1", "mono16"):
        units = _pixels(message, np.dtype(np.uint16), 1)[:, :, 0]
        return np.where(units == 65535, np.float32(0), units * np.float32(1e-3))
    if message.encoding == "32FC1":
        depth = _pixels(message, np.dtype(np.float32), 1)[:, :, 0]
        return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
    raise BadFrame(f"the depth encoding {message.encoding!r} is not supported")


def _pixels(message: Any, dtype: np.dtype, channels: int) -> np.ndarray:
    """(H, W, channels) of a raw image, whose rows may be padded."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    if height * width > MAX_PIXELS or step < width * channels * dtype.itemsize:
        raise BadFrame(f"an image of {width} x {height} with rows of {step} bytes")
    rows = np.asarray(message.data, np.uint8).reshape(height, step)
    rows = np.ascontiguousarray(rows[:, : width * channels * dtype.itemsize])
    image = rows.view(dtype.newbyteorder(">" if message.is_bigendian else "<"))
    return image.astype(dtype, copy=False).reshape(height, width, channels)
