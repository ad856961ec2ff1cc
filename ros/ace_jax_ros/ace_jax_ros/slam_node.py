"""The node `slam`: RGB-D SLAM. Parameters are those of config/slam.yaml.

The map's origin is the base's first pose, z up if the base's axes are (REP 103); with a session it
is the session's world.
"""

import numpy as np

from ace_jax_ros.estimators import Estimate, SlamEstimator
from ace_jax_ros.node import CameraNode, spin

DEFAULTS = {
    "compressed": False,
    "max_stamp_difference": 0.02,
    "map_frame": "map",
    "odom_frame": "",
    "base_frame": "base_link",
    "camera_frame": "",
    "features": "auto",
    "session": "",
    "frozen": False,
    "close_loops": True,
    "output": "",
    "position_sigma": 0.02,
    "rotation_sigma": 0.01,
    "path_period": 0.2,
    "path_length": 5000,
    "lost_after": 2.0,
    "silent_after": 1.0,
}


class SlamNode(CameraNode):
    """SLAM of the colour and depth topics."""

    def __init__(self) -> None:
        super().__init__("ace_jax_slam", DEFAULTS, needs_depth=True)
        s = self.settings
        self._slam = SlamEstimator(
            s["position_sigma"],
            s["rotation_sigma"],
            features=s["features"],
            session=s["session"] or None,
            frozen=s["frozen"],
            close_loops=s["close_loops"],
        )

    def estimator(self) -> SlamEstimator:
        """SLAM."""
        return self._slam

    def first_map(self, base_from_camera: np.ndarray, estimate: Estimate) -> np.ndarray:
        """The first camera's world, seen from the base; a session's world stays as it is."""
        return np.eye(4) if self.settings["session"] else base_from_camera

    def finish(self) -> None:
        """Writes the map and the trajectory, if asked to."""
        super().finish()
        folder = self.settings["output"]
        if folder and self._slam.save(folder):
            self.get_logger().info(f"written to {folder}")


def main() -> None:
    """`ros2 run ace_jax_ros slam`."""
    spin(SlamNode)
