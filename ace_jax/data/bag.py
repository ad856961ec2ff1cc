"""ROS 1 and ROS 2 bags and MCAP files, through `rosbags` (extra `bags`; no ROS needed).

Topics are found by type: the first image topic whose name does not say depth is colour (raw or
compressed), one whose name does is depth (16UC1 in millimetres, or 32FC1 in metres), and intrinsics
are the `camera_info` of the colour topic's namespace. Depth must be registered to colour (ROS names
that topic `depth_registered` or `aligned_depth_to_color`). Times are those of the headers. Poses
are not read: what a bag holds are those of a robot or a marker, not the camera's; give them by
--poses.
"""

import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ace_jax.data.association import MAX_DIFFERENCE, associate
from ace_jax.data.frame import BadFrame
from ace_jax.data.places import own_path
from ace_jax.data.recording import Recording
from ace_jax.data.ros_messages import camera_of, colour_of, depth_of
from ace_jax.data.undistortion import Undistortion
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.distortion import Distortion

_IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
_INFO = "sensor_msgs/msg/CameraInfo"


class Bag(Recording):
    """One bag; frames are the colour images, with the depth images nearest in time.

    Attributes:
        topics: names of the topics of colour, depth (or None) and intrinsics.
    """

    def __init__(self, path: str | Path, *, name: str | None = None) -> None:
        """Reads the bag's index once.

        Args:
            path: a `.bag` or `.mcap` file, or the folder of a ROS 2 bag.
            name: for messages; the file's name by default.

        Raises:
            UserError: `rosbags` is missing, or the bag is damaged or has no images.
        """
        path = Path(path)
        name = name or path.name
        # One thread for all access: a bag has one position, and SQLite insists on its thread.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bag")
        self._thread.submit(self._prepare, path, name).result()

    def _prepare(self, path: Path, name: str) -> None:
        self._reader = _open(path)
        try:
            colour, depth, info = _topics(self._reader, name)
            self.topics = (colour.topic, depth.topic if depth else None, info.topic)
            camera, lens = self._camera(info, name)
            times, self._colour_at = self._index(colour)
            self._depth_at = None
            if depth is not None:
                depth_times, depth_at = self._index(depth)
                i, j = associate(times, depth_times, MAX_DIFFERENCE)
                if not len(i):
                    raise UserError(
                        f"{name}: no image of {colour.topic} has one of {depth.topic} within "
                        f"{MAX_DIFFERENCE} s"
                    )
                times = times[i]
                self._colour_at = [self._colour_at[place] for place in i]
                self._depth_at = [depth_at[place] for place in j]
        except UserError:
            raise
        except Exception as error:  # rosbags raises errors of many libraries on damaged files
            raise UserError(f"{path} is damaged or no bag: {_one_line(error)}") from error
        self._connections = (colour, depth)
        self._undistortion = None if lens is None else Undistortion(camera, lens)
        super().__init__(
            name,
            camera,
            names=[f"{t:.6f}" for t in times],
            timestamps=times,
            poses=None,
            has_depth=depth is not None,
        )

    def _index(self, connection: Any) -> tuple[np.ndarray, list[int]]:
        """Header times (N,) in seconds, and bag times in ns, by which a message is found again."""
        stamps, positions = [], []
        layout, at = ("<iI", 4) if self._reader.is2 else ("<II", 4)
        for _, position, data in self._reader.messages([connection]):
            seconds, nanoseconds = struct.unpack_from(layout, data, at)
            stamps.append(seconds + 1e-9 * nanoseconds)
            positions.append(position)
        return np.array(stamps), positions

    def _camera(self, connection: Any, name: str) -> tuple[Camera, Distortion | None]:
        first = next(iter(self._reader.messages([connection])), None)
        if first is None:
            raise UserError(f"{name}: no message of {connection.topic}, which has the intrinsics")
        message = self._reader.deserialize(first[2], connection.msgtype)
        return camera_of(message, connection.topic)

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        try:
            rgb = colour_of(self._message(self._connections[0], self._colour_at[index]))
            depth = None
            if self._depth_at is not None:
                depth = depth_of(self._message(self._connections[1], self._depth_at[index]))
        except BadFrame:
            raise
        except Exception as error:
            raise BadFrame(f"{self.name}: frame {index}: {_one_line(error)}") from error
        return (rgb, depth) if self._undistortion is None else self._undistortion(rgb, depth)

    def _message(self, connection: Any, position: int) -> Any:
        def fetch() -> Any:
            wanted = self._reader.messages([connection], start=position, stop=position + 1)
            return self._reader.deserialize(next(iter(wanted))[2], connection.msgtype)

        return self._thread.submit(fetch).result()


def _open(path: Path) -> Any:
    if not path.exists():
        raise UserError(f"no bag {path}")
    try:
        from rosbags.highlevel import AnyReader
        from rosbags.typesys import Stores, get_typestore
    except ImportError as error:
        raise UserError("bags need the extra `bags`: pip install rosbags") from error
    try:
        reader = AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE))
        reader.open()
    except Exception as error:
        raise UserError(f"{path} is damaged or no bag: {_one_line(error)}") from error
    return reader


def _topics(reader: Any, name: str) -> tuple[Any, Any, Any]:
    images = [c for c in reader.connections if c.msgtype in _IMAGES]
    colour = [c for c in images if "depth" not in c.topic.lower()]
    depth = [c for c in images if "depth" in c.topic.lower() and c.msgtype == _IMAGES[0]]
    if not colour:
        seen = ", ".join(sorted({c.topic for c in reader.connections})[:8])
        raise UserError(f"{name}: no topic of colour images; it has {seen or 'no topics'}")
    # Names like /camera/color/image_raw come before /camera/infra1/image_raw.
    colour.sort(key=lambda c: not any(word in c.topic for word in ("color", "rgb")))
    depth.sort(key=lambda c: not any(word in c.topic for word in ("registered", "aligned")))
    infos = [c for c in reader.connections if c.msgtype == _INFO]
    if not infos:
        raise UserError(f"{name}: no camera_info topic; record it with the images")
    infos.sort(key=lambda c: -_common(c.topic, colour[0].topic))
    return colour[0], depth[0] if depth else None, infos[0]


def _common(first: str, second: str) -> int:
    """How many leading parts two topics share."""
    parts = zip(first.split("/"), second.split("/"), strict=False)
    return next((i for i, (a, b) in enumerate(parts) if a != b), 99)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def open_named(rest: str, root: Path) -> Bag:
    """Opens `bag/PATH`."""
    return Bag(own_path(rest, root), name=f"bag/{rest.strip('/')}")
