"""The frame loop that every kind of map shares: features, depth, then a pose and the map.

Poses come from the images alone: nothing here reads `Frame.world_from_camera`.
"""

import abc
import dataclasses
import enum
from collections.abc import Mapping

import jax
import numpy as np

from ace_jax.data.depth_at_features import sample_delayed_depth, sample_depth
from ace_jax.data.frame import Frame, as_seen_by
from ace_jax.features.base import FeatureExtractor, Features, finite_features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import invert
from ace_jax.geometry.rolling_shutter import Motion, unroll
from ace_jax.localization.scene_map import SceneMap
from ace_jax.slam.reporting.stage_times import StageClock, StageTimes

MIN_DEPTH_DELAY = 1e-3  # seconds; less moves the picture by under a pixel
PLANAR_RADIUS = 5.0  # pixels of a 640-pixel-wide image around a feature that must be one surface


class State(enum.Enum):
    """What the system knows about the newest frame."""

    STARTING = "STARTING"
    TRACKING = "TRACKING"
    LOST = "LOST"


@dataclasses.dataclass(slots=True)  # a day has millions
class TrackedFrame:
    """One processed frame.

    Attributes:
        index: the source's index.
        timestamp: seconds.
        live_camera_from_world: (4, 4) float64 as known when the frame was tracked, None if lost.
        reference: number of the keyframe that the pose hangs on.
        camera_from_reference: (4, 4) motion from that keyframe; follows its corrections.
    """

    index: int
    timestamp: float
    live_camera_from_world: np.ndarray | None
    reference: int = -1
    camera_from_reference: np.ndarray | None = None


