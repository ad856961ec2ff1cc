"""A ROS 2 node that publishes where the camera is, from an exported map.

  python -m ace_jax.export kitchen.safetensors --out relocalizer
  PYTHONPATH=relocalizer python3 examples/ros2_localizer.py --ros-args \\
      -r image:=/camera/image_rect -r camera_info:=/camera/camera_info

Takes rectified `rgb8` images with their `camera_info` (of the exported size), publishes `pose`
(geometry_msgs/PoseStamped) in the frame `map`. Images without an answer publish nothing.
"""

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from message_filters import Subscriber, TimeSynchronizer
from rclpy.node import Node
from relocalizer import Relocalizer
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import CameraInfo, Image


class Localizer(Node):
    """Answers images with poses."""

    def __init__(self) -> None:
        super().__init__("ace_jax_localizer")
        self.relocalizer, self.poses = Relocalizer(), self.create_publisher(PoseStamped, "pose", 1)
        topics = (Subscriber(self, Image, "image"), Subscriber(self, CameraInfo, "camera_info"))
        self.images = TimeSynchronizer(topics, 1)
        self.images.registerCallback(self.locate)

    def locate(self, image: Image, camera: CameraInfo) -> None:
        """Publishes the pose of one image, if it has one."""
        pixels = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)
        answer = self.relocalizer(pixels, [camera.k[0], camera.k[4], camera.k[2], camera.k[5]])
        if answer.success:
            self.poses.publish(message(answer.world_from_camera, image.header.stamp))


def message(world_from_camera: np.ndarray, stamp: object) -> PoseStamped:
    """The pose (4, 4) as a message."""
    out = PoseStamped()
    out.header.frame_id, out.header.stamp = "map", stamp
    place, turn = out.pose.position, out.pose.orientation
    place.x, place.y, place.z = map(float, world_from_camera[:3, 3])
    quaternion = Rotation.from_matrix(world_from_camera[:3, :3]).as_quat()  # x y z w
    turn.x, turn.y, turn.z, turn.w = map(float, quaternion)
    return out


if __name__ == "__main__":
    rclpy.init()
    rclpy.spin(Localizer())
