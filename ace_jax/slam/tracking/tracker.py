"""Where is the camera in this frame: coarse search, relocalization, fine search.

The coarse pass matches the last frame's landmarks around the motion prediction. If too few agree,
or with `relocalize_always`, the frame is relocalized from nothing: landmark attention gives every
feature a scene coordinate and RANSAC-Kabsch the pose. The fine pass matches the whole local map.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.absolute_pose import estimate_absolute_pose
from ace_jax.geometry.camera import Camera, unproject
from ace_jax.geometry.pose_optimization import NoiseModel
from ace_jax.geometry.ransac_kabsch import estimate_rigid_transform
from ace_jax.geometry.rigid import nearest_view
from ace_jax.localization.landmarks import Landmarks, MatchGates
from ace_jax.models.landmark_attention import EMPTY, attend
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.mapping.landmark_map import NO_LANDMARK, LandmarkMap
from ace_jax.slam.tracking.guided_pose import GuidedPose, match_and_optimize, pixel_errors


@functools.partial(jax.jit, static_argnames=("num_hypotheses", "colour_only"))
def relocalize(
    descriptors: jax.Array,
    points: jax.Array,
    valid: jax.Array,
    features: Features,
    camera: Camera,
    key: jax.Array,
    tau: float,
    max_spread: float,
    num_hypotheses: int = 512,
    colour_only: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Pose without any prior: landmark attention, then RANSAC-Kabsch (DESIGN 4.4, 6b).

    Args:
        descriptors: (M, D) one appearance for each landmark.
        points: (M, 3) world, metres.
        valid: (M,) bool.
        features: N features with depth.
        camera: intrinsics.
        key: PRNG key.
        tau: inverse temperature of the attention.
        max_spread: metres; less certain coordinates do not vote.
        num_hypotheses: RANSAC samples.
        colour_only: RANSAC-PnP on pixels instead, for features without depth.

    Returns:
        (4, 4) camera_from_world, number of inliers, success.
    """
    predicted = attend(
        features.descriptors, descriptors, points, tau, bias=jnp.where(valid, 0.0, EMPTY)
    )
    if colour_only:
        found = estimate_absolute_pose(
            features.uv,
            predicted.xyz,
            camera,
            key,
            mask=features.mask & (predicted.scale < max_spread),
            threshold=6.0 * camera.pixel_scale,
            max_hypotheses=2 * num_hypotheses,
        )
        return found.camera_from_world, found.num_inliers, found.success
    observed = unproject(features.uv, features.depth, camera)
    usable = features.mask & (features.depth > 0) & (predicted.scale < max_spread)
    # Depth noise grows with the square of the distance, and so does the inlier threshold.
    threshold = 0.04 + 0.015 * features.depth**2
    found = estimate_rigid_transform(
        predicted.xyz,
        observed,
        key,
        mask=usable,
        threshold=threshold,
        max_hypotheses=num_hypotheses,
    )
    return found.camera_from_world, found.num_inliers, found.success


@dataclasses.dataclass
class Tracked:
    """Outcome for one frame.

    Attributes:
        camera_from_world: (4, 4) float32, or None when lost.
        landmarks: (N,) slot of each feature's landmark, -1 where there is none.
        features: the frame's features as they were used, unrolled.
        inlier_ratio: inliers over matches of the fine pass.
        pixel_error: median distance of the inliers from their landmarks' projections, pixels.
        relocalized: the pose came from global relocalization, not from the prediction.
        agreement: inliers over matches in that pass, coarse or fine, in which it is less.
    """

    camera_from_world: np.ndarray | None
    landmarks: np.ndarray
    features: Features
    inlier_ratio: float
    pixel_error: float
    relocalized: bool
    agreement: float


