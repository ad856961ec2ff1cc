"""Frames of REP 105 and covariances: matrices in, matrices out, no ROS.

`b_from_a` (4, 4) takes points from frame a to frame b. A TF transform from a parent to a child is
`parent_from_child`.
"""

import numpy as np

from ace_jax.geometry.rigid import from_quaternion, invert


def motion_of(transform) -> np.ndarray:
    """(4, 4) of a geometry_msgs Transform: parent_from_child."""
    place, turn = transform.translation, transform.rotation
    wxyz = np.array([turn.w, turn.x, turn.y, turn.z])
    return from_quaternion(wxyz, np.array([place.x, place.y, place.z]))


def motion_of_numbers(values) -> np.ndarray:
    """(4, 4) of x y z qx qy qz qw.

    Raises:
        ValueError: these are not seven numbers, or no rotation.
    """
    numbers = np.asarray(values, np.float64)
    if numbers.shape != (7,) or not np.isfinite(numbers).all() or not numbers[3:].any():
        raise ValueError(f"map_from_world is x y z qx qy qz qw, not {list(values)}")
    return from_quaternion(numbers[[6, 3, 4, 5]], numbers[:3])


def base_in_map(
    map_from_world: np.ndarray, world_from_camera: np.ndarray, base_from_camera: np.ndarray
) -> np.ndarray:
    """map_from_base of an answer."""
    return map_from_world @ world_from_camera @ invert(base_from_camera)


def map_from_odom(map_from_base: np.ndarray, odom_from_base: np.ndarray) -> np.ndarray:
    """What a localizer publishes: the drift of the odometry, both poses being of one instant."""
    return map_from_base @ invert(odom_from_base)


def base_covariance(
    covariance: np.ndarray, map_from_camera: np.ndarray, base_from_camera: np.ndarray
) -> np.ndarray:
    """(6, 6) of the base's pose as ROS wants it: x y z, then rotation about the map's axes.

    The base is the camera's lever: its position is uncertain by the camera's rotation, too.

    Args:
        covariance: (6, 6) of the left tangent (translation, rotation) of camera_from_world, as
            answers have it: exp(e) camera_from_world. The camera then moves by -e in its own axes.
        map_from_camera: (4, 4).
        base_from_camera: (4, 4).
    """
    x, y, z = invert(base_from_camera)[:3, 3]
    lever = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    rotation, jacobian = map_from_camera[:3, :3], np.zeros((6, 6))
    jacobian[:3, :3] = jacobian[3:, 3:] = rotation
    jacobian[:3, 3:] = -rotation @ lever
    return jacobian @ covariance @ jacobian.T
