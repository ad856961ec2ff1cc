"""The pose of a frame in two passes: coarse search or relocalization, then a fine search.

The coarse pass matches the last frame's landmarks around a predicted pose. Without one, the frame
is relocalized without a prior: landmark attention gives every feature a scene coordinate and
RANSAC-Kabsch the pose. The fine pass matches the local map.
"""

import dataclasses
import functools

import numpy as np

from ace_jax.data.depth_at_features import sample_depth
from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import project
from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.geometry.rigid import nearest_view, transform
from ace_jax.localization.landmarks import Landmarks, MatchGates
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.mapping.keyframes import NO_LANDMARK
from ace_jax.slam.mapping.landmark_map import LandmarkMap
from ace_jax.slam.mapping.mapping_queue import Job
from ace_jax.slam.tracking.guided_pose import GuidedPose, match_and_optimize, pixel_errors
from ace_jax.slam.tracking.relocalization import relocalize


@dataclasses.dataclass
class Coarse:
    """A pose that is good enough to search around.

    Attributes:
        camera_from_world: (4, 4) float32.
        slots: landmarks that are seen from about there.
        inlier_ratio: inliers over matches, 1 if relocalized.
        relocalized: it came from global relocalization, not from the prediction.
    """

    camera_from_world: np.ndarray
    slots: np.ndarray
    inlier_ratio: float
    relocalized: bool


@dataclasses.dataclass
class Tracked:
    """The pose of one frame.

    Attributes:
        camera_from_world: (4, 4) float32.
        landmarks: (N,) slot of each feature's landmark, -1 where there is none.
        features: the frame's features as they were used, unrolled.
        inlier_ratio: inliers over matches of the fine pass.
        pixel_error: median distance of the inliers from their landmarks' projections, pixels;
            None without inliers.
        relocalized: the pose came from global relocalization, not from the prediction.
        agreement: inliers over matches in that pass, coarse or fine, in which it is less.
    """

    camera_from_world: np.ndarray
    landmarks: np.ndarray
    features: Features
    inlier_ratio: float
    pixel_error: float | None
    relocalized: bool
    agreement: float

    @property
    def num_landmarks(self) -> int:
        """How many landmarks agree with the pose."""
        return int(np.sum(self.landmarks >= 0))

    @classmethod
    def without_landmarks(cls, camera_from_world: np.ndarray, features: Features) -> "Tracked":
        """A pose (4, 4) that was not estimated from landmarks."""
        nothing = np.full(len(features.mask), NO_LANDMARK, np.int32)
        return cls(camera_from_world, nothing, features, 1.0, None, False, 1.0)


