"""Pose from few landmarks, refined jointly with features matched to the last frame."""

import dataclasses

import numpy as np

from ace_jax.geometry.camera import Camera
from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.slam.mapping.landmark_map import LandmarkMap
from ace_jax.slam.tracking.guided_pose import optimized
from ace_jax.slam.tracking.tracker import Tracked


@dataclasses.dataclass(frozen=True)
class FrameMotion:
    """The pose of a new frame by what it has in common with the last one.

    Attributes:
        camera_from_world: (4, 4) float32.
        points: (N, 3) world, metres: each feature in the last frame, where it was seen there and
            agrees with the pose; otherwise meaningless.
        seen: (N,) bool, whether it was.
    """

    camera_from_world: np.ndarray
    points: np.ndarray
    seen: np.ndarray


def joint_pose(
    landmark_map: LandmarkMap,
    tracked: Tracked,
    motion: FrameMotion,
    camera: Camera,
    noise: NoiseModel,
) -> Tracked:
    """Motion-only optimisation over a frame's landmarks and the features of the last frame.

    The pose stays as it was if the landmarks' majority would have to be given up for it: many
    features of the last frame may be of a person who walks.

    Args:
        landmark_map: the map.
        tracked: the frame, by landmarks.
        motion: the same frame, by the one before.
        camera: intrinsics.
        noise: standard deviations.
    """
    known = tracked.landmarks >= 0
    of_map = landmark_map.points[tracked.landmarks]
    points = np.where(known[:, None], of_map, motion.points).astype(np.float32)
    found = known | motion.seen
    start, features = tracked.camera_from_world, tracked.features
    pose, agreeing = optimized(start, points, features, found, found, camera, noise)
    if 2 * np.sum(known & agreeing) <= np.sum(known):
        return tracked
    return dataclasses.replace(tracked, camera_from_world=pose)
