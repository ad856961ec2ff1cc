"""Rolling shutter: features are corrected for it, and its readout time is learned from them."""

import numpy as np

from ace_jax.data.frame import Frame
from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.readout_calibration import (
    LEAST_CHANGE,
    LONGEST_INTERVAL,
    MAX_MATCHES,
    MIN_MATCHES,
    SeenPoints,
    pixel_rate,
    readout_of_pair,
)
from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.geometry.rigid import invert
from ace_jax.geometry.rolling_shutter import unroll
from ace_jax.slam.frame_poses import FramePoses
from ace_jax.slam.mapping.atlas import Atlas
from ace_jax.slam.mapping.sensor_changes import set_readout
from ace_jax.slam.tracking.tracker import Tracked


class RollingShutter:
    """Corrects the features of frames, with the readout time of the map that they are tracked in.

    Args:
        camera: intrinsics.
        atlas: the maps, which know the sensor.
        poses: of the frames so far, of which the camera's velocity is known.
    """

    def __init__(self, camera: Camera, atlas: Atlas, poses: FramePoses) -> None:
        self._camera, self._atlas, self._poses = camera, atlas, poses

    def readout(self, frame: Frame) -> float:
        """Seconds, as the current map has it; of a map that does not know, as stated."""
        known = self._atlas.landmark_map.readout
        return frame.readout if known is None else known

    def unrolled(
        self, frame: Frame, features: Features, camera_from_world: np.ndarray | None = None
    ) -> Features:
        """Features without the rolling shutter's distortion, at a pose if one is known already."""
        readout = self.readout(frame)
        if readout == 0:
            return features
        motion = self._poses.motion_to(camera_from_world, frame.timestamp)
        if motion is None:
            return features
        uv = unroll(features.uv, features.depth, self._camera, motion, readout)
        return features.replace(uv=np.where(features.mask[:, None], uv, 0.0).astype(np.float32))

    def rate(
        self, features: Features, camera_from_world: np.ndarray, timestamp: float
    ) -> np.ndarray | None:
        """(N, 2) pixels by which features move for each second of readout; None: motion unknown."""
        motion = self._poses.motion_to(camera_from_world, timestamp)
        if motion is None:
            return None
        rate = pixel_rate(features.uv, features.depth, self._camera, motion)
        return np.where(features.mask[:, None], rate, 0.0).astype(np.float32)

    def learn(
        self, frame: Frame, measured: Features, tracked: Tracked, reference: int, noise: NoiseModel
    ) -> None:
        """Learns the readout time from a tracked frame and a keyframe.

        Args:
            frame: the frame, which is not among the poses yet.
            measured: its N features with the shutter's distortion.
            tracked: its pose and landmarks.
            reference: number of the keyframe.
            noise: standard deviations.
        """
        landmark_map, frames = self._atlas.landmark_map, self._poses.frames
        keyframe = landmark_map.keyframes[reference]
        if keyframe.uv_rate is None or not frames:
            return
        if not 0 < frame.timestamp - frames[-1].timestamp <= LONGEST_INTERVAL:
            return
        theirs = landmark_map.landmarks_of(reference)
        usable = (theirs >= 0) & (keyframe.depth > 0)
        _, first, second = np.intersect1d(
            np.where(usable, theirs, -1), np.where(tracked.landmarks >= 0, tracked.landmarks, -2),
            return_indices=True,
        )  # fmt: skip
        if len(first) < MIN_MATCHES:
            return
        every = slice(None, None, -(-len(first) // MAX_MATCHES))
        first, second = first[every], second[every]
        seen = measured.replace(
            uv=measured.uv[second], depth=measured.depth[second], mask=measured.mask[second]
        )
        rate = self.rate(seen, tracked.camera_from_world, frame.timestamp)
        if rate is None:
            return
        readout = self.readout(frame)
        their_rate = keyframe.uv_rate[first]
        raw = keyframe.uv[first] - readout * their_rate
        found = readout_of_pair(
            SeenPoints(raw, keyframe.depth[first], their_rate),
            SeenPoints(seen.uv, seen.depth, rate),
            tracked.camera_from_world @ invert(keyframe.camera_from_world),
            readout,
            self._camera,
            noise.pixel_sigma,
            noise.inverse_depth_sigma,
        )
        if found is not None:
            landmark_map.shutter.add(*found, frame.readout)

    def settle(self, frame: Frame) -> None:
        """Corrects the current map by what was learned, if that makes a difference."""
        landmark_map = self._atlas.landmark_map
        known = self.readout(frame)
        if landmark_map.readout is None:
            set_readout(landmark_map, known, known, self._camera)
        learned = landmark_map.shutter.readout(frame.readout)
        if abs(learned - known) >= LEAST_CHANGE:
            set_readout(landmark_map, learned, known, self._camera)
