"""SLAM in a map of landmarks: the loop over frames (DESIGN 4.4 and 6b)."""

from collections.abc import Mapping

import jax
import numpy as np

from ace_jax.data.frame import Frame, as_seen_by
from ace_jax.features.base import FeatureExtractor, Features
from ace_jax.features.similarity import similarity
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.depth_planes import fit_planes
from ace_jax.geometry.rigid import invert, orthonormalized
from ace_jax.geometry.rolling_shutter import MAX_INTERVAL
from ace_jax.localization.scene_map import SceneMap
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.frame_poses import FramePoses, State, TrackedFrame
from ace_jax.slam.loops.loop_closing import LoopCloser
from ace_jax.slam.mapping.keyframe_mapping import KeyframeMapping
from ace_jax.slam.mapping.keyframe_selection import KeyframeSelection
from ace_jax.slam.mapping.keyframes import NO_LANDMARK, Keyframe
from ace_jax.slam.mapping.landmark_map import LandmarkMap
from ace_jax.slam.mapping.local_mapping import LocalMapper
from ace_jax.slam.reporting.stage_times import StageClock, StageTimes
from ace_jax.slam.sessions.session import scene_map_of
from ace_jax.slam.tracking.frame_features import (
    FeatureNoise,
    FrameFeatures,
    blank_features,
    match_gates,
)
from ace_jax.slam.tracking.free_space import FreeSpace
from ace_jax.slam.tracking.last_image import LastImage
from ace_jax.slam.tracking.moving_features import RecentFrames
from ace_jax.slam.tracking.tracker import Tracked, Tracker


