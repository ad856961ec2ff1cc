"""Answers as messages. Types are looked up by name, so that `rosbags` can stand for ROS."""

from typing import Any

import numpy as np

from ace_jax.data.bag_writer import Messages

# Every type that the nodes make.
NAMES = (
    "builtin_interfaces/msg/Time",
    "std_msgs/msg/Header",
    "geometry_msgs/msg/Point",
    "geometry_msgs/msg/Vector3",
    "geometry_msgs/msg/Quaternion",
    "geometry_msgs/msg/Pose",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovariance",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "geometry_msgs/msg/Transform",
    "geometry_msgs/msg/TransformStamped",
    "geometry_msgs/msg/Twist",
    "geometry_msgs/msg/TwistWithCovariance",
    "nav_msgs/msg/Odometry",
    "nav_msgs/msg/Path",
    "diagnostic_msgs/msg/DiagnosticArray",
    "diagnostic_msgs/msg/DiagnosticStatus",
    "diagnostic_msgs/msg/KeyValue",
)
_UNKNOWN = -1.0  # first entry of a covariance that is not known


class Answers(Messages):
    """Makes messages of poses (4, 4).

    Args:
        types: constructors by the names in `NAMES`.
        byte: makes `DiagnosticStatus.level`; `rclpy` wants bytes of length 1, others an int.
    """

    def __init__(self, types: dict[str, Any], byte: Any = int) -> None:
        super().__init__(types)
        self._byte = byte

    def _make(self, name: str, /, **fields: Any) -> Any:
        return self._types[name](**fields)

    def pose_stamped(self, header: Any, motion: np.ndarray) -> Any:
        """A PoseStamped."""
        return self._make("geometry_msgs/msg/PoseStamped", header=header, pose=self.pose(motion))

    def with_covariance(self, motion: np.ndarray, covariance: np.ndarray) -> Any:
        """A PoseWithCovariance; covariance (6, 6) of x y z and rotation about the parent's axes."""
        return self._make(
            "geometry_msgs/msg/PoseWithCovariance",
            pose=self.pose(motion),
            covariance=np.ascontiguousarray(covariance, np.float64).ravel(),
        )

    def pose_with_covariance(self, header: Any, motion: np.ndarray, covariance: np.ndarray) -> Any:
        """A PoseWithCovarianceStamped."""
        pose = self.with_covariance(motion, covariance)
        return self._make("geometry_msgs/msg/PoseWithCovarianceStamped", header=header, pose=pose)

    def odometry(self, header: Any, child: str, motion: np.ndarray, covariance: np.ndarray) -> Any:
        """An Odometry; the twist is marked as not known."""
        still = {"x": 0.0, "y": 0.0, "z": 0.0}
        twist = self._make(
            "geometry_msgs/msg/Twist",
            linear=self._make("geometry_msgs/msg/Vector3", **still),
            angular=self._make("geometry_msgs/msg/Vector3", **still),
        )
        unknown = np.zeros(36)
        unknown[0] = _UNKNOWN
        return self._make(
            "nav_msgs/msg/Odometry",
            header=header,
            child_frame_id=child,
            pose=self.with_covariance(motion, covariance),
            twist=self._make(
                "geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=unknown
            ),
        )

    def path(self, header: Any, poses: list[Any]) -> Any:
        """A Path of PoseStamped."""
        return self._make("nav_msgs/msg/Path", header=header, poses=poses)

    def diagnostics(
        self, header: Any, name: str, level: int, line: str, values: dict[str, str]
    ) -> Any:
        """A DiagnosticArray with one status."""
        pairs = [
            self._make("diagnostic_msgs/msg/KeyValue", key=key, value=value)
            for key, value in values.items()
        ]
        status = self._make(
            "diagnostic_msgs/msg/DiagnosticStatus",
            level=self._byte(level),
            name=name,
            message=line,
            hardware_id="",
            values=pairs,
        )
        return self._make("diagnostic_msgs/msg/DiagnosticArray", header=header, status=[status])
