"""What the launch files share; it imports ROS's `launch`."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

PACKAGE = "ace_jax_ros"
# By a node's name for it; the defaults are those of a RealSense with "align depth to colour".
TOPICS = {
    "color": "/camera/color/image_raw",
    "color/compressed": "/camera/color/image_raw/compressed",
    "depth": "/camera/aligned_depth_to_color/image_raw",
    "camera_info": "/camera/color/camera_info",
}


def describe(name: str) -> LaunchDescription:
    """One node, with its topics and its file of parameters as arguments.

    Args:
        name: of the executable, of `config/NAME.yaml`, and of the node: `ace_jax_NAME`.
    """
    parameters = PathJoinSubstitution([FindPackageShare(PACKAGE), "config", f"{name}.yaml"])
    arguments = {topic: topic.replace("/", "_") for topic in TOPICS}
    node = Node(
        package=PACKAGE,
        executable=name,
        name=f"ace_jax_{name}",
        parameters=[LaunchConfiguration("params")],
        remappings=[(topic, LaunchConfiguration(given)) for topic, given in arguments.items()],
        output="screen",
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument("params", default_value=parameters),
            *(
                DeclareLaunchArgument(given, default_value=TOPICS[topic])
                for topic, given in arguments.items()
            ),
            node,
        ]
    )
