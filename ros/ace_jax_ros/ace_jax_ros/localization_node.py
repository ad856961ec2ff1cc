"""The node `localization`: where the camera is in a map, image by image.

Parameters are those of config/localization.yaml; `map` is needed.
"""

import numpy as np

from ace_jax.errors import UserError
from ace_jax_ros.estimators import Estimate, LocalizationEstimator, load_localizer
from ace_jax_ros.frames import motion_of_numbers
from ace_jax_ros.node import CameraNode, spin

DEFAULTS = {
    "map": "",
    "compressed": False,
    "map_frame": "map",
    "odom_frame": "odom",
    "base_frame": "base_link",
    "camera_frame": "",
    "map_from_world": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
    "min_inliers": 0,
    "lost_after": 5.0,
    "silent_after": 1.0,
    "path_period": 0.2,
    "path_length": 5000,
}


class LocalizationNode(CameraNode):
    """Localization of the colour topic."""

    def __init__(self) -> None:
        super().__init__("ace_jax_localization", DEFAULTS, needs_depth=False)
        if not self.settings["map"]:
            raise UserError("the parameter `map` is missing: a map file, or an exported folder")
        self._given = motion_of_numbers(self.settings["map_from_world"])
        locate = load_localizer(self.settings["map"])
        self._localizer = LocalizationEstimator(locate, self.settings["min_inliers"])

    def estimator(self) -> LocalizationEstimator:
        """The map."""
        return self._localizer

    def first_map(self, base_from_camera: np.ndarray, estimate: Estimate) -> np.ndarray:
        """As the parameters say."""
        return self._given


def main() -> None:
    """`ros2 run ace_jax_ros localization`."""
    spin(LocalizationNode)