class Tracker:
    """Finds the pose of one frame after another in a `LandmarkMap`."""

    def __init__(
        self,
        camera: Camera,
        config: SlamConfig,
        gates: MatchGates,
        noise: NoiseModel,
        tau: float,
        relocalize_always: bool = False,
        needs_no_depth: bool = False,
    ):
        self.needs_no_depth = needs_no_depth
        self.camera = camera
        self.config = config
        self.gates = gates
        self.noise = noise
        self.tau = tau
        self.relocalize_always = relocalize_always
        self._pixel = camera.pixel_scale

    def track(
        self,
        landmark_map: LandmarkMap,
        unrolled: Callable[[np.ndarray | None], Features],
        predicted: np.ndarray | None,
        last_landmarks: np.ndarray,
        last_descriptors: np.ndarray,
        key: Callable[[], jax.Array],
    ) -> Tracked:
        """Tracks one frame.

        Args:
            landmark_map: the map; not changed.
            unrolled: features of the frame, with depth, for an estimate of its pose (4, 4) or
                None: what the rolling shutter did to them depends on the motion.
            predicted: (4, 4) camera_from_world expected from the motion so far, or None.
            last_landmarks: (N,) landmarks of the last tracked frame's features.
            last_descriptors: (N, D) of these features: how the landmarks looked just now.
            key: PRNG key of this frame; made only when it is needed.
        """
        count = len(last_landmarks)
        features = unrolled(None)
        lost = Tracked(None, np.full(count, NO_LANDMARK, np.int32), features, 0.0, 0.0, False, 0.0)
        step, slots = None, last_landmarks
        if predicted is not None and not self.relocalize_always:
            block = self._last_seen(landmark_map, last_landmarks, last_descriptors)
            well_observed = self.well_observed(landmark_map, last_landmarks)
            for radius in (self.config.coarse_radius, self.config.coarse_retry_radius):
                step = self._match(block, features, predicted, radius, well_observed)
                if self._trusted(step):
                    break
        relocalized = step is None or not self._trusted(step)
        if relocalized:
            found = self._relocalize(landmark_map, features, key(), last_landmarks)
            if found is None:
                return lost
            start = found
            seen_by = self._nearest_keyframe(landmark_map, start)
            slots = landmark_map.keyframes[seen_by].landmarks
        else:
            start = step.camera_from_world
            slots = last_landmarks[step.matches[step.matches >= 0]]
        local = self._local_map(landmark_map, slots, start)
        block = landmark_map.block(local, len(local))
        radius = self.config.fine_radius * (2 if relocalized else 1)
        if not relocalized:
            features = unrolled(start)
        well_observed = self.well_observed(landmark_map, local)
        fine = self._match(block, features, start, radius, well_observed, several_motions=True)
        if relocalized:
            start, radius = fine.camera_from_world, self.config.fine_radius
            fine = self._match(block, features, start, radius, well_observed)
        if fine.num_inliers < self.config.min_inliers * (2 if relocalized else 1):
            return lost
        matches, seen = fine.matches, fine.matches >= 0
        points = block.points[matches[seen]]
        errors = pixel_errors(points, features.uv[seen], fine.camera_from_world, self.camera)
        inlier_ratio = fine.num_inliers / max(fine.num_matches, 1)
        coarse_ratio = 1.0 if relocalized else step.num_inliers / max(step.num_matches, 1)
        landmarks = np.where(matches >= 0, local[np.maximum(matches, 0)], NO_LANDMARK)
        return Tracked(
            camera_from_world=fine.camera_from_world,
            landmarks=landmarks.astype(np.int32),
            features=features,
            inlier_ratio=inlier_ratio,
            pixel_error=float(np.median(errors)),
            relocalized=relocalized,
            agreement=min(coarse_ratio, inlier_ratio),
        )

    def warm_up(self, landmark_map: LandmarkMap, features: Features, key: jax.Array) -> None:
        """Compiles the tracking programs with blank features."""
        nothing = np.full(len(features.mask), NO_LANDMARK)
        pose = np.eye(4, dtype=np.float32)
        block = self._last_seen(landmark_map, nothing, features.descriptors)
        self._match(block, features, pose, 1.0, self.well_observed(landmark_map, nothing))
        for depth in (0.0, 1.0) if self.needs_no_depth else (1.0,):
            seen = features.replace(depth=np.full_like(features.depth, depth))
            self._relocalize(landmark_map, seen, jax.random.fold_in(key, 0), nothing)

    def _last_seen(
        self, landmark_map: LandmarkMap, landmarks: np.ndarray, descriptors: np.ndarray
    ) -> Landmarks:
        """The last frame's landmarks as they looked in it."""
        return landmark_map.block(landmarks, len(landmarks)).replace(
            descriptors=descriptors[:, None]
        )

    def well_observed(self, landmark_map: LandmarkMap, slots: np.ndarray) -> np.ndarray:
        """Which of some landmarks (-1: none) enough keyframes observe."""
        return (slots >= 0) & (landmark_map.observations[slots] >= self.config.well_observed_by)

    def _match(
        self, block, features, pose, radius, well_observed, several_motions: bool = False
    ) -> GuidedPose:
        gates = self.gates.replace(radius=np.float32(radius * self._pixel))
        return match_and_optimize(
            block,
            features,
            pose,
            self.camera,
            gates,
            self.noise,
            well_observed,
            self.config.min_well_observed,
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
        local = local[landmark_map.in_view(local, camera_from_world, self.camera)]
        local = landmark_map.most_observed(local, self.config.max_local_landmarks)
        return local if len(local) else np.full(1, NO_LANDMARK)

    def _nearest_keyframe(self, landmark_map: LandmarkMap, camera_from_world: np.ndarray) -> int:
        """The keyframe whose view (position and direction) is closest to a pose."""
        poses = np.stack([k.camera_from_world for k in landmark_map.keyframes.values()])
        return list(landmark_map.keyframes)[nearest_view(poses, camera_from_world)]

    def _relocalize(
        self, landmark_map: LandmarkMap, features: Features, key, last_landmarks: np.ndarray
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
                key,
                self.tau,
                max_spread=0.15,
                colour_only=self.needs_no_depth and not np.any(features.depth > 0),
            )
            if bool(success) and int(inliers) >= self.config.min_inliers:
                return np.asarray(pose)
        return None