class LandmarkSlam:
    """RGB-D SLAM: guided tracking, landmark attention to relocalize, local bundle adjustment.

    Call `process` for each frame in turn, `finish` after the last. Poses come from the images
    alone: `Frame.world_from_camera` is not read.

    Args:
        camera: intrinsics of the stream; frames with others are resampled, see `adapted`.
        extractor: features.
        config: constants.
        seed: random seed.
        relocalize_always: do without the motion prediction (relocalize every frame, as ACE-SLAM).
        feature_options: how `extractor` was made, noted in the map.
        mapping_lag: how mapping runs beside tracking, see `MappingQueue`.
        landmark_map: a map to go on from, see `session`; the camera is looked for in it first.
        frozen: look for the camera in `landmark_map` alone and leave it as it is; frames then need
            no depth.
        close_loops: recognise places that were mapped long ago and correct the drift since.

    Attributes:
        state: of the newest frame.
        poses: of all frames.
        landmark_map: the map.
        mapping: what new keyframes set off, beside tracking.
        times: milliseconds of each stage.
        last_landmarks: (N,) landmark of each feature of the last tracked frame, or NO_LANDMARK.
        last_descriptors: (N, D) of these features: how the landmarks looked just now.
        measured: the newest frame's features, with calibrated depth.
    """

    def __init__(
        self,
        camera: Camera,
        extractor: FeatureExtractor,
        config: SlamConfig | None = None,
        seed: int = 0,
        relocalize_always: bool = False,
        feature_options: dict | None = None,
        mapping_lag: int | None = 0,
        landmark_map: LandmarkMap | None = None,
        frozen: bool = False,
        close_loops: bool = True,
    ):
        if frozen and landmark_map is None:
            raise ValueError("there is no map to look for the camera in")
        self.camera, self.extractor = camera, extractor
        self.config = config = config or SlamConfig()
        self._feature_options = dict(feature_options or {})
        self.state = State.STARTING if landmark_map is None else State.LOST
        self.landmark_map = landmark_map or LandmarkMap(
            config.max_landmarks, extractor.dim, config.descriptors_per_landmark
        )
        self.poses = FramePoses(self.landmark_map.keyframes)
        self.times = StageTimes()
        self.frozen = self.needs_no_depth = frozen
        self.relocalize_always = relocalize_always

        self._noise = FeatureNoise.of_config(config, camera, self.landmark_map.pixel_residual)
        noise, gates = self._noise.model, match_gates(config, camera, extractor.name)
        self.features = FrameFeatures(camera, extractor, config)
        self.free_space = FreeSpace(camera, config.free_space)
        self.recent_frames = RecentFrames(camera, gates, config.moving)
        self.last_image = LastImage(camera, config)
        self.tracker = Tracker(
            camera,
            config,
            gates,
            noise,
            similarity(extractor.name).temperature,
            jax.random.key(seed),
            needs_no_depth=frozen,
        )
        self.selection = KeyframeSelection(config)
        mapper = LocalMapper(camera, config, gates, noise)
        loops = None
        if close_loops and not frozen:
            loops = LoopCloser(camera, config.loops, gates, noise, seed)
        self.mapping = KeyframeMapping(
            self.landmark_map, config, mapper, loops, mapping_lag, self._forget_motion
        )

        self.measured = blank_features(extractor)
        self.last_landmarks = np.full(extractor.max_features, NO_LANDMARK, np.int32)
        self.last_descriptors = self.measured.descriptors
        self._warm_up()

    def _warm_up(self) -> None:
        """Compiles every program before the first frame, on blank input of the right shapes."""
        self.tracker.warm_up(self.landmark_map, self.measured)
        self.recent_frames.warm_up(self.measured)
        self.last_image.warm_up()
        if not self.frozen:
            self.mapping.mapper.warm_up(self.landmark_map, self.measured)
        if self.mapping.loops is not None:
            self.mapping.loops.warm_up(self.landmark_map, self.measured)

    def adapted(self, frame: Frame) -> Frame:
        """A frame as this system's camera would have taken it; itself if it did.

        `observe` and `process` do it; done before both, it is done once.

        Raises:
            BadFrame: as `as_seen_by`.
        """
        return as_seen_by(frame, self.camera)

    def observe(self, frame: Frame) -> Features:
        """Raw features of a frame, on the host. May be called ahead of `process`, on any thread.

        They have depth, as the sensor gives it.

        Raises:
            BadFrame: as `adapted`, or the frame's features are not finite.
        """
        return self.features.raw(self.adapted(frame))

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
        tracked = self._step(self.adapted(frame), features, clock)
        self.frames.append(tracked)
        self.times.add(clock.stage_ms)
        return tracked

    def _step(self, frame: Frame, raw: Features | None, clock: StageClock) -> TrackedFrame:
        """From a frame to its pose and, if it becomes a keyframe, into the map."""
        # Features: keypoints with descriptors, and the depth that the sensor gives them.
        if raw is None:
            raw = self.observe(frame)
            clock.lap("features")
        # What mapping has computed meanwhile (bundle adjustment, closed loops) enters the map.
        self.mapping.queue.advance()
        clock.lap("mapping")
        # Depth: corrected by the sensor's calibration (Teichman, Miller and Thrun, RSS 2013).
        calibration = self.landmark_map.depth_calibration
        self.measured = measured = self.features.calibrated(raw, calibration)
        clock.lap("depth")
        if not self.landmark_map.keyframes:
            return self._start(frame, measured, clock)
        # Motion prediction: constant velocity. What has moved into space that was seen to be empty
        # does not vote (Hornung et al., OctoMap, 2013).
        predicted = self.poses.predicted(frame.timestamp) if self.state is State.TRACKING else None
        static = measured.without(self.free_space.moved(measured, frame.depth, predicted))
        # Matches and pose; again without what moves if the camera may have followed that.
        tracked = self._track(frame, static, predicted)
        if tracked is not None and not self._is_steady(tracked):
            tracked = self._without_moving(frame, static, tracked)
        clock.lap("tracking")
        if tracked is None:
            return self._lose(frame)
        pose = self._accept(frame, tracked)
        # Keyframe (Mur-Artal and Tardos, T-RO 2017, III-E)? Then its features become landmarks, and
        # mapping begins: fusing, registration of depth images, bundle adjustment, loops.
        reference, relative, covisible = self._reference(tracked.landmarks, pose)
        if not self.frozen and self.selection.wanted(
            self.landmark_map, tracked.features, tracked.landmarks, pose, reference, covisible
        ):
            reference, relative = self._insert_keyframe(frame, tracked, pose), np.eye(4)
            clock.lap("mapping")
        unrolled = self._unrolled(frame, measured, pose)
        self.recent_frames.remember(frame.timestamp, unrolled, pose)
        self.last_image.remember(frame)
        return TrackedFrame(frame.index, frame.timestamp, pose, reference, relative)

    def _track(
        self, frame: Frame, static: Features, predicted: np.ndarray | None
    ) -> Tracked | None:
        """Landmarks around the prediction, else all pixels, else relocalization; None: lost."""
        if predicted is not None and not self.relocalize_always:
            if tracked := self._track_near(frame, static, predicted):
                return tracked
            # Dense alignment with the last image (Newcombe et al. 2011; Kerl et al. 2013).
            aligned = self._aligned(frame, predicted)
            if aligned is not None:
                if tracked := self._track_near(frame, static, aligned):
                    return tracked
                if not self.tracker.is_contradicted(self.landmark_map, frame.depth, aligned):
                    unrolled = self._unrolled(frame, static, aligned)
                    return Tracked.without_landmarks(aligned, unrolled)
        if tracked := self._track_near(frame, static, None):
            return tracked
        aligned = self._aligned(frame, None) if predicted is None else None
        return None if aligned is None else self._track_near(frame, static, aligned)

    def _aligned(self, frame: Frame, predicted: np.ndarray | None) -> np.ndarray | None:
        """(4, 4) camera_from_world by dense alignment with the last tracked image, or None."""
        if self.state is State.LOST and self.last_image.age(frame.timestamp) > MAX_INTERVAL:
            return None
        last = self.poses.last_tracked()
        return None if last is None else self.last_image.pose_of(frame, last, predicted)

    def _track_near(
        self, frame: Frame, static: Features, predicted: np.ndarray | None
    ) -> Tracked | None:
        """Coarse pose, rolling shutter, fine pose, from a predicted one or by relocalization."""
        # The last frame's landmarks around the prediction, or landmark attention (DESIGN 4.4).
        unrolled = self._unrolled(frame, static)
        last = self.last_landmarks, self.last_descriptors
        coarse = self.tracker.coarse(self.landmark_map, unrolled, predicted, *last, frame.index)
        if coarse is None:
            return None
        # What a rolling shutter did to the image depends on the camera's motion, now known better.
        if not coarse.relocalized:
            unrolled = self._unrolled(frame, static, coarse.camera_from_world)
        # Landmarks of covisible keyframes; Gauss-Newton on pixels and inverse depth (DESIGN 6b).
        tracked = self.tracker.fine(self.landmark_map, unrolled, coarse)
        return None if tracked is None or self._ambiguous(tracked) else tracked

    def _unrolled(
        self, frame: Frame, features: Features, camera_from_world: np.ndarray | None = None
    ) -> Features:
        """Features without the rolling shutter's distortion, at a pose if one is known already."""
        motion = self.poses.motion_to(camera_from_world, frame.timestamp)
        return self.features.unrolled(frame, features, motion)

    def _start(self, frame: Frame, features: Features, clock: StageClock) -> TrackedFrame:
        """The first frame with enough depth holds the world's axes."""
        if int(np.sum(features.depth > 0)) < 3 * self.config.min_inliers:
            return TrackedFrame(frame.index, frame.timestamp, None)
        pose = np.eye(4)
        self._insert_keyframe(frame, Tracked.without_landmarks(pose, features), pose)
        clock.lap("mapping")
        self.state = State.TRACKING
        self.recent_frames.remember(frame.timestamp, features, pose)
        self.last_image.remember(frame)
        return TrackedFrame(frame.index, frame.timestamp, pose, 0, np.eye(4))

    def _lose(self, frame: Frame) -> TrackedFrame:
        self.state = State.LOST
        self._forget_motion()
        return TrackedFrame(frame.index, frame.timestamp, None)

    def _forget_motion(self) -> None:
        """Earlier images say nothing about motion: the camera was lost, or the map has moved."""
        self.free_space.forget()
        self.recent_frames.forget()

    def _accept(self, frame: Frame, tracked: Tracked) -> np.ndarray:
        """Takes a pose as the camera's, learns of the noise; returns it (4, 4) float64."""
        pose = orthonormalized(tracked.camera_from_world)
        self.selection.count_frame(was_lost=self.state is State.LOST)
        self.state = State.TRACKING
        self.last_landmarks = tracked.landmarks
        self.last_descriptors = tracked.features.descriptors
        if frame.depth is not None:
            self.free_space.remember(frame.timestamp, frame.depth, pose)
        if tracked.pixel_error is not None:
            self._noise.learn(tracked.pixel_error)
        self.landmark_map.pixel_residual = self._noise.residual
        self.tracker.noise = self._noise.model
        self.mapping.set_noise(self._noise.model)
        return pose

    def _is_steady(self, tracked: Tracked) -> bool:
        """Whether a pose cannot have followed a moving person."""
        known = np.sum(self.tracker.well_observed(self.landmark_map, tracked.landmarks))
        moving = self.config.moving
        return tracked.agreement >= moving.unsteady_agreement or known >= moving.min_well_observed

    def _without_moving(self, frame: Frame, static: Features, tracked: Tracked) -> Tracked:
        """Tracks again if another motion than the pose's explains more of the surfaces."""
        corrected = self.recent_frames.corrected(
            frame.timestamp, tracked.features, tracked.camera_from_world
        )
        if corrected is None:
            return tracked
        pose, moving = corrected
        return self._track_near(frame, static.without(moving), pose) or tracked

    def _ambiguous(self, tracked: Tracked) -> bool:
        """Whether a displaced pose would explain the frame as well (the aperture problem).

        In a narrow strip of the image, structure that repeats along it (cupboards, tiles) lets half
        of the matches agree with a pose that is displaced by 10 cm.
        """
        config = self.config
        if tracked.inlier_ratio >= config.small_spread_inlier_ratio:
            return False
        spread = np.linalg.eigvalsh(np.cov(tracked.features.uv[tracked.landmarks >= 0].T))[0]
        least = config.min_inlier_spread * self.camera.pixel_scale
        return bool(np.sqrt(max(spread, 0.0)) < least)

    def _reference(
        self, landmarks: np.ndarray, pose: np.ndarray
    ) -> tuple[int, np.ndarray, np.ndarray]:
        """The keyframe that shares most landmarks with a frame (the newest of several), the (4, 4)
        motion from it, and the numbers of all keyframes that share some.
        """
        shared = self.landmark_map.covisibility(landmarks)
        most = len(shared) - 1 - int(np.argmax(shared[::-1]))
        keyframes = self.landmark_map.keyframes
        reference = most if shared[most] else keyframes.newest
        relative = pose @ invert(keyframes[reference].camera_from_world)
        return reference, relative, np.flatnonzero(shared)

    def _insert_keyframe(self, frame: Frame, tracked: Tracked, pose: np.ndarray) -> int:
        """Adds a frame to the map, without what moves in it, and has it mapped."""
        moving = self.recent_frames.moving(frame.timestamp, tracked.features, pose)
        features = tracked.features.without(moving)
        planes = None if frame.depth is None else fit_planes(frame.depth, self.camera)
        keyframe = Keyframe.of(frame.index, features, pose, tracked.inlier_ratio, planes)
        landmarks = np.where(moving, NO_LANDMARK, tracked.landmarks)
        number = self.mapping.mapper.insert(self.landmark_map, keyframe, landmarks, frame.rgb)
        # The frame's features now show the landmarks that were made of them.
        self.last_landmarks = self.landmark_map.landmarks_of(number).copy()
        self.last_descriptors = features.descriptors
        self.selection.since_keyframe = 0
        self.mapping.add(number)
        return number

    def finish(self) -> None:
        """Completes the mapping that still runs, and settles the map."""
        self.mapping.finish(settle=not self.frozen)

    @property
    def frames(self) -> list[TrackedFrame]:
        """The processed frames, oldest first."""
        return self.poses.frames

    def corrected_pose(self, frame: TrackedFrame) -> np.ndarray | None:
        """(4, 4) camera_from_world of a tracked frame as known now; None if it was lost."""
        return self.poses.corrected(frame)

    def live_trajectory(self) -> tuple[np.ndarray, np.ndarray]:
        """Timestamps (T,) and (T, 4, 4) world_from_camera as known when each was tracked."""
        return self.poses.trajectory(live=True)

    def final_trajectory(self) -> tuple[np.ndarray, np.ndarray]:
        """Timestamps (T,) and (T, 4, 4) world_from_camera after all corrections."""
        return self.poses.trajectory(live=False)

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks (M, 3) world, metres, and their colours (M, 3) uint8."""
        valid = self.landmark_map.valid
        return self.landmark_map.points[valid], self.landmark_map.colours[valid]

    def scene_map(self) -> SceneMap:
        """A landmark-attention head that holds every landmark with its mean descriptor."""
        return scene_map_of(self.landmark_map, self.extractor, self.camera, self._feature_options)
