"""Loop closing: recognition of places mapped long ago, and correction of the drift since then.

For each new keyframe: old keyframes that the drift so far may have brought here, a vote of
descriptors among them, RANSAC over 3D-3D matches, a guided search in the old map, and then
verification: the same correction in several keyframes, landmarks found wherever they are expected,
depth that does not contradict them, no second place that fits as well. Only then the pose graph is
optimised, landmarks move with the keyframes that made them, duplicates are fused. The stages are of
ORB-SLAM (Mur-Artal and Tardos, T-RO 2017, section VII); the map is only touched in the last step.
"""

import collections
import dataclasses
from collections.abc import Generator
from typing import Any

import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.geometry.rigid import (
    difference,
    invert,
    nearest_view,
    orthonormalized,
    view_difference,
)
from ace_jax.localization.landmarks import Landmarks, MatchGates
from ace_jax.slam.config import LoopConfig
from ace_jax.slam.loops.loop_correction import LoopClosure, Place, correct
from ace_jax.slam.loops.verification import (
    Examination,
    align,
    examine,
    holes,
    match_mutually,
    support,
)
from ace_jax.slam.mapping.landmark_map import LandmarkMap
from ace_jax.slam.mapping.mapping_queue import Job


@dataclasses.dataclass
class _Hypothesis:
    """A correction that some keyframes agree on, and how long ago the last one did."""

    old_from_drifted: np.ndarray
    places: list[Place]
    age: int = 0


