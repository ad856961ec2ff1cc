"""RGB-D SLAM: frames in, poses and a map out. Poses come from the images alone."""

import dataclasses
import enum
import time

import jax
import numpy as np

from ace_jax.data.frame import Frame
from ace_jax.features.base import FeatureExtractor, Features
from ace_jax.geometry.camera import Camera
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.depth import sample_depth
from ace_jax.slam.landmark_map import NO_LANDMARK, Keyframe, LandmarkMap
from ace_jax.slam.local_mapping import LocalMapper, orthonormalized
from ace_jax.slam.matching import MatchGates
from ace_jax.slam.pose_optimization import NoiseModel
from ace_jax.slam.tracking import Tracker

ATTENTION_TAU = {"xfeat": 80.0, "sift": 160.0}


class State(enum.Enum):
    """What the system knows about the newest frame."""

    STARTING = "STARTING"
    TRACKING = "TRACKING"
    LOST = "LOST"


@dataclasses.dataclass
class TrackedFrame:
    """One processed frame.

    Attributes:
        index: the source's index.
        timestamp: seconds.
        live_camera_from_world: (4, 4) float64 as known when the frame was tracked, None if lost.
        reference: number of the keyframe that the pose hangs on.
        camera_from_reference: (4, 4) motion from that keyframe; follows its corrections.
        stage_ms: milliseconds per stage.
    """

    index: int
    timestamp: float
    live_camera_from_world: np.ndarray | None
    reference: int = -1
    camera_from_reference: np.ndarray | None = None
    stage_ms: dict[str, float] = dataclasses.field(default_factory=dict)


