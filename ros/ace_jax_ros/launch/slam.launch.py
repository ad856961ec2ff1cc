"""`ros2 launch ace_jax_ros slam.launch.py`: the node, with its topics as arguments."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

TOPICS = {
    "color": "/camera/color/image_raw",
    "color/compressed": "/camera/color/image_raw/compressed",
    "depth": "/camera/aligned_depth_to_color/image_raw",
    "camera_info": "/camera/color/camera_info",
}


def generate_launch_description() -> LaunchDescription:
    """What ROS calls."""
    default = PathJoinSubstitution([FindPackageShare("ace_jax_ros"), "config", "slam.yaml"])
    arguments = [DeclareLaunchArgument("params", default_value=default)]
    arguments += [
        DeclareLaunchArgument(name.replace("/", "_"), default_value=topic)
        for name, topic in TOPICS.items()
    ]
    node = Node(
        package="ace_jax_ros",
        executable="slam",
        name="ace_jax_slam",
        parameters=[LaunchConfiguration("params")],
        remappings=[(name, LaunchConfiguration(name.replace("/", "_"))) for name in TOPICS],
        output="screen",
    )
    return LaunchDescription([*arguments, node])