class SlamSystem(abc.ABC):
    """RGB-D SLAM. Call `process` for each frame in turn, `finish` after the last.

    Args:
        camera: intrinsics of the stream; frames with others are resampled, see `adapted`.
        extractor: features.
        max_depth: depth beyond it is not used, metres.
    """

    def __init__(self, camera: Camera, extractor: FeatureExtractor, max_depth: float):
        self.camera = camera
        self.extractor = extractor
        self.max_depth = max_depth
        self.frames: list[TrackedFrame] = []
        self.times = StageTimes()
        self.state = State.STARTING
        self.needs_no_depth = False

    def adapted(self, frame: Frame) -> Frame:
        """A frame as this system's camera would have taken it; itself if it did.

        `observe` and `process` do it; done before both, it is done once.

        Raises:
            BadFrame: as `as_seen_by`.
        """
        return as_seen_by(frame, self.camera)

    def observe(self, frame: Frame) -> Features:
        """Features of a frame, on the host. May be called ahead of `process`, on any thread.

        They have depth, as the sensor gives it, if the depth image was taken with the colours.

        Raises:
            BadFrame: as `adapted`, or the frame's features are not finite.
        """
        frame = self.adapted(frame)
        features = jax.tree.map(np.asarray, finite_features(self.extractor, frame))
        if frame.depth is None or _is_delayed(frame):
            return features
        return features.replace(depth=self._sampled(frame, features.uv))

    def process(
        self,
        frame: Frame,
        features: Features | None = None,
        spent_ms: Mapping[str, float] | None = None,
    ) -> TrackedFrame:
        """Tracks a frame and grows the map with it.

        Args:
            frame: the next one of the stream.
            features: of the frame, if `observe` was called already.
            spent_ms: milliseconds by stage that were spent on the frame already, for `times`.

        Raises:
            BadFrame: as `observe`; the frame is not counted.
        """
        clock = StageClock(spent_ms)
        frame = self.adapted(frame)
        if features is None:
            features = self.observe(frame)
            clock.lap("features")
        self._update_map()
        clock.lap("mapping")
        depth = self._depth_at(frame, features)
        depth = np.where(features.mask & (depth < self.max_depth), depth, 0.0)
        features = features.replace(depth=depth.astype(np.float32))
        clock.lap("depth")
        result = self._locate(frame, features, clock)
        self.frames.append(result)
        self.times.add(clock.stage_ms)
        return result

    def corrected_pose(self, frame: TrackedFrame) -> np.ndarray | None:
        """(4, 4) camera_from_world of a tracked frame as known now; None if it was lost."""
        if frame.camera_from_reference is None:
            return None
        return frame.camera_from_reference @ self.reference_pose(frame.reference)

    def _motion(self) -> Motion | None:
        """Velocity between the last two frames; None unless both were tracked."""
        if len(self.frames) < 2:
            return None
        before, last = self.frames[-2:]
        poses = self.corrected_pose(before), self.corrected_pose(last)
        if any(pose is None for pose in poses):
            return None
        return Motion.between(*poses, last.timestamp - before.timestamp)

    def _update_map(self) -> None:  # noqa: B027 - a map that is always up to date is fine
        """Brings the map up to date, before anything of a frame is corrected by it."""

    def _depth_at(self, frame: Frame, features: Features) -> np.ndarray:
        """Depth of features, with the camera's turn between colour and depth image undone."""
        if frame.depth is None or not _is_delayed(frame):
            return features.depth
        motion = self._motion()
        if motion is None:
            return self._sampled(frame, features.uv)
        return self._sampled(frame, features.uv, motion.after(frame.depth_delay)[:3, :3])

    def _sampled(
        self, frame: Frame, uv: np.ndarray, depth_from_colour: np.ndarray | None = None
    ) -> np.ndarray:
        """Depth at pixels (N, 2), the camera having turned (3, 3) from one image to the other."""
        radius = PLANAR_RADIUS * self.camera.pixel_scale
        if depth_from_colour is None:
            return sample_depth(frame.depth, uv, planar_radius=radius)
        return sample_delayed_depth(frame.depth, uv, self.camera, depth_from_colour, radius)

    def unrolled(
        self, frame: Frame, features: Features, camera_from_world: np.ndarray | None = None
    ) -> Features:
        """Features with the rolling shutter's distortion undone.

        Args:
            frame: its `readout` says how long the image took.
            features: as extracted.
            camera_from_world: (4, 4) estimate of this frame's pose, which tells how the camera
                moved since the last one; without it the last motion is taken to go on.
        """
        if frame.readout <= 0:
            return features
        motion = self._motion()
        last = self.corrected_pose(self.frames[-1]) if self.frames else None
        if camera_from_world is not None and last is not None:
            now = np.asarray(camera_from_world, np.float64)
            motion = Motion.between(last, now, frame.timestamp - self.frames[-1].timestamp)
        if motion is None:
            return features
        uv = unroll(features.uv, features.depth, self.camera, motion, frame.readout)
        return features.replace(uv=np.where(features.mask[:, None], uv, 0.0).astype(np.float32))

    @abc.abstractmethod
    def _locate(self, frame: Frame, features: Features, clock: StageClock) -> TrackedFrame:
        """Finds the pose of one frame, updates the map and `self.state`."""

    @abc.abstractmethod
    def reference_pose(self, number: int) -> np.ndarray:
        """(4, 4) camera_from_world of a keyframe, as corrected so far."""

    @abc.abstractmethod
    def scene_map(self) -> SceneMap:
        """The map as a file's content."""

    @abc.abstractmethod
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Points (M, 3) world, metres, and colours (M, 3) uint8 to look at."""

    def finish(self) -> None:  # noqa: B027 - a map that has nothing left to do is fine
        """Last corrections after the stream's end."""

    def live_trajectory(self) -> tuple[np.ndarray, np.ndarray]:
        """Timestamps (T,) and (T, 4, 4) world_from_camera as known when each was tracked."""
        tracked = [f for f in self.frames if f.live_camera_from_world is not None]
        poses = [invert(f.live_camera_from_world) for f in tracked]
        return np.array([f.timestamp for f in tracked]), np.array(poses).reshape(-1, 4, 4)

    def final_trajectory(self) -> tuple[np.ndarray, np.ndarray]:
        """Timestamps (T,) and (T, 4, 4) world_from_camera after all corrections."""
        tracked = [f for f in self.frames if f.live_camera_from_world is not None]
        poses = [invert(self.corrected_pose(f)) for f in tracked]
        return np.array([f.timestamp for f in tracked]), np.array(poses).reshape(-1, 4, 4)


def _is_delayed(frame: Frame) -> bool:
    return abs(frame.depth_delay) >= MIN_DEPTH_DELAY
