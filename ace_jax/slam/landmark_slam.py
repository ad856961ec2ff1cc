"""RGB-D SLAM in a map of landmarks: the loop over frames."""

from collections.abc import Mapping

import numpy as np

from ace_jax.data.frame import Frame, as_seen_by
from ace_jax.features.base import FeatureExtractor, Features
from ace_jax.features.similarity import similarity
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import orthonormalized
from ace_jax.localization.scene_map import SceneMap
from ace_jax.slam.compilation import compile_programs
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.frame_poses import FramePoses, State, TrackedFrame
from ace_jax.slam.loops.loop_closing import LoopCloser
from ace_jax.slam.loops.map_changes import MapChanges
from ace_jax.slam.loops.map_joining import MapJoiner
from ace_jax.slam.mapping.atlas import Atlas
from ace_jax.slam.mapping.keyframe_mapping import KeyframeMapping
from ace_jax.slam.mapping.keyframe_selection import KeyframeSelection
from ace_jax.slam.mapping.keyframes import NO_LANDMARK
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
from ace_jax.slam.tracking.joint_pose import joint_pose
from ace_jax.slam.tracking.last_frame import LastFrame
from ace_jax.slam.tracking.loss import likely_cause
from ace_jax.slam.tracking.moving_features import RecentFrames
from ace_jax.slam.tracking.shutter import RollingShutter
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
        landmark_map: a map to go on from, see `session`.
        frozen: look for the camera in it alone and leave it as it is; frames then need no depth.
        close_loops: recognise places that were mapped long ago and correct the drift since.
        new_maps: begin another map where the camera is lost for a while.

    Attributes:
        state: of the newest frame.
        poses: of all frames.
        atlas: the maps; one is begun when the camera was lost for a while.
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
        new_maps: bool = True,
    ):
        if frozen and landmark_map is None:
            raise ValueError("there is no map to look for the camera in")
        self.camera = camera = Camera.of_floats(camera)
        self.extractor = extractor
        self.config = config = config or SlamConfig()
        self._feature_options = dict(feature_options or {})
        self.state = State.STARTING if landmark_map is None else State.LOST
        self.atlas = Atlas(
            landmark_map
            or LandmarkMap(config.max_landmarks, extractor.dim, config.descriptors_per_landmark),
            config,
        )
        self.poses = FramePoses(self.atlas)
        self.shutter = RollingShutter(camera, self.atlas, self.poses)
        self.times = StageTimes()
        self.frozen = self.needs_no_depth = frozen
        self.relocalize_always = relocalize_always

        self._noise = FeatureNoise.of_config(config, camera, self.landmark_map.pixel_residual)
        noise, gates = self._noise.model, match_gates(config, camera, extractor.name)
        self.features = FrameFeatures(camera, extractor, config)
        self.free_space = FreeSpace(camera, config.free_space)
        self.recent_frames = RecentFrames(camera, gates, config.moving)
        tau = similarity(extractor.name).temperature
        self.last_frame = LastFrame(camera, config, gates, seed)
        self.tracker = Tracker(camera, config, gates, noise, tau, seed, needs_no_depth=frozen)
        self.selection = KeyframeSelection(config)
        mapper = LocalMapper(camera, config, gates, noise)
        loops = joiner = None
        if not frozen and (close_loops or new_maps):
            loops = LoopCloser(camera, config.loops, gates, noise, seed)
            joiner = MapJoiner(self.tracker, loops) if new_maps else None
        self.mapping = KeyframeMapping(
            self.atlas, config, mapper, loops, close_loops, joiner, mapping_lag, self._forget_motion
        )
        changes = self.atlas, self.poses, self.mapping, joiner, camera
        self.maps = None if joiner is None else MapChanges(*changes)

        self.measured = blank_features(extractor)
        self.last_landmarks = np.full(extractor.max_features, NO_LANDMARK, np.int32)
        self.last_descriptors = self.measured.descriptors
        compile_programs(self)

    def adapted(self, frame: Frame) -> Frame:
        """A frame as this system's camera would have taken it; itself if it did.

        `observe` and `process` do it; done before both, it is done once.

        Raises:
            BadFrame: as `as_seen_by`.
        """
        return as_seen_by(frame, self.camera)

    def observe(self, frame: Frame) -> Features:
        """Raw features of a frame, with the sensor's depth. May be called ahead, on any thread.

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
        # What mapping has computed meanwhile (bundle adjustment, closed loops) enters the map;
        # another map is joined where the place was recognised.
        self.mapping.queue.advance()
        if self.maps is not None and (landmark := self.maps.join_recognised()) is not None:
            self.last_landmarks = landmark[self.last_landmarks]
            self._forget_motion()
        clock.lap("mapping")
        # Depth: corrected by the sensor's calibration (Teichman, Miller and Thrun, RSS 2013).
        calibration = self.landmark_map.depth_calibration
        self.measured = measured = self.features.calibrated(raw, calibration)
        clock.lap("depth")
        # Motion prediction: constant velocity.
        predicted = self.poses.predicted(frame.timestamp) if self.state is State.TRACKING else None
        # Matches and pose; again without what moves if the camera may have followed that.
        tracked = self._track(frame, measured, predicted)
        if tracked is not None and not self.tracker.is_steady(self.landmark_map, tracked):
            tracked = self._without_moving(frame, measured, tracked)
        # Few landmarks: what the last frame has in common with this one determines the pose too.
        if tracked is not None and self.tracker.has_few(tracked):
            tracked = self._with_last_frame(frame, measured, tracked)
        clock.lap("tracking")
        # Lost; another map begins before long.
        if tracked is None:
            return self._lose(frame, measured, clock)
        pose = self._accept(frame, tracked)
        # What moves, by its track over the last frames.
        unrolled = self.shutter.unrolled(frame, measured, pose)
        landmark_map, landmarks = self.landmark_map, tracked.landmarks
        moving = self.recent_frames.remember(frame.timestamp, unrolled, pose, landmarks)
        clock.lap("tracking")
        # Keyframe (Mur-Artal and Tardos, T-RO 2017, III-E)? Then its features become landmarks, and
        # mapping begins: fusing, registration of depth images, bundle adjustment, loops.
        reference, relative, covisible = self.selection.reference(landmark_map, landmarks, pose)
        if not self.frozen:
            enough = self.config.moving.well_observed_by
            landmark_map.remove_little_observed(self.recent_frames.moving_landmarks(), enough)
            self.shutter.learn(frame, measured, tracked, reference, self.tracker.noise)
        if not self.frozen and self.selection.wanted(
            landmark_map, tracked.features, landmarks, pose, reference, covisible
        ):
            reference, relative = self._insert_keyframe(frame, tracked, pose, moving), np.eye(4)
            clock.lap("mapping")
        self.last_frame.remember(frame, unrolled.without(moving))
        return self.poses.tracked(frame, pose, reference, relative)

    def _track(
        self, frame: Frame, measured: Features, predicted: np.ndarray | None
    ) -> Tracked | None:
        """Around the prediction, else from the last frame, else by relocalization; None: lost."""
        if not self.landmark_map.keyframes:
            return self._find_in_other_map(frame, self.shutter.unrolled(frame, measured))
        near = predicted is not None and not self.relocalize_always
        if near and (tracked := self._track_near(frame, measured, predicted)):
            return tracked
        if not near and (tracked := self._track_near(frame, measured, None)):
            return tracked
        # The motion since the last frame: features without a prior, then dense alignment. Free
        # space asked from a wrong prediction says of what stands still that it has moved.
        unrolled = self.shutter.unrolled(frame, measured)
        asked = [self._static(frame, unrolled, predicted), unrolled]
        last, noise = self.poses.last_tracked(), self.tracker.noise
        for pose in self.last_frame.poses_of(frame, asked, last, predicted, noise):
            if tracked := self._track_near(frame, measured, pose):
                return tracked
            if not self.tracker.is_contradicted(self.landmark_map, frame.depth, pose):
                seen = self.shutter.unrolled(frame, measured, pose)
                return Tracked.without_landmarks(pose, self._static(frame, seen, pose))
        tracked = self._track_near(frame, measured, None) if near else None
        return tracked or self._find_in_other_map(frame, unrolled)

    def _static(self, frame: Frame, features: Features, pose: np.ndarray | None) -> Features:
        """Without what is in space that was empty (Hornung et al., 2013), or moved just before."""
        moved = self.free_space.moved(features, frame.depth, pose)
        return features.without(moved | self.recent_frames.moved_before(features, pose))

    def _track_near(
        self, frame: Frame, measured: Features, predicted: np.ndarray | None
    ) -> Tracked | None:
        """Coarse pose, rolling shutter, fine pose, from a predicted one or by relocalization."""
        static = self._static(frame, measured, predicted)
        # The last frame's landmarks around the prediction, or landmark attention.
        unrolled = self.shutter.unrolled(frame, static)
        last = self.last_landmarks, self.last_descriptors
        coarse = self.tracker.coarse(self.landmark_map, unrolled, predicted, *last, frame.index)
        if coarse is None:
            return None
        # What a rolling shutter did to the image depends on the camera's motion, now known better.
        if not coarse.relocalized:
            unrolled = self.shutter.unrolled(frame, static, coarse.camera_from_world)
        # Landmarks of covisible keyframes; Gauss-Newton on pixels and inverse depth.
        return self.tracker.fine(self.landmark_map, unrolled, coarse)

    def _find_in_other_map(self, frame: Frame, features: Features) -> Tracked | None:
        """Relocalization in the other maps of this run; goes over to one where it succeeds."""
        found = None if self.maps is None else self.maps.find(features, frame.index)
        if found is not None:
            self._leave_map()
        return found

    def _start(self, frame: Frame, features: Features, clock: StageClock) -> TrackedFrame | None:
        """The first frame with enough depth holds a map's axes; None: this one has too little."""
        if int(np.sum(features.depth > 0)) < 3 * self.config.min_inliers:
            return None
        pose = np.eye(4)
        first = Tracked.without_landmarks(pose, features)
        moving = self.recent_frames.remember(frame.timestamp, features, pose, first.landmarks)
        self._insert_keyframe(frame, first, pose, moving)
        clock.lap("mapping")
        self.state = State.TRACKING
        self.atlas.count_tracked()
        self.last_frame.remember(frame, features)
        return self.poses.tracked(frame, pose, 0, np.eye(4))

    def _lose(self, frame: Frame, features: Features, clock: StageClock) -> TrackedFrame:
        """Without a pose: begins the first map, or another one if the camera was lost for long."""
        cause = likely_cause(frame, features, self.last_frame.frame, self.poses.last_turn())
        if self.landmark_map.keyframes:
            self.state = State.LOST
            self.free_space.forget()
            self.recent_frames.forget_before(frame.timestamp)
            if self.maps is not None and self.maps.lose():
                self._leave_map()
        started = None if self.landmark_map.keyframes else self._start(frame, features, clock)
        return started or TrackedFrame(frame.index, frame.timestamp, None, lost_because=cause)

    def _leave_map(self) -> None:
        """Another map is the current one: what was tracked last is not in it."""
        self.state = State.LOST
        self.last_landmarks = np.full_like(self.last_landmarks, NO_LANDMARK)
        self._forget_motion()

    def _forget_motion(self) -> None:
        """Earlier images say nothing about motion: the map has moved, or it is another one."""
        self.free_space.forget()
        self.recent_frames.forget()

    def _accept(self, frame: Frame, tracked: Tracked) -> np.ndarray:
        """Takes a pose as the camera's, learns of the noise; returns it (4, 4) float64."""
        pose = orthonormalized(tracked.camera_from_world)
        self.selection.since_keyframe += 1
        self.state = State.TRACKING
        self.atlas.count_tracked()
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

    def _without_moving(self, frame: Frame, measured: Features, tracked: Tracked) -> Tracked:
        """Tracks again if another motion than the pose's explains more of the surfaces."""
        seen = tracked.features, tracked.camera_from_world, self.tracker.is_agreed(tracked)
        corrected = self.recent_frames.corrected(frame.timestamp, *seen)
        if corrected is None:
            return tracked
        return self._track_near(frame, measured.without(corrected[1]), corrected[0]) or tracked

    def _with_last_frame(self, frame: Frame, measured: Features, tracked: Tracked) -> Tracked:
        """Few landmarks may agree with a wrong pose; not so with the last frame's features."""
        if self.recent_frames.something_moves:  # people are near, so a few of theirs would win
            return tracked
        last, noise = self.poses.last_tracked(), self.tracker.noise
        motion = self.last_frame.by_features(tracked.features, last, noise)
        least = self.config.relocalized_factor * self.config.min_inliers
        if motion is None or motion.seen.sum() < least:
            return tracked
        around = self._track_near(frame, measured, motion.camera_from_world) or tracked
        tracked = max(tracked, around, key=lambda pose: pose.num_landmarks)
        return joint_pose(self.landmark_map, tracked, motion, self.camera, noise)

    def _insert_keyframe(
        self, frame: Frame, tracked: Tracked, pose: np.ndarray, moving: np.ndarray
    ) -> int:
        """Adds a frame to the map, without the features (N,) that move in it, and has it mapped."""
        features = tracked.features.without(moving)
        landmarks = np.where(moving, NO_LANDMARK, tracked.landmarks)
        rate = self.shutter.rate(self.measured, pose, frame.timestamp)
        number = self.mapping.insert(frame, features, landmarks, pose, tracked.inlier_ratio, rate)
        self.shutter.settle(frame)
        # The frame's features now show the landmarks that were made of them.
        self.last_landmarks = self.landmark_map.landmarks_of(number).copy()
        self.last_descriptors = features.descriptors
        self.recent_frames.show(self.last_landmarks)
        self.selection.since_keyframe = 0
        return number

    def finish(self) -> None:
        """Completes the mapping that still runs, joins maps that overlap, and settles the map.

        The current map is then the one that the run is about, see `Atlas.main`.
        """
        if self.maps is not None and self.maps.join_rest():
            self._leave_map()
        self.mapping.finish(settle=not self.frozen)

    @property
    def landmark_map(self) -> LandmarkMap:
        """The map that the camera is in."""
        return self.atlas.landmark_map

    @property
    def frames(self) -> list[TrackedFrame]:
        """The processed frames, oldest first."""
        return self.poses.frames

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

    def scene_map(self, landmark_map: LandmarkMap | None = None) -> SceneMap:
        """A landmark-attention head of the current or another map, with its mean descriptors."""
        landmark_map = landmark_map or self.landmark_map
        return scene_map_of(landmark_map, self.extractor, self.camera, self._feature_options)
