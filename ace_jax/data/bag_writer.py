"""Writes any frame source as a ROS 2 bag in MCAP, through `rosbags` (extra `bags`; no ROS needed).

Foxglove opens the `.mcap` file, `ros2 bag play` the folder, and `data.bag` reads either. Colour is
PNG without loss, depth 16UC1 in millimetres, registered to colour; poses are `tf` from `map` to
the camera and a `PoseStamped` topic beside it. Coordinates of `CameraInfo` are OpenCV's, as ours.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ace_jax.data.frame import Frame, FrameSource
from ace_jax.data.images import SATURATED
from ace_jax.data.recording import iterate
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import to_quaternion

WORLD, OPTICAL = "map", "camera_color_optical_frame"
# Of a RealSense, by which the reader (and much else) knows which depth is registered.
TOPICS = {
    "/camera/color/camera_info": "sensor_msgs/msg/CameraInfo",
    "/camera/color/image_raw/compressed": "sensor_msgs/msg/CompressedImage",
    "/camera/aligned_depth_to_color/image_raw": "sensor_msgs/msg/Image",
    "/camera/pose": "geometry_msgs/msg/PoseStamped",
    "/tf": "tf2_msgs/msg/TFMessage",
}
_INFO, _COLOUR, _DEPTH, _POSE, _TF = TOPICS
_MILLIMETRES = 1000.0


def write_bag(source: FrameSource, folder: str | Path) -> int:
    """Writes a source to a new folder; frames that cannot be read are left out with a log line.

    Args:
        source: colour, with or without depth and poses. Its times are those of the messages.
        folder: created; must not exist.

    Returns:
        How many frames were written.

    Raises:
        UserError: `rosbags` is missing, the folder is in use, times are negative, full disk.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} is in use: name a new folder")
    if source.timestamps().min(initial=0.0) < 0:
        raise UserError(f"{source.name}: times of ROS messages cannot be negative")
    try:
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise UserError("bags need the extra `bags`: pip install rosbags") from error
    store = get_typestore(Stores.ROS2_HUMBLE)
    messages, count = Messages(store.types), 0
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
            connections: dict[str, Any] = {}  # of what there is: no topic stays empty
            for frame in iterate(source):
                for topic, message in messages.of(frame):
                    kind = TOPICS[topic]
                    if topic not in connections:
                        connections[topic] = writer.add_connection(topic, kind, typestore=store)
                    data = store.serialize_cdr(message, kind)
                    writer.write(connections[topic], nanoseconds(frame.timestamp), data)
                count += 1
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error}") from error
    return count


def nanoseconds(seconds: float) -> int:
    """Whole nanoseconds, of which float64 seconds of today have about 240."""
    return round(seconds * 1e9)


class Messages:
    """Frames as ROS 2 messages.

    Args:
        types: constructors by the messages' names, such as a typestore's of `rosbags`.
    """

    def __init__(self, types: dict[str, Any]) -> None:
        self._types = types

    def of(self, frame: Frame) -> list[tuple[str, Any]]:
        """Topics and messages of a frame."""
        stamp = nanoseconds(frame.timestamp)
        header = self.header(stamp, OPTICAL)
        found = [(_INFO, self.camera_info(header, frame.camera))]
        done, png = cv2.imencode(".png", frame.rgb[:, :, ::-1])
        assert done
        compressed = self._types[TOPICS[_COLOUR]](header=header, format="png", data=png.ravel())
        found.append((_COLOUR, compressed))
        if frame.depth is not None:
            found.append((_DEPTH, self.depth(header, frame.depth)))
        if frame.world_from_camera is not None:
            header = self.header(stamp, WORLD)
            pose = self.pose(frame.world_from_camera)
            found.append((_POSE, self._types[TOPICS[_POSE]](header=header, pose=pose)))
            moved = self.transform(header, OPTICAL, frame.world_from_camera)
            found.append((_TF, self._types[TOPICS[_TF]](transforms=[moved])))
        return found

    def header(self, stamp: int, frame_id: str) -> Any:
        """A header; the stamp is in nanoseconds."""
        whole, rest = divmod(stamp, 10**9)
        made = self._types["builtin_interfaces/msg/Time"](sec=whole, nanosec=rest)
        return self._types["std_msgs/msg/Header"](stamp=made, frame_id=frame_id)

    def camera_info(self, header: Any, camera: Camera) -> Any:
        """Intrinsics of undistorted images."""
        fx, fy, cx, cy = (float(getattr(camera, name)) for name in ("fx", "fy", "cx", "cy"))
        return self._types[TOPICS[_INFO]](
            header=header,
            height=camera.height,
            width=camera.width,
            distortion_model="plumb_bob",
            d=np.zeros(5),
            k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1.0]),
            r=np.eye(3).ravel(),
            p=np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1.0, 0]),
            binning_x=0,
            binning_y=0,
            roi=self._types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
        )

    def depth(self, header: Any, depth: np.ndarray) -> Any:
        """Depth (H, W) in metres as millimetres; 0 where it is unknown or beyond 16 bits."""
        units = np.rint(np.nan_to_num(depth, posinf=0.0, neginf=0.0) * _MILLIMETRES)
        units = np.where((units > 0) & (units < SATURATED), units, 0).astype("<u2")
        return self._types[TOPICS[_DEPTH]](
            header=header,
            height=units.shape[0],
            width=units.shape[1],
            encoding="16UC1",
            is_bigendian=0,
            step=units.strides[0],
            data=units.reshape(-1).view(np.uint8),
        )

    def pose(self, motion: np.ndarray) -> Any:
        """A Pose of a motion (4, 4)."""
        place, turn = _numbers(motion)
        return self._types["geometry_msgs/msg/Pose"](
            position=self._types["geometry_msgs/msg/Point"](**place),
            orientation=self._types["geometry_msgs/msg/Quaternion"](**turn),
        )

    def transform(self, header: Any, child: str, motion: np.ndarray) -> Any:
        """A TransformStamped: motion (4, 4) takes points from the child to the header's frame."""
        place, turn = _numbers(motion)
        return self._types["geometry_msgs/msg/TransformStamped"](
            header=header,
            child_frame_id=child,
            transform=self._types["geometry_msgs/msg/Transform"](
                translation=self._types["geometry_msgs/msg/Vector3"](**place),
                rotation=self._types["geometry_msgs/msg/Quaternion"](**turn),
            ),
        )


def _numbers(motion: np.ndarray) -> tuple[dict[str, float], dict[str, float]]:
    """Translation and quaternion by the names of their fields."""
    quaternion = to_quaternion(motion[:3, :3])
    return (
        dict(zip("xyz", map(float, motion[:3, 3]), strict=True)),
        dict(zip("wxyz", map(float, quaternion), strict=True)),
    )