class Slam:
    """The SLAM system. Call `process` for each frame in turn.

    Args:
        camera: intrinsics of the frames.
        extractor: features.
        config: constants of the loop.
        seed: of every random draw.
        relocalize_always: do without the motion prediction (relocalize every frame, as ACE-SLAM).
    """

    def __init__(
        self,
        camera: Camera,
        extractor: FeatureExtractor,
        config: SlamConfig | None = None,
        seed: int = 0,
        relocalize_always: bool = False,
    ):
        self.camera = camera
        self.extractor = extractor
        self.config = config = config or SlamConfig()
        pixel = camera.width / 640.0
        noise = NoiseModel(
            pixel_sigma=config.pixel_sigma * pixel, inverse_depth_sigma=config.inverse_depth_sigma
        )
        gates = MatchGates(
            radius=np.float32(config.fuse_radius * pixel),
            min_cosine=config.min_cosine,
            match_ratio=config.match_ratio,
            cos_max_view_angle=float(np.cos(config.max_view_angle)),
            max_scale_change=config.max_scale_change,
        )
        self.world = LandmarkMap(
            config.max_landmarks, extractor.dim, config.descriptors_per_landmark
        )
        self.tracker = Tracker(
            camera,
            config,
            gates,
            noise,
            ATTENTION_TAU.get(extractor.name, 80.0),
            relocalize_always,
        )
        self.mapper = LocalMapper(camera, config, gates, noise)
        self.frames: list[TrackedFrame] = []
        self.state = State.STARTING
        self._key = jax.random.key(seed)
        self._pose: np.ndarray | None = None  # camera_from_world of the last tracked frame
        self._velocity = np.eye(4)
        self._landmarks = np.full(extractor.max_features, NO_LANDMARK, np.int32)
        self._reference = 0
        self._frames_since_keyframe = 0

    def process(self, frame: Frame) -> TrackedFrame:
        """Tracks a frame and, if it is a keyframe, grows the map."""
        clock = _StageClock()
        features = self.extractor.extract(frame.rgb)
        jax.block_until_ready(features)
        clock.lap("features")
        features = jax.tree.map(np.asarray, features)
        depth = sample_depth(frame.depth, features.uv)
        depth = np.where(features.mask & (depth < self.config.max_depth), depth, 0.0)
        features = features.replace(depth=depth.astype(np.float32))
        clock.lap("depth")
        if not self.world.keyframes:
            result = self._start(frame, features, clock)
        else:
            result = self._continue(frame, features, clock)
        result.stage_ms = clock.stage_ms
        self.frames.append(result)
        return result

    def _start(self, frame: Frame, features: Features, clock: "_StageClock") -> TrackedFrame:
        usable = int(np.sum(features.depth > 0))
        if usable < 3 * self.config.min_inliers:
            return TrackedFrame(frame.index, frame.timestamp, None)
        pose = np.eye(4)
        landmarks = np.full(len(features.mask), NO_LANDMARK, np.int32)
        self._insert_keyframe(frame, features, pose, landmarks, inlier_ratio=1.0)
        clock.lap("mapping")
        self.state = State.TRACKING
        return TrackedFrame(frame.index, frame.timestamp, pose, 0, np.eye(4))

    def _continue(self, frame: Frame, features: Features, clock: "_StageClock") -> TrackedFrame:
        predicted = None
        if self.state is State.TRACKING:
            predicted = (self._velocity @ self._pose).astype(np.float32)
        key = jax.random.fold_in(self._key, frame.index)
        tracked = self.tracker.track(self.world, features, predicted, self._landmarks, key)
        clock.lap("tracking")
        if tracked.camera_from_world is None:
            self.state = State.LOST
            return TrackedFrame(frame.index, frame.timestamp, None)
        live = orthonormalized(tracked.camera_from_world)
        pose = live
        self._velocity = np.eye(4)
        if self.state is State.TRACKING and self._pose is not None:
            self._velocity = live @ np.linalg.inv(self._pose)
        self.state = State.TRACKING
        self._frames_since_keyframe += 1
        if self._needs_keyframe(pose, tracked.landmarks):
            self._insert_keyframe(frame, features, pose, tracked.landmarks, tracked.inlier_ratio)
            pose = self.world.keyframes[-1].camera_from_world
            landmarks = self.world.keyframes[-1].landmarks.copy()
            clock.lap("mapping")
        else:
            landmarks = tracked.landmarks
        self._pose, self._landmarks = pose, landmarks
        reference = self._reference
        anchor = self.world.keyframes[reference].camera_from_world
        return TrackedFrame(
            frame.index, frame.timestamp, live, reference, pose @ np.linalg.inv(anchor)
        )

    def _needs_keyframe(self, pose: np.ndarray, landmarks: np.ndarray) -> bool:
        config = self.config
        if self._frames_since_keyframe < config.keyframe_min_gap:
            return False
        last = self.world.keyframes[-1].landmarks
        last = last[last >= 0]
        tracked = np.isin(last, landmarks[landmarks >= 0]).sum()
        if tracked < config.keyframe_overlap * len(last):
            return True
        centre = -pose[:3, :3].T @ pose[:3, 3]
        for keyframe in self.world.keyframes:
            near = np.linalg.norm(keyframe.centre - centre) < config.keyframe_translation
            relative = pose[:3, :3] @ keyframe.camera_from_world[:3, :3].T
            angle = np.arccos(np.clip((np.trace(relative) - 1) / 2, -1, 1))
            if near and angle < config.keyframe_rotation:
                return False
        return True

    def _insert_keyframe(
        self,
        frame: Frame,
        features: Features,
        pose: np.ndarray,
        landmarks: np.ndarray,
        inlier_ratio: float,
    ) -> None:
        keyframe = Keyframe(
            frame_index=frame.index,
            camera_from_world=pose,
            uv=features.uv,
            descriptors=features.descriptors,
            depth=features.depth,
            mask=features.mask,
            landmarks=landmarks.copy(),
            inlier_ratio=inlier_ratio,
        )
        self._reference = self.mapper.insert(self.world, keyframe, frame.rgb)
        self._pose = keyframe.camera_from_world
        self._landmarks = keyframe.landmarks.copy()
        self._frames_since_keyframe = 0

    def live_trajectory(self) -> tuple[np.ndarray, np.ndarray]:
        """Timestamps (T,) and (T, 4, 4) world_from_camera as known when each was tracked."""
        tracked = [f for f in self.frames if f.live_camera_from_world is not None]
        poses = [np.linalg.inv(f.live_camera_from_world) for f in tracked]
        return np.array([f.timestamp for f in tracked]), np.array(poses).reshape(-1, 4, 4)

    def final_trajectory(self) -> tuple[np.ndarray, np.ndarray]:
        """Timestamps (T,) and (T, 4, 4) world_from_camera after all corrections."""
        tracked = [f for f in self.frames if f.live_camera_from_world is not None]
        poses = []
        for f in tracked:
            anchor = self.world.keyframes[f.reference].camera_from_world
            poses.append(np.linalg.inv(f.camera_from_reference @ anchor))
        return np.array([f.timestamp for f in tracked]), np.array(poses).reshape(-1, 4, 4)


class _StageClock:
    """Milliseconds since the last lap, by stage."""

    def __init__(self):
        self.stage_ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.stage_ms[stage] = self.stage_ms.get(stage, 0.0) + (now - self._last) * 1e3
        self._last = now