@dataclasses.dataclass
class Tracker:
    """Finds the pose of one frame after another in a `LandmarkMap`, which it does not change.

    Args:
        camera: intrinsics.
        config: constants.
        gates: of guided matching; the radius is that of the pass.
        noise: standard deviations, as learned so far.
        tau: inverse temperature of landmark attention.
        seed: of all draws.
        needs_no_depth: relocalize frames without depth by their pixels.
    """

    camera: Camera
    config: SlamConfig
    gates: MatchGates
    noise: NoiseModel
    tau: float
    seed: int
    needs_no_depth: bool = False

    def coarse(
        self,
        landmark_map: LandmarkMap,
        features: Features,
        predicted: np.ndarray | None,
        last_landmarks: np.ndarray,
        last_descriptors: np.ndarray,
        draw: int,
    ) -> Coarse | None:
        """The pose among the last frame's landmarks, or, without a prediction, by relocalization.

        Args:
            landmark_map: the map.
            features: N features, with depth.
            predicted: (4, 4) camera_from_world expected from the motion so far, or None.
            last_landmarks: (N,) landmarks of the last tracked frame's features.
            last_descriptors: (N, D) of these features: how the landmarks looked just now.
            draw: number of the random draw, one for each frame.
        """
        if predicted is not None:
            block = self._last_seen(landmark_map, last_landmarks, last_descriptors)
            well_observed = self.well_observed(landmark_map, last_landmarks)
            radius = self.config.coarse_radius
            step = self._match(block, features, predicted, radius, well_observed)
            if not self._trusted(step):
                return None
            slots = last_landmarks[step.matches[step.matches >= 0]]
            ratio = step.num_inliers / max(step.num_matches, 1)
            return Coarse(step.camera_from_world, slots, ratio, relocalized=False)
        pose = self._relocalize(landmark_map, features, draw, last_landmarks)
        if pose is None:
            return None
        nearest = self._nearest_keyframe(landmark_map, pose)
        return Coarse(pose, landmark_map.landmarks_of(nearest), 1.0, relocalized=True)

    def fine(self, landmark_map: LandmarkMap, features: Features, coarse: Coarse) -> Tracked | None:
        """The pose among all landmarks in view; None if too few of them agree.

        Args:
            landmark_map: the map.
            features: N features, with depth.
            coarse: where to search.
        """
        config = self.config
        local = self._local_map(landmark_map, coarse.slots, coarse.camera_from_world)
        block = landmark_map.block(local, len(local))
        well_observed = self.well_observed(landmark_map, local)
        match = functools.partial(self._match, block, features, well_observed=well_observed)
        # After relocalization the pose is less precise at first.
        radius, min_inliers = config.fine_radius, config.min_inliers
        if coarse.relocalized:
            radius *= config.relocalized_factor
            min_inliers *= config.relocalized_factor
        fine = match(coarse.camera_from_world, radius, several_motions=True)
        if coarse.relocalized:
            fine = match(fine.camera_from_world, config.fine_radius)
        if fine.num_inliers < min_inliers:
            return None
        matches, seen = fine.matches, fine.matches >= 0
        points = block.points[matches[seen]]
        errors = pixel_errors(points, features.uv[seen], fine.camera_from_world, self.camera)
        inlier_ratio = fine.num_inliers / max(fine.num_matches, 1)
        landmarks = np.where(seen, local[np.maximum(matches, 0)], NO_LANDMARK)
        return Tracked(
            camera_from_world=fine.camera_from_world,
            landmarks=landmarks.astype(np.int32),
            features=features,
            inlier_ratio=inlier_ratio,
            pixel_error=float(np.median(errors)),
            relocalized=coarse.relocalized,
            agreement=min(coarse.inlier_ratio, inlier_ratio),
        )

    def has_few(self, tracked: Tracked) -> bool:
        """Whether a pose was estimated from landmarks, but from few."""
        return 0 < tracked.num_landmarks < self.config.few_landmarks

    def is_contradicted(
        self, landmark_map: LandmarkMap, depth: np.ndarray, camera_from_world: np.ndarray
    ) -> bool:
        """Whether a depth image shows something else where the map's landmarks should be.

        Args:
            landmark_map: the map; its well-observed landmarks near the nearest keyframe count.
            depth: (H, W) metres; 0, NaN and inf where unknown.
            camera_from_world: (4, 4) a pose that was not estimated from landmarks.
        """
        config, near = self.config, self._nearest_keyframe(landmark_map, camera_from_world)
        slots = self._local_map(landmark_map, landmark_map.landmarks_of(near), camera_from_world)
        slots = slots[self.well_observed(landmark_map, slots)]
        points = transform(camera_from_world, landmark_map.points[slots])
        seen = sample_depth(depth, project(points, self.camera))
        expected, seen = points[seen > 0, 2], seen[seen > 0]
        if len(seen) < config.contradicting_landmarks:
            return False
        margin = config.free_space.margin[0] + config.free_space.margin[1] * expected
        return bool(np.mean(np.abs(seen - expected) < margin) < config.contradicted_share)

    def locate(
        self, landmark_map: LandmarkMap, features: Features, draw: int = 0
    ) -> Tracked | None:
        """The pose of features in a map that they were not tracked in, or None.

        Args:
            landmark_map: the map.
            features: N features, with depth.
            draw: number of the random draw.
        """
        nothing = np.full(len(features.mask), NO_LANDMARK, np.int32)
        coarse = self.coarse(landmark_map, features, None, nothing, features.descriptors, draw)
        return None if coarse is None else self.fine(landmark_map, features, coarse)

    def is_steady(self, landmark_map: LandmarkMap, tracked: Tracked) -> bool:
        """Whether a pose cannot have followed a moving person: enough landmarks stood still."""
        known = np.sum(self.well_observed(landmark_map, tracked.landmarks))
        return known >= self.config.moving.min_well_observed

    def is_agreed(self, tracked: Tracked) -> bool:
        """Whether most matches agreed with a pose."""
        return tracked.agreement >= self.config.moving.unsteady_agreement

    def warm_up(self, landmark_map: LandmarkMap, features: Features) -> list[Job]:
        """Calls that compile the tracking programs, with blank features."""
        nothing = np.full(len(features.mask), NO_LANDMARK)
        pose = np.eye(4, dtype=np.float32)
        block = self._last_seen(landmark_map, nothing, features.descriptors)
        observed = self.well_observed(landmark_map, nothing)
        jobs: list[Job] = [lambda: self._match(block, features, pose, 1.0, observed)]
        for depth in (0.0, 1.0) if self.needs_no_depth else (1.0,):
            seen = features.replace(depth=np.full_like(features.depth, depth))
            jobs.append(functools.partial(self._relocalize, landmark_map, seen, 0, nothing))
        return jobs

    def _last_seen(
        self, landmark_map: LandmarkMap, landmarks: np.ndarray, descriptors: np.ndarray
    ) -> Landmarks:
        """The last frame's landmarks as they looked in it."""
        return landmark_map.block(landmarks, len(landmarks)).replace(
            descriptors=descriptors[:, None]
        )

    def well_observed(self, landmark_map: LandmarkMap, slots: np.ndarray) -> np.ndarray:
        """Which of some landmarks (-1: none) enough keyframes observe."""
        return (slots >= 0) & (
            landmark_map.observations[slots] >= self.config.moving.well_observed_by
        )

    def _match(
        self, block, features, pose, radius, well_observed, several_motions: bool = False
    ) -> GuidedPose:
        radius = np.float32(radius * self.camera.pixel_scale)
        gates = self.gates.replace(radius=radius)
        return match_and_optimize(
            block,
            features,
            pose,
            self.camera,
            gates,
            self.noise,
            well_observed,
            self.config.moving,
            several_motions,
        )

    def _trusted(self, step: GuidedPose) -> bool:
        least = max(self.config.min_inliers, self.config.min_inlier_ratio * step.num_matches)
        return step.num_inliers >= least

    def _local_map(
        self, landmark_map: LandmarkMap, slots: np.ndarray, camera_from_world: np.ndarray
    ) -> np.ndarray:
        """Slots in view, seen by the keyframes that share most with `slots`."""
        shared = landmark_map.covisibility(slots)
        order = np.argsort(-shared, kind="stable")[: self.config.local_keyframes]
        local = landmark_map.slots_seen_by(order[shared[order] > 0])
        local = local[
            landmark_map.in_view(local, camera_from_world, self.camera, self.config.view_margin)
        ]
        local = landmark_map.most_observed(local, self.config.max_local_landmarks)
        return local if len(local) else np.full(1, NO_LANDMARK)

    def _nearest_keyframe(self, landmark_map: LandmarkMap, camera_from_world: np.ndarray) -> int:
        """The keyframe whose view (position and direction) is closest to a pose."""
        poses = np.stack([k.camera_from_world for k in landmark_map.keyframes.values()])
        return list(landmark_map.keyframes)[nearest_view(poses, camera_from_world)]

    def _relocalize(
        self, landmark_map: LandmarkMap, features: Features, draw: int, last_landmarks: np.ndarray
    ) -> np.ndarray | None:
        """Pose without a motion prior: where the camera was last, then anywhere in the map.

        Few landmarks compete for a feature in the last place, so a wide step within it is found
        where the whole map has too much that looks alike.
        """
        shared = landmark_map.covisibility(last_landmarks)
        order = np.argsort(-shared, kind="stable")[: self.config.local_keyframes]
        here = np.zeros(landmark_map.capacity, bool)
        here[landmark_map.slots_seen_by(order[shared[order] > 0])] = True
        here &= landmark_map.valid
        for valid in (here, landmark_map.valid) if here.any() else (landmark_map.valid,):
            pose, inliers, success = relocalize(
                landmark_map.descriptors[0],
                landmark_map.points,
                valid,
                features,
                self.camera,
                np.uint32(self.seed % 2**32),
                np.int32(draw),
                self.tau,
                self.config,
                colour_only=self.needs_no_depth and not np.any(features.depth > 0),
            )
            if bool(success) and int(inliers) >= self.config.min_inliers:
                return np.asarray(pose)
        return None
