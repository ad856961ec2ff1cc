"""SLAM whose map is a set of landmarks: DESIGN 4.4 and 6b."""

import functools
from collections.abc import Mapping

import jax
import numpy as np

from ace_jax.data.frame import Frame
from ace_jax.features.base import FeatureExtractor, Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.depth_calibration import straightened
from ace_jax.geometry.depth_planes import fit_planes
from ace_jax.geometry.pose_optimization import NoiseModel
from ace_jax.geometry.rigid import difference, invert, orthonormalized
from ace_jax.geometry.rolling_shutter import MAX_INTERVAL
from ace_jax.localization.landmarks import Landmarks, MatchGates
from ace_jax.localization.scene_map import SceneMap, part
from ace_jax.localization.stored_landmarks import landmark_entries
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.loops.loop_closing import LoopCloser, LoopClosure, LoopConfig
from ace_jax.slam.mapping.landmark_map import NO_LANDMARK, Keyframe, LandmarkMap
from ace_jax.slam.mapping.local_mapping import LocalMapper
from ace_jax.slam.mapping.mapping_queue import MappingQueue, MappingTask
from ace_jax.slam.reporting.stage_times import StageClock
from ace_jax.slam.system import SlamSystem, State, TrackedFrame
from ace_jax.slam.tracking.feature_noise import FeatureNoise
from ace_jax.slam.tracking.free_space import FreeSpace
from ace_jax.slam.tracking.moving_features import RecentFrames
from ace_jax.slam.tracking.tracker import Tracked, Tracker

_ATTENTION_TAU = {"xfeat": 80.0, "blobs": 160.0, "sift": 160.0}
# Any two RootSIFT descriptors are alike: no entry is negative. With XFeat's 0.75 wide steps (every
# tenth frame of redkitchen) fused what does not belong together: 4.4 cm; 0.85 and 0.9 have 1.9.
_MIN_COSINE = {"blobs": 0.9, "sift": 0.9}  # as in mapping


def attention_tau(features: str) -> float:
    """Inverse temperature of landmark attention that suits the descriptors called `features`."""
    return _ATTENTION_TAU.get(features, 80.0)


