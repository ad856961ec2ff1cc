"""`ros2 launch ace_jax_ros slam.launch.py`: the node, with its topics as arguments."""

from ace_jax_ros.launching import describe
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """What ROS calls."""
    return describe("slam")