class LoopCloser:
    """Closes loops in a `LandmarkMap`, one keyframe after the other.

    Args:
        camera: intrinsics.
        config: when two places are the same.
        gates: of guided matching; the radius is that of `config`.
        noise: standard deviations to begin with.
        seed: of RANSAC.

    Attributes:
        noise: standard deviations, as learned so far.
        outcomes: how often the search ended how, for reports.
    """

    def __init__(
        self,
        camera: Camera,
        config: LoopConfig,
        gates: MatchGates,
        noise: NoiseModel,
        seed: int = 0,
    ):
        self.camera = camera
        self.config = config
        self.noise = noise
        self.outcomes: collections.Counter[str] = collections.Counter()
        pixel = camera.pixel_scale
        self._gates = gates
        self._radii = np.float32([config.wide_radius * pixel, config.fine_radius * pixel])
        self._near_radius = np.float32(config.near_radius * pixel)
        self._seed = np.uint32(seed % 2**32)
        self._hypothesis: _Hypothesis | None = None
        self._rest_until = 0

    def warm_up(self, landmark_map: LandmarkMap, features: Features) -> list[Job]:
        """Calls that compile every program, with blank features."""
        nothing, cosine = np.full(1, -1), self._gates.min_cosine
        keys, mask = self._first_appearances(landmark_map, np.zeros(0, np.int64))
        block = landmark_map.block(nothing, self.config.max_group_landmarks)
        return [
            lambda: self._align(block, features, 0, self.noise),
            lambda: match_mutually(features.descriptors, features.mask, keys, mask, cosine),
            lambda: self._examine(block, features, np.eye(4), self.noise),
        ]

    def forget(self) -> None:
        """Drops what it knows of the map so far: another one takes its place."""
        self._hypothesis, self._rest_until = None, 0

    def verified(
        self,
        landmark_map: LandmarkMap,
        features: Features,
        camera_from_world: np.ndarray,
        noise: NoiseModel,
    ) -> np.ndarray | None:
        """(4, 4) refined pose of features in a map; None if their depth contradicts it.

        Args:
            landmark_map: the map.
            features: of a keyframe of another map.
            camera_from_world: (4, 4) where it was found.
            noise: standard deviations.
        """
        numbers = np.array(list(landmark_map.keyframes))
        poses = np.stack([k.camera_from_world for k in landmark_map.keyframes.values()])
        anchor = int(numbers[nearest_view(poses, camera_from_world)])
        slots = landmark_map.slots_seen_by(self._group(landmark_map, anchor, numbers))
        slots = landmark_map.most_observed(slots, self.config.max_group_landmarks)
        block = landmark_map.block(slots, self.config.max_group_landmarks)
        seen = self._examine(block, features, camera_from_world, noise)
        limit = self.config.max_contradicted
        return None if seen.is_contradicted(limit) else orthonormalized(seen.camera_from_world)

    def close(
        self, landmark_map: LandmarkMap, number: int
    ) -> Generator[Job, Any, LoopClosure | None]:
        """Looks for a loop at a new keyframe, and closes it.

        Yields computations; the value of a `yield` is what the computation returned. One search
        at a time. The map may grow in between; it is changed only in the step that returns a
        closure.
        """
        if number < self._rest_until:
            return None
        old, local_slots = self._old_keyframes(landmark_map, number)
        if len(old) == 0:
            self._hypothesis = None
            self.outcomes["nothing near"] += 1
            return None
        if self._hypothesis is not None:
            place = yield from self._confirm(landmark_map, number, old, local_slots)
        else:
            place = yield from self._discover(landmark_map, number, old, local_slots)
        if place is None:
            self._lose_patience()
            return None
        if self._hypothesis is None:
            pose = landmark_map.keyframes[number].camera_from_world
            self._hypothesis = _Hypothesis(invert(place.camera_from_world) @ pose, [])
        hypothesis = self._hypothesis
        hypothesis.places.append(place)
        hypothesis.age = 0
        yield from self._confirm_earlier(landmark_map, number, old, local_slots)
        if len(hypothesis.places) < self.config.confirmations:
            self.outcomes["waits for confirmation"] += 1
            return None
        self._hypothesis = None
        closure = yield from correct(
            landmark_map, number, hypothesis.places, self.config, self._examine, self.noise
        )
        self.outcomes["not correctable" if closure is None else "closed"] += 1
        if closure is not None:
            self._rest_until = number + self.config.rest
        return closure

    def _confirm_earlier(self, landmark_map, number, old, local_slots) -> Generator[Job, Any, None]:
        """Asks the keyframes before this one, as long as confirmations are missing."""
        places = self._hypothesis.places
        for earlier in range(number - 1, max(number - 1 - self.config.confirmations, -1), -1):
            if len(places) >= self.config.confirmations:
                return
            if earlier > max(old) and earlier not in [p.number for p in places]:
                place = yield from self._confirm(landmark_map, earlier, old, local_slots)
                if place is None:
                    return  # before that the camera saw even less of the old place
                places.append(place)

    def _lose_patience(self) -> None:
        if self._hypothesis is not None:
            self._hypothesis.age += 1
            if self._hypothesis.age > self.config.patience:
                self._hypothesis = None

    def _old_keyframes(
        self, landmark_map: LandmarkMap, number: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Old keyframes that may see what this one sees, nearest first; and the local slots."""
        config = self.config
        here = landmark_map.keyframes[number]
        numbers = np.array(list(landmark_map.keyframes))
        numbers = numbers[numbers <= number - config.min_gap]
        if len(numbers) == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        poses = np.stack([landmark_map.keyframes[n].camera_from_world for n in numbers])
        path = here.travelled - np.array([landmark_map.keyframes[n].travelled for n in numbers])
        distance, turned = view_difference(poses, here.camera_from_world)
        near = (distance < config.view_distance + self._drift(path)) & (
            turned < config.view_angle + self._drift_angle(path)
        )
        if not near.any():
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        shared = landmark_map.covisibility(landmark_map.landmarks_of(number))
        neighbours = np.flatnonzero(shared >= config.min_covisible)
        local_slots = landmark_map.slots_seen_by(np.union1d(neighbours, [number]))
        near &= landmark_map.covisibility(local_slots)[numbers] < config.min_covisible
        order = np.argsort(np.where(near, distance, np.inf), kind="stable")
        return numbers[order[: int(near.sum())]], local_slots

    def _drift(self, path: np.ndarray | float) -> np.ndarray | float:
        return self.config.drift[0] + self.config.drift[1] * path

    def _drift_angle(self, path: np.ndarray | float) -> np.ndarray | float:
        return self.config.drift_angle[0] + self.config.drift_angle[1] * path

    def _discover(
        self, landmark_map, number, old, local_slots
    ) -> Generator[Job, Any, Place | None]:
        """The old place that this keyframe shows, without a prior."""
        config = self.config
        slots = landmark_map.slots_seen_by(old[: config.max_candidates])
        slots = slots[~np.isin(slots, local_slots)]
        slots = landmark_map.most_observed(slots, config.max_candidate_landmarks)
        if len(slots) < config.min_inliers:
            self.outcomes["nothing near"] += 1
            return None
        keyframe = landmark_map.keyframes[number]
        keys, mask = self._first_appearances(landmark_map, slots)
        serials = landmark_map.serial[slots]
        match = yield lambda: np.asarray(
            match_mutually(keyframe.descriptors, keyframe.mask, keys, mask, self._gates.min_cosine)
        )
        slots = slots[match[match >= 0]]
        slots = slots[landmark_map.serial[slots] == serials[match[match >= 0]]]
        votes = np.zeros(landmark_map.keyframes.next_number, np.int64)
        votes[old] = landmark_map.covisibility(slots)[old]
        first = int(np.argmax(votes))
        if votes[first] < config.min_votes:
            self.outcomes["few votes"] += 1
            return None
        group = self._group(landmark_map, first, old)
        place = yield from self._inspect(landmark_map, number, first, group, local_slots, None)
        if place is None:
            return None
        votes[group] = 0
        second = int(np.argmax(votes))
        if votes[second] >= config.min_votes:
            group = self._group(landmark_map, second, old)
            rival = yield from self._inspect(landmark_map, number, second, group, local_slots, None)
            if (
                rival is not None
                and rival.inliers > config.rival * place.inliers
                and not self._agree(rival.camera_from_world, place.camera_from_world)
            ):
                self.outcomes["two places alike"] += 1
                return None
        return place

    def _confirm(self, landmark_map, number, old, local_slots) -> Generator[Job, Any, Place | None]:
        """The place of a keyframe where the hypothesis expects it, or None."""
        pose = landmark_map.keyframes[number].camera_from_world
        predicted = pose @ invert(self._hypothesis.old_from_drifted)
        poses = np.stack([landmark_map.keyframes[n].camera_from_world for n in old])
        anchor = int(old[nearest_view(poses, predicted)])
        group = self._group(landmark_map, anchor, old)
        place = yield from self._inspect(
            landmark_map, number, anchor, group, local_slots, predicted
        )
        if place is not None and not self._agree(place.camera_from_world, predicted):
            self.outcomes["corrections differ"] += 1
            return None
        return place

    def _agree(self, pose: np.ndarray, other: np.ndarray) -> bool:
        drift, angle = difference(pose, other)
        return drift < self.config.agreement[0] and angle < self.config.agreement[1]

    def _group(self, landmark_map: LandmarkMap, anchor: int, old: np.ndarray) -> np.ndarray:
        """An old keyframe and those of `old` that share most with it."""
        shared = landmark_map.covisibility(landmark_map.landmarks_of(anchor))[old]
        shared[old == anchor] = np.iinfo(shared.dtype).max
        order = np.argsort(-shared, kind="stable")[: self.config.group_keyframes]
        return old[order[shared[order] > 0]]

    def _inspect(
        self, landmark_map, number, anchor, group, local_slots, predicted
    ) -> Generator[Job, Any, Place | None]:
        """Where a keyframe is in the old local map around `anchor`, if that is beyond doubt."""
        slots = landmark_map.slots_seen_by(group)
        slots = slots[~np.isin(slots, local_slots)]
        slots = landmark_map.most_observed(slots, self.config.max_group_landmarks)
        if len(slots) < self.config.min_inliers:
            self.outcomes["small old map"] += 1
            return None
        block = landmark_map.block(slots, self.config.max_group_landmarks)
        features, old_features = (landmark_map.keyframes[n].features for n in (number, anchor))
        old_pose = landmark_map.keyframes[anchor].camera_from_world
        noise = self.noise  # as it is now: tracking learns while the job runs

        def job() -> tuple[Examination, Examination] | None:
            start = predicted
            if start is None:
                aligned = self._align(block, features, number, noise)
                if not bool(aligned.success):
                    return None
                start = aligned.camera_from_world
            seen = self._examine(block, features, start, noise)
            return seen, self._examine(block, old_features, old_pose, noise)

        result = yield job
        if result is None:
            self.outcomes["no pose"] += 1
            return None
        seen, reference = result
        pose = orthonormalized(seen.camera_from_world)
        drift, angle = difference(pose, landmark_map.keyframes[number].camera_from_world)
        small = drift < self.config.small_drift[0] and angle < self.config.small_drift[1]
        doubt = self._doubt(seen, reference, small)
        if doubt is None and not self._plausible(landmark_map, number, anchor, pose):
            doubt = "more than drift"
        if doubt is not None:
            self.outcomes[doubt] += 1
            return None
        return Place(number, anchor, pose, seen.inliers, group)

    def _doubt(self, seen: Examination, reference: Examination, small: bool) -> str | None:
        """The reason to reject the candidate; None if there is none."""
        config = self.config
        limits = config.min_inliers, config.min_support, config.max_holes, config.max_contradicted
        inliers, least, most_holes, contradicted = config.small_evidence if small else limits
        if seen.inliers < inliers:
            return "few inliers"
        if np.sum(seen.found > 0) < config.min_cells:
            return "matches in one corner"
        if support(seen) < least * support(reference):
            return "landmarks missing"
        if holes(seen, config) > most_holes:
            return "holes"
        if seen.is_contradicted(contradicted):
            return "depth contradicts"
        return None

    def _plausible(
        self, landmark_map: LandmarkMap, number: int, anchor: int, pose: np.ndarray
    ) -> bool:
        """Whether drift since `anchor` can explain the correction."""
        here = landmark_map.keyframes[number]
        path = here.travelled - landmark_map.keyframes[anchor].travelled
        drift, angle = difference(pose, here.camera_from_world)
        return drift < self._drift(path) and angle < self._drift_angle(path)

    def _first_appearances(
        self, landmark_map: LandmarkMap, slots: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """One descriptor of each landmark and a mask, padded to the vote's capacity."""
        size = self.config.max_candidate_landmarks
        keys = np.zeros((size, landmark_map.descriptors.shape[2]), np.float32)
        keys[: len(slots)] = landmark_map.descriptors[0, slots]
        return keys, np.arange(size) < len(slots)

    def _align(self, block: Landmarks, features: Features, number: int, noise: NoiseModel):
        return align(
            block,
            features,
            self.camera,
            noise,
            self._gates.min_cosine,
            self._seed,
            np.int32(number),
            self.config,
        )

    def _examine(
        self, block: Landmarks, features: Features, pose: np.ndarray, noise: NoiseModel
    ) -> Examination:
        return examine(
            block,
            features,
            pose,
            self.camera,
            self._gates,
            self._radii,
            noise,
            self._near_radius,
            self.config,
        )