class LandmarkSlam(SlamSystem):
    """SLAM in a landmark map: guided tracking, landmark attention to relocalize, local BA.

    Args:
        camera: intrinsics of the frames.
        extractor: features.
        config: constants of the loop.
        seed: of every random draw.
        relocalize_always: do without the motion prediction (relocalize every frame, as ACE-SLAM).
        feature_options: how `extractor` was made, noted in the map.
        mapping_lag: how mapping runs beside tracking, see `MappingQueue`.
        landmark_map: a map to go on from, see `session`; the camera is looked for in it first.
        frozen: look for the camera in `landmark_map` alone and leave it as it is; frames then need
            no depth.
        close_loops: recognise places that were mapped long ago and take out the drift since.

    Attributes:
        closures: the loops that were closed.
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
        self.config = config = config or SlamConfig()
        super().__init__(camera, extractor, config.max_depth)
        self._feature_options = dict(feature_options or {})
        pixel = camera.pixel_scale
        self.landmark_map = landmark_map or LandmarkMap(
            config.max_landmarks, extractor.dim, config.descriptors_per_landmark
        )
        self._free_space = FreeSpace(camera)
        self._noise = FeatureNoise(
            NoiseModel(config.pixel_sigma * pixel, config.inverse_depth_sigma),
            config.min_pixel_sigma * pixel,
            config.pixel_sigma_factor,
            config.noise_memory,
            self.landmark_map.pixel_residual,
        )
        noise = self._noise.model
        gates = MatchGates(
            radius=np.float32(config.fuse_radius * pixel),
            min_cosine=_MIN_COSINE.get(extractor.name, config.min_cosine),
            match_ratio=config.match_ratio,
            cos_max_view_angle=float(np.cos(config.max_view_angle)),
            max_scale_change=config.max_scale_change,
        )
        self._recent = RecentFrames(camera, gates)
        self.frozen = self.needs_no_depth = frozen
        self.tracker = Tracker(
            camera,
            config,
            gates,
            noise,
            attention_tau(extractor.name),
            relocalize_always,
            needs_no_depth=frozen,
        )
        self.mapper = LocalMapper(camera, config, gates, noise)
        self.mapping = MappingQueue(mapping_lag)
        self._unmapped: list[int] = []  # keyframes that wait, oldest first
        self._being_mapped: list[int] = []
        self.closures: list[LoopClosure] = []
        self._loops = None
        if close_loops and not frozen:
            self._loops = LoopCloser(camera, LoopConfig(), gates, noise, seed)
        if landmark_map is not None:
            self.state = State.LOST
        self._key = jax.random.key(seed)
        self._landmarks = np.full(extractor.max_features, NO_LANDMARK, np.int32)
        self._descriptors = np.zeros((extractor.max_features, extractor.dim), np.float32)
        self._frames_since_keyframe = 0
        self._frames_since_lost = config.keyframe_probation
        self._warm_up()

    def _warm_up(self) -> None:
        """Compiles every program before the first frame, on blank input of the right shapes."""
        count, dim = self.extractor.max_features, self.extractor.dim
        blank = Features(
            uv=np.zeros((count, 2), np.float32),
            descriptors=np.zeros((count, dim), np.float32),
            scores=np.zeros(count, np.float32),
            mask=np.zeros(count, bool),
            depth=np.zeros(count, np.float32),
        )
        self.tracker.warm_up(self.landmark_map, blank, self._key)
        self._recent.warm_up(blank)
        if not self.frozen:
            self.mapper.warm_up(self.landmark_map, blank)
        if self._loops is not None:
            self._loops.warm_up(self.landmark_map, blank)

    def _update_map(self) -> None:
        self.mapping.advance()

    def _depth_at(self, frame: Frame, features: Features) -> np.ndarray:
        depth = super()._depth_at(frame, features)
        return straightened(features.uv, depth, self.camera, self.landmark_map.depth_bend)

    def _locate(self, frame: Frame, features: Features, clock: StageClock) -> TrackedFrame:
        if not self.landmark_map.keyframes:
            return self._start(frame, features, clock)
        return self._continue(frame, features, clock)

    def _start(self, frame: Frame, features: Features, clock: StageClock) -> TrackedFrame:
        usable = int(np.sum(features.depth > 0))
        if usable < 3 * self.config.min_inliers:
            return TrackedFrame(frame.index, frame.timestamp, None)
        pose = np.eye(4)
        landmarks = np.full(len(features.mask), NO_LANDMARK, np.int32)
        self._insert_keyframe(frame, features, pose, landmarks, inlier_ratio=1.0)
        clock.lap("mapping")
        self.state = State.TRACKING
        self._recent.remember(frame.timestamp, features, pose)
        return TrackedFrame(frame.index, frame.timestamp, pose, 0, np.eye(4))

    def _continue(self, frame: Frame, features: Features, clock: StageClock) -> TrackedFrame:
        predicted, everything = None, features
        if self.state is State.TRACKING:
            predicted = self._predicted(frame.timestamp).astype(np.float32)
            features = features.without(self._free_space.moved(features, frame.depth, predicted))
        tracked = self._tracked(frame, features, predicted)
        features = tracked.features
        clock.lap("tracking")
        if tracked.camera_from_world is None or self._ambiguous(tracked):
            self.state = State.LOST
            self._free_space.forget()
            self._recent.forget()
            return TrackedFrame(frame.index, frame.timestamp, None)
        pose = orthonormalized(tracked.camera_from_world)
        self._frames_since_lost = 0 if self.state is State.LOST else self._frames_since_lost + 1
        self.state = State.TRACKING
        self._frames_since_keyframe += 1
        self._landmarks, self._descriptors = tracked.landmarks, features.descriptors
        if frame.depth is not None:
            self._free_space.remember(frame.timestamp, frame.depth, pose)
        self._noise.learn(tracked.pixel_error)
        self.landmark_map.pixel_residual = self._noise.residual
        self.tracker.noise = self.mapper.noise = self._noise.model
        if self._loops is not None:
            self._loops.noise = self._noise.model
        shared = self.landmark_map.covisibility(tracked.landmarks)
        reference = self._most_covisible(shared)
        anchor = self.landmark_map.keyframes[reference].camera_from_world
        camera_from_reference = pose @ invert(anchor)
        if self._may_map(features) and self._needs_keyframe(
            pose, features, tracked.landmarks, reference, np.flatnonzero(shared)
        ):
            moving = self._recent.moving(frame.timestamp, features, pose)
            reference = self._insert_keyframe(
                frame,
                features.without(moving),
                pose,
                np.where(moving, NO_LANDMARK, tracked.landmarks),
                tracked.inlier_ratio,
            )
            camera_from_reference = np.eye(4)
            clock.lap("mapping")
        self._recent.remember(frame.timestamp, self.unrolled(frame, everything, pose), pose)
        return TrackedFrame(frame.index, frame.timestamp, pose, reference, camera_from_reference)

    def _tracked(self, frame: Frame, features: Features, predicted: np.ndarray | None) -> Tracked:
        """The frame's pose, sought again without what moves if the camera seems to follow that."""
        track = functools.partial(
            self.tracker.track,
            self.landmark_map,
            last_landmarks=self._landmarks,
            last_descriptors=self._descriptors,
            key=functools.partial(jax.random.fold_in, self._key, frame.index),
        )
        tracked = track(functools.partial(self.unrolled, frame, features), predicted)
        if tracked.camera_from_world is None or self._is_steady(tracked):
            return tracked
        corrected = self._recent.corrected(
            frame.timestamp, tracked.features, tracked.camera_from_world
        )
        if corrected is None:
            return tracked
        pose, moving = corrected
        again = track(functools.partial(self.unrolled, frame, features.without(moving)), pose)
        return tracked if again.camera_from_world is None or again.relocalized else again

    def _is_steady(self, tracked: Tracked) -> bool:
        """Whether a pose is one that nobody who walks has dragged along."""
        well_observed = np.sum(self.tracker.well_observed(self.landmark_map, tracked.landmarks))
        return (
            tracked.agreement >= self.config.unsteady_agreement
            or well_observed >= self.config.min_well_observed
        )

    def _predicted(self, timestamp: float) -> np.ndarray:
        """(4, 4) camera_from_world at a time, if the camera goes on moving as it did."""
        motion = self._motion()
        interval = timestamp - self.frames[-1].timestamp
        pose = self.corrected_pose(self.frames[-1])
        if motion is None or not 0 < interval <= MAX_INTERVAL:
            return pose
        return motion.after(interval) @ pose

    def _most_covisible(self, shared: np.ndarray) -> int:
        """The keyframe that shares most landmarks with a frame; the newest of several."""
        most = len(shared) - 1 - int(np.argmax(shared[::-1]))
        return most if shared[most] else self.landmark_map.newest

    def _ambiguous(self, tracked: Tracked) -> bool:
        """Whether a displaced pose would explain the frame as well (the aperture problem).

        In a narrow strip of the image, structure that repeats along it (cupboards, tiles) lets half
        of the matches agree with a pose that is displaced by 10 cm.
        """
        config = self.config
        if tracked.inlier_ratio >= config.small_spread_inlier_ratio:
            return False
        spread = np.linalg.eigvalsh(np.cov(tracked.features.uv[tracked.landmarks >= 0].T))[0]
        return bool(np.sqrt(max(spread, 0.0)) < config.min_inlier_spread * self.camera.pixel_scale)

    def _may_map(self, features: Features) -> bool:
        """Whether this frame is good enough to be learned from.

        The first poses after the camera was lost may rest on a corner of the picture (a hand that
        goes away), and a map that grows from such a pose is bent for good.
        """
        return (
            not self.frozen
            and self._frames_since_lost >= self.config.keyframe_probation
            and int(np.sum(features.depth > 0)) >= self.config.min_inliers
        )

    def _needs_keyframe(
        self,
        pose: np.ndarray,
        features: Features,
        landmarks: np.ndarray,
        reference: int,
        covisible: np.ndarray,
    ) -> bool:
        config = self.config
        if self._frames_since_keyframe < config.keyframe_min_gap:
            return False
        if len(covisible) == 0:
            return True
        # Little is known of this view, and much could be (ORB-SLAM2, III-E).
        tracked, new = landmarks >= 0, (landmarks < 0) & (features.depth > 0)
        if tracked.sum() < config.keyframe_min_tracked and new.sum() > config.keyframe_min_new:
            return True
        theirs = self.landmark_map.keyframes[reference].landmarks
        theirs = theirs[theirs >= 0]
        tracked = np.isin(theirs, landmarks[landmarks >= 0]).sum()
        if tracked < config.keyframe_overlap * len(theirs):
            return True
        poses = np.stack([self.landmark_map.keyframes[n].camera_from_world for n in covisible])
        metres, radians = difference(poses, pose)
        return not np.any(
            (metres < config.keyframe_translation) & (radians < config.keyframe_rotation)
        )

    def _insert_keyframe(
        self,
        frame: Frame,
        features: Features,
        pose: np.ndarray,
        landmarks: np.ndarray,
        inlier_ratio: float,
    ) -> int:
        keyframe = Keyframe(
            frame_index=frame.index,
            camera_from_world=pose,
            uv=features.uv,
            descriptors=features.descriptors,
            depth=features.depth,
            mask=features.mask,
            landmarks=landmarks,
            inlier_ratio=inlier_ratio,
            planes=None if frame.depth is None else fit_planes(frame.depth, self.camera),
        )
        number = self.mapper.insert(self.landmark_map, keyframe, frame.rgb)
        # The frame's features now show the landmarks that were made of them.
        self._landmarks = keyframe.landmarks.copy()
        self._descriptors = features.descriptors
        self._frames_since_keyframe = 0
        self._unmapped.append(number)
        if len(self._unmapped) == 1:
            self.mapping.submit(self._map())
        return number

    def _map(self) -> MappingTask:
        """What new keyframes set off: all that wait when its turn comes are mapped together."""
        numbers, self._unmapped = self._unmapped, []
        self._being_mapped = numbers
        yield from self.mapper.refine(self.landmark_map, numbers)
        self._being_mapped = []
        if self._loops is not None and len(self._unmapped) <= self.config.max_waiting_loops:
            closure = yield from self._loops.close(self.landmark_map, numbers[-1])
            if closure is not None:
                self.closures.append(closure)
                self._free_space.forget()
                self._recent.forget()
        self.landmark_map.retire_surplus(self.config.max_keyframes, self.config.recent_keyframes)

    def locate_keyframe(self, keyframe: Keyframe) -> np.ndarray | None:
        """(4, 4) camera_from_world of another map's keyframe in this map, or None."""
        features = keyframe.features
        nothing = np.full(len(keyframe.mask), NO_LANDMARK, np.int32)
        tracked = self.tracker.track(
            self.landmark_map,
            lambda _: features,
            None,
            nothing,
            keyframe.descriptors,
            lambda: self._key,
        )
        return tracked.camera_from_world

    def refine_keyframe(self, number: int) -> None:
        """Fuses a keyframe that was taken over from another map with what is here, and adjusts."""
        self.mapping.submit(self.mapper.refine(self.landmark_map, [number]))
        self.mapping.finish()

    def tracking_state(self) -> dict[str, np.ndarray]:
        """Where tracking stands, for `resume`; keyframes and landmarks by `LandmarkMap.places`."""
        landmark, place = self.landmark_map.places()
        fused = {number for number, _ in self.landmark_map.edges.unlearned}
        unadjusted = [n for n in self._being_mapped if n in fused]
        unmapped = [n for n in self._being_mapped if n not in fused] + self._unmapped
        recent = {f"recent/{name}": x for name, x in self._recent.content().items()}
        air = {f"air/{name}": x for name, x in self._free_space.content().items()}
        return (
            recent
            | air
            | {
                "tracks": np.array(self.state is State.TRACKING),
                "landmarks": landmark[self._landmarks],
                "descriptors": self._descriptors,
                "frames_since": np.array([self._frames_since_keyframe, self._frames_since_lost]),
                "age": np.array(self.mapping.age),
                "unmapped": np.array([place[n] for n in unmapped if n in place], np.int64),
                "unadjusted": np.array([place[n] for n in unadjusted if n in place], np.int64),
            }
        )

    def resume(self, frames: list[TrackedFrame], tracking: Mapping[str, np.ndarray]) -> None:
        """Goes on where another system was that had this map.

        Args:
            frames: those that it processed.
            tracking: what its `tracking_state` returned; if that is empty, as in checkpoints of
                earlier versions, the camera is looked for in the map.

        Raises:
            ValueError: `tracking` does not fit the map or the features.
            KeyError: a part of it is missing.
        """
        self.frames = frames
        if not tracking:
            return
        landmarks = tracking["landmarks"]
        unmapped, unadjusted = (
            tracking[name].astype(np.int64).tolist() for name in ("unmapped", "unadjusted")
        )
        if (
            landmarks.shape != self._landmarks.shape
            or tracking["descriptors"].shape != self._descriptors.shape
            or np.any((landmarks < NO_LANDMARK) | (landmarks >= self.landmark_map.capacity))
            or not all(number in self.landmark_map.keyframes for number in unmapped + unadjusted)
            or (tracking["tracks"] and (not frames or frames[-1].camera_from_reference is None))
        ):
            raise ValueError("what was tracked last is not in the map")
        self._recent.restore(part(tracking, "recent/"))
        self._free_space.restore(part(tracking, "air/"))
        self._landmarks = np.where(self.landmark_map.valid[landmarks], landmarks, NO_LANDMARK)
        self._descriptors = tracking["descriptors"]
        self._frames_since_keyframe, self._frames_since_lost = tracking["frames_since"].tolist()
        self.state = State.TRACKING if tracking["tracks"] else State.LOST
        if unadjusted:
            self.mapping.submit(self.mapper.adjust(self.landmark_map, unadjusted))
        self._unmapped = unmapped
        if unmapped:
            self.mapping.submit(self._map())
        self.mapping.age = int(tracking["age"])

    def finish(self) -> None:
        """Completes the mapping that still runs, and settles the map."""
        self.mapping.finish()
        if not self.frozen:
            self.mapping.submit(self.mapper.settle(self.landmark_map))
            self.mapping.finish()

    @property
    def last_landmarks(self) -> np.ndarray:
        """(N,) landmarks of the last tracked frame's features, NO_LANDMARK where there is none."""
        return self._landmarks

    def reference_pose(self, number: int) -> np.ndarray:
        """(4, 4) camera_from_world of a keyframe, as corrected so far."""
        return self.landmark_map.pose_of(number)

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks (M, 3) world, metres, and their colours (M, 3) uint8."""
        return self.landmark_map.points[self.landmark_map.valid], self.landmark_map.colours[
            self.landmark_map.valid
        ]

    def scene_map(self) -> SceneMap:
        """A landmark-attention head that holds every landmark with its mean descriptor."""
        landmark_map, tau = self.landmark_map, attention_tau(self.extractor.name)
        landmarks = landmark_map.block(np.flatnonzero(landmark_map.valid), len(landmark_map))
        entries = landmark_entries(_with_mean_descriptor(landmarks), len(landmark_map), tau=tau)
        keyframes = list(landmark_map.keyframes.values())
        centres = np.array([k.centre for k in keyframes]).reshape(-1, 3)
        return SceneMap(
            **entries,
            features=self.extractor.name,
            feature_options=self._feature_options,
            feature_checksum=self.extractor.weights_checksum,
            camera=self.camera,
            mean=centres.mean(0) if len(centres) else np.zeros(3),
        )


def _with_mean_descriptor(landmarks: Landmarks) -> Landmarks:
    total = landmarks.descriptors.sum(axis=1, keepdims=True)
    norm = np.linalg.norm(total, axis=2, keepdims=True)
    return landmarks.replace(descriptors=total / np.maximum(norm, 1e-6))
