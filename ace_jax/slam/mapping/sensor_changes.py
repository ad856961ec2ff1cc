"""Updates of a map when the calibration of its sensor changes: depth correction, readout time."""

import numpy as np

from ace_jax.geometry.camera import Camera
from ace_jax.geometry.depth_calibration import LEAST_CHANGE
from ace_jax.geometry.host_camera import rays
from ace_jax.geometry.rigid import transform
from ace_jax.slam.mapping.landmark_map import LandmarkMap


def calibrate_depth(landmark_map: LandmarkMap, calibration: np.ndarray, camera: Camera) -> None:
    """Corrects the depths of all keyframes by another calibration (12,); landmarks stay.

    A change of less than `LEAST_CHANGE` is not worth it.
    """
    before = landmark_map.depth_calibration
    if np.abs(calibration - before).max() < LEAST_CHANGE:
        return
    for keyframe in landmark_map.keyframes.values():
        keyframe.correct_depth(before, calibration, camera)
    landmark_map.depth_calibration = calibration


def set_readout(landmark_map: LandmarkMap, readout: float, before: float, camera: Camera) -> None:
    """Corrects all keyframes and landmarks for a readout of other seconds than before.

    A landmark moves as the features that show it do, on average.
    """
    moved, count = np.zeros((landmark_map.capacity, 3)), np.zeros(landmark_map.capacity)
    for number, keyframe in landmark_map.keyframes.items():
        landmarks = landmark_map.landmarks_of(number)
        features = np.flatnonzero(landmarks >= 0)
        slots, old = landmarks[features], keyframe.uv[features]
        keyframe.unroll(readout - before)
        depth = transform(keyframe.camera_from_world, landmark_map.points[slots])[:, 2]
        shift = rays(keyframe.uv[features], camera) - rays(old, camera)
        moved[slots] += (shift * depth[:, None]) @ keyframe.camera_from_world[:3, :3]
        count[slots] += 1
    landmark_map.points += (moved / np.maximum(count, 1)[:, None]).astype(np.float32)
    landmark_map.readout = readout
    if landmark_map.settled_readout is None:
        landmark_map.settled_readout = readout
