"""What both nodes share: topics, TF, diagnostics. This module needs ROS; what it decides does not.

Subscribes `color` (or `color/compressed`), `depth`, `camera_info`; publishes `odometry`, `pose`,
`path`, `/diagnostics` and TF. Times of images are kept: an answer has its image's stamp.
"""

import time
from collections import deque
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseWithCovarianceStamped
from nav_msgs.msg import Odometry, Path
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time
from rosidl_runtime_py.utilities import get_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_ros import Buffer, TransformBroadcaster, TransformException, TransformListener

from ace_jax.data.frame import BadFrame
from ace_jax.data.ros_messages import stamp_of
from ace_jax.errors import UserError
from ace_jax_ros import frames
from ace_jax_ros.estimators import Estimate
from ace_jax_ros.health import Health
from ace_jax_ros.messages import NAMES, Answers
from ace_jax_ros.sync import LatestWorker, Pairing

_TF_WAIT = Duration(seconds=0.1)


class CameraNode(Node):
    """A node that turns images into poses.

    Args:
        name: of the node.
        defaults: its parameters.
        needs_depth: whether colour waits for depth.
    """

    def __init__(self, name: str, defaults: dict[str, Any], needs_depth: bool) -> None:
        super().__init__(name)
        self.settings = {
            key: self.declare_parameter(key, value).value for key, value in defaults.items()
        }
        self.answers = Answers({key: get_message(key) for key in NAMES}, lambda n: bytes([n]))
        self.health = Health(self.settings["lost_after"], self.settings["silent_after"], _now())
        self.map_from_world: np.ndarray | None = None  # known with the first pose
        self._path: deque = deque(maxlen=self.settings["path_length"])
        self._path_at = 0
        self._buffer = Buffer()
        self._listener = TransformListener(self._buffer, self)
        self._broadcaster = TransformBroadcaster(self)
        self._odometry = self.create_publisher(Odometry, "odometry", 10)
        self._pose = self.create_publisher(PoseWithCovarianceStamped, "pose", 10)
        self._path_out = self.create_publisher(Path, "path", 1)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._pairing = None
        if needs_depth:
            self._pairing = Pairing(round(1e9 * self.settings["max_stamp_difference"]))
            self._subscribe(Image, "depth", self._on_depth)
        kind, topic = (Image, "color")
        if self.settings["compressed"]:
            kind, topic = (CompressedImage, "color/compressed")
        self._subscribe(kind, topic, self._on_colour)
        self._subscribe(CameraInfo, "camera_info", self._on_info)
        self.create_timer(1.0, self._report)
        self.worker = LatestWorker(self._work)

    def estimator(self) -> Any:
        """What answers; subclasses have it."""
        raise NotImplementedError

    def _subscribe(self, kind: Any, topic: str, callback: Any) -> None:
        self.create_subscription(kind, topic, callback, qos_profile_sensor_data)

    def _on_info(self, message: CameraInfo) -> None:
        try:
            self.estimator().pictures.calibrate(message)
            self.health.calibrated = True
        except UserError as error:
            self.health.reason = str(error)
            self.get_logger().error(str(error), throttle_duration_sec=5.0)

    def _on_colour(self, message: Any) -> None:
        self.health.image_at = _now()
        if self._pairing is None:
            self._offer((message, None))
        else:
            self._offer(self._pairing.colour(stamp_of(message), message))

    def _on_depth(self, message: Image) -> None:
        self._offer(self._pairing.depth(stamp_of(message), message))

    def _offer(self, pair: Any) -> None:
        if pair is not None and self.health.calibrated:
            self.worker.put(pair)
            self.health.dropped = self.worker.dropped

    def _work(self, pair: Any) -> None:
        """On the worker's thread: one frame."""
        began = time.perf_counter()
        health = self.health
        try:
            estimate = self.estimator()(*pair)
            health.reason, health.inliers = estimate.reason, estimate.inliers
            if estimate.world_from_camera is not None:
                self._publish(estimate)
                health.pose_at = _now()
        except (BadFrame, UserError, ValueError) as error:
            health.reason = str(error)
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)
        except TransformException as error:
            health.reason = f"no TF: {error}"
            self.get_logger().warning(health.reason, throttle_duration_sec=5.0)
        health.milliseconds = 1e3 * (time.perf_counter() - began)
        health.frames, health.frame_at = health.frames + 1, _now()

    def _lookup(self, parent: str, child: str, stamp: int) -> np.ndarray:
        """parent_from_child (4, 4) at a time.

        Raises:
            TransformException: TF does not know it.
        """
        at = Time(nanoseconds=stamp)
        found = self._buffer.lookup_transform(parent, child, at, timeout=_TF_WAIT)
        return frames.motion_of(found.transform)

    def _publish(self, estimate: Estimate) -> None:
        names, make, stamp = self.settings, self.answers, estimate.stamp
        base, camera = names["base_frame"], names["camera_frame"] or estimate.frame_id
        base_from_camera = self._lookup(base, camera, stamp)
        if self.map_from_world is None:
            self.map_from_world = self.first_map(base_from_camera, estimate)
        map_from_camera = self.map_from_world @ estimate.world_from_camera
        map_from_base = frames.base_in_map(
            self.map_from_world, estimate.world_from_camera, base_from_camera
        )
        covariance = frames.base_covariance(estimate.covariance, map_from_camera, base_from_camera)
        header = make.header(stamp, names["map_frame"])
        self._odometry.publish(make.odometry(header, base, map_from_base, covariance))
        self._pose.publish(make.pose_with_covariance(header, map_from_base, covariance))
        if stamp - self._path_at >= 1e9 * names["path_period"]:
            self._path_at = stamp
            self._path.append(make.pose_stamped(header, map_from_base))
            self._path_out.publish(make.path(header, list(self._path)))
        child, motion = base, map_from_base
        if names["odom_frame"]:
            child = names["odom_frame"]
            motion = frames.map_from_odom(map_from_base, self._lookup(child, base, stamp))
        self._broadcaster.sendTransform(make.transform(header, child, motion))

    def first_map(self, base_from_camera: np.ndarray, estimate: Estimate) -> np.ndarray:
        """map_from_world, when the first pose is there."""
        raise NotImplementedError

    def _report(self) -> None:
        level, line, values = self.health.status(_now())
        header = self.answers.header(self.get_clock().now().nanoseconds, "")
        name = f"{self.get_name()}: camera pose"
        self._diagnostics.publish(self.answers.diagnostics(header, name, level, line, values))

    def finish(self) -> None:
        """At the end."""
        self.worker.close()


def _now() -> int:
    """Nanoseconds of a clock that never jumps: a bag's clock may stand still or start again."""
    return time.monotonic_ns()


def spin(make: Any) -> None:
    """Runs a node until Ctrl-C; a user's mistake is one line."""
    rclpy.init()
    node = None
    try:
        node = make()
        rclpy.spin(node)
    except (UserError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    except KeyboardInterrupt:
        pass
    finally:
        if node is not None:
            node.finish()
            node.destroy_node()
        rclpy.try_shutdown()
