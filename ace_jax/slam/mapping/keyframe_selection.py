"""Keyframe selection by the criteria of ORB-SLAM2 (Mur-Artal and Tardos, T-RO 2017, III-E)."""

import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.rigid import difference, invert
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.mapping.landmark_map import LandmarkMap


class KeyframeSelection:
    """Decides on each tracked frame.

    Args:
        config: its `keyframe_*` constants.

    Attributes:
        since_keyframe: frames tracked since the newest keyframe.
    """

    def __init__(self, config: SlamConfig) -> None:
        self._config = config
        self.since_keyframe = 0

    @staticmethod
    def reference(
        landmark_map: LandmarkMap, landmarks: np.ndarray, camera_from_world: np.ndarray
    ) -> tuple[int, np.ndarray, np.ndarray]:
        """The keyframe that a frame's pose is relative to.

        Args:
            landmark_map: the map.
            landmarks: (N,) slot of each feature's landmark, -1 where there is none.
            camera_from_world: (4, 4) of the frame.

        Returns:
            The keyframe that shares most landmarks with it (the newest of several), the (4, 4)
            motion from it, and the numbers of all keyframes that share some.
        """
        shared = landmark_map.covisibility(landmarks)
        most = len(shared) - 1 - int(np.argmax(shared[::-1]))
        keyframes = landmark_map.keyframes
        reference = most if shared[most] else keyframes.newest
        relative = camera_from_world @ invert(keyframes[reference].camera_from_world)
        return reference, relative, np.flatnonzero(shared)

    def wanted(
        self,
        landmark_map: LandmarkMap,
        features: Features,
        landmarks: np.ndarray,
        camera_from_world: np.ndarray,
        reference: int,
        covisible: np.ndarray,
    ) -> bool:
        """Whether a tracked frame should become a keyframe.

        Args:
            landmark_map: the map.
            features: N features of the frame.
            landmarks: (N,) slot of each feature's landmark, -1 where there is none.
            camera_from_world: (4, 4).
            reference: the keyframe that shares most landmarks with the frame.
            covisible: numbers of all keyframes that share some.
        """
        config = self._config
        known = features.depth > 0
        if known.sum() < config.min_inliers or self.since_keyframe < config.keyframe_min_gap:
            return False
        if len(covisible) == 0:
            return True
        # Little of this view is in the map, and much could be.
        tracked, new = landmarks >= 0, (landmarks < 0) & known
        if tracked.sum() < config.keyframe_min_tracked and new.sum() > config.keyframe_min_new:
            return True
        # Another view than that of the most similar keyframe.
        theirs = landmark_map.landmarks_of(reference)
        theirs = theirs[theirs >= 0]
        if np.isin(theirs, landmarks[tracked]).sum() < config.keyframe_overlap * len(theirs):
            return True
        # Far from all keyframes that see the same.
        poses = np.stack([landmark_map.keyframes[n].camera_from_world for n in covisible])
        metres, radians = difference(poses, camera_from_world)
        return not np.any(
            (metres < config.keyframe_translation) & (radians < config.keyframe_rotation)
        )
