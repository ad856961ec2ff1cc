"""The map: landmarks in recycled slots, and the keyframes that observe them (host side).

Bookkeeping is numpy because it grows and branches; every number-crunching step receives blocks of
fixed size cut from here, so nothing recompiles.
"""

import dataclasses

import numpy as np

from ace_jax.geometry.camera import MIN_DEPTH, Camera
from ace_jax.geometry.depth_calibration import (
    COEFFICIENTS,
    DepthCalibrator,
)
from ace_jax.geometry.host_camera import project
from ace_jax.geometry.readout_calibration import ReadoutEstimator
from ace_jax.geometry.rigid import transform
from ace_jax.localization.landmarks import Landmarks
from ace_jax.slam.mapping.depth_edges import DepthEdges
from ace_jax.slam.mapping.keyframes import NO_LANDMARK, Keyframe, Keyframes, Observations

LANDMARK_ATTRIBUTES = (
    "points",
    "appearances",
    "view_directions",
    "distances",
    "colours",
    "last_seen",
)


class LandmarkMap:
    """Landmarks and keyframes.

    Attributes:
        points: (C, 3) metres, world.
        descriptors: (S, C, D) appearances; the first `appearances[c] (<= S)` are filled.
        view_directions: (C, 3) mean unit direction towards the observers.
        distances: (C,) mean distance of the observers, metres.
        colours: (C, 3) uint8.
        valid: (C,) bool.
        observed: which feature of which keyframe shows which landmark.
        created_at: (C,) keyframe number at which it was made.
        serial: (C,) int64, another one for each landmark that ever lived in a slot.
        keyframes: by number, oldest first; and the poses of those that were retired.
        depth_calibration: (12,) how the keyframes' depths are corrected, see `depth_calibration`.
        settled_calibration: (12,) what it was when all keyframes were last adjusted to it.
        calibrator: what is known of the depth camera, the next `depth_calibration`.
        readout: seconds of the shutter for which the keyframes' pixels are corrected, or None.
        settled_readout: what it was when all keyframes were last adjusted to it.
        shutter: what is known of the shutter, the next `readout`.
        edges: how the depth images of keyframes were registered to each other.
        pixel_residual: how precisely features are placed, pixels, see `FeatureNoise`; 0: unknown.
    """

    def __init__(self, capacity: int, dim: int, appearances: int):
        self.capacity = capacity
        self.points = np.zeros((capacity, 3), np.float32)
        self.descriptors = np.zeros((appearances, capacity, dim), np.float32)
        self.appearances = np.zeros(capacity, np.int32)
        self.view_directions = np.zeros((capacity, 3), np.float32)
        self.distances = np.zeros(capacity, np.float32)
        self.colours = np.zeros((capacity, 3), np.uint8)
        self.valid = np.zeros(capacity, bool)
        self.observed = Observations(capacity)
        self.created_at = np.zeros(capacity, np.int32)
        self.last_seen = np.zeros(capacity, np.int32)
        self.serial = np.zeros(capacity, np.int64)
        self.keyframes = Keyframes()
        self.depth_calibration = np.zeros(COEFFICIENTS)
        self.settled_calibration = np.zeros(COEFFICIENTS)
        self.calibrator = DepthCalibrator()
        self.readout: float | None = None
        self.settled_readout: float | None = None
        self.shutter = ReadoutEstimator()
        self.edges = DepthEdges()
        self.pixel_residual = 0.0
        self._born = 0
        self._free = list(range(capacity - 1, -1, -1))

    def __len__(self) -> int:
        return int(self.valid.sum())

    @property
    def observations(self) -> np.ndarray:
        """(C,) keyframes that observe each landmark."""
        return self.observed.counts

    def landmarks_of(self, number: int | np.ndarray) -> np.ndarray:
        """(N,) slot of each feature's landmark in a keyframe, or (K, N); see `Observations.of`."""
        return self.observed.of(number)

    def covisibility(self, slots: np.ndarray) -> np.ndarray:
        """(next_number,) how many of the landmarks `slots` each keyframe observes."""
        slots = np.unique(slots[slots >= 0])
        return self.observed.covisibility(slots[self.valid[slots]], self.keyframes.next_number)

    def slots_seen_by(self, keyframe_numbers: np.ndarray) -> np.ndarray:
        """Sorted slots that any of these keyframes, retired ones apart, observes."""
        if len(keyframe_numbers) == 0:
            return np.zeros(0, np.int64)
        seen = np.zeros(self.capacity + 1, bool)
        for number in keyframe_numbers:
            if number in self.keyframes:
                seen[self.landmarks_of(number)] = True
        seen[-1] = False
        return np.flatnonzero(seen[:-1] & self.valid)

    def in_view(
        self, slots: np.ndarray, camera_from_world: np.ndarray, camera: Camera, margin: float
    ) -> np.ndarray:
        """Which landmarks project into the image widened by `margin` pixels: (len(slots),) bool."""
        in_camera = transform(camera_from_world, self.points[slots])
        u, v = project(in_camera, camera).T
        return (
            (in_camera[:, 2] > MIN_DEPTH)
            & (u > -margin)
            & (u < camera.width + margin)
            & (v > -margin)
            & (v < camera.height + margin)
        )

    def most_observed(self, slots: np.ndarray, count: int) -> np.ndarray:
        """At most `count` of some sorted slots, those with most observers, in their order."""
        if len(slots) <= count:
            return slots
        return np.sort(slots[np.argsort(-self.observations[slots], kind="stable")[:count]])

    def block(self, slots: np.ndarray, size: int) -> Landmarks:
        """Landmarks `slots` (at most `size`; -1 entries are empty), padded to `size`."""
        slots = slots[:size]
        index = np.zeros(size, np.int64)
        mask = np.zeros(size, bool)
        index[: len(slots)] = np.maximum(slots, 0)
        mask[: len(slots)] = slots >= 0
        mask &= self.valid[index]
        return Landmarks(
            points=self.points[index],
            descriptors=self.descriptors[:, index].swapaxes(0, 1),
            view_directions=self.view_directions[index],
            distances=self.distances[index],
            views=np.where(mask, self.observations[index], 0),
        )

    def add_keyframe(self, keyframe: Keyframe, landmarks: np.ndarray) -> int:
        """Appends a keyframe; returns its number.

        Args:
            keyframe: N features.
            landmarks: (N,) slot of the landmark that each feature shows, -1 where there is none.
        """
        number = self.keyframes.append(keyframe)
        self.observed.add_keyframe(number, landmarks)
        features = np.flatnonzero(landmarks >= 0)
        self._note_views(number, features, self.observed.link(number, features))
        return number

    def retire(self, number: int) -> None:
        """Takes a keyframe's observations, features and descriptors out of the map.

        Its pose then follows the keyframe that shares most landmarks with it (the next older one,
        if none does), so poses relative to it are still corrected.
        """
        landmarks = self.landmarks_of(number)
        shared = self.covisibility(landmarks)
        shared[number] = 0
        anchor = int(np.argmax(shared))
        if shared[anchor] == 0:
            anchor = max((n for n in self.keyframes if n < number), default=self.keyframes.newest)
        if anchor == number:
            raise ValueError("the only keyframe cannot be retired")
        self.forget(number, np.flatnonzero(landmarks >= 0))
        self.keyframes.retire(number, anchor)
        self.observed.drop_keyframe(number)
        self.edges.keep(self.keyframes)

    def retire_surplus(self, limit: int, recent: int, depending: int = 3) -> None:
        """Retires keyframes until at most `limit` are left, the least useful ones first.

        A keyframe is useful for the landmarks that at most `depending` observe; of equals the older
        one goes. The first one, which holds the world's axes, and the `recent` newest ones stay.
        """
        while len(self.keyframes) > max(limit, recent + 1):
            numbers = np.array(list(self.keyframes))[1:-recent]
            seen = self.landmarks_of(numbers)
            depend = (seen >= 0) & (self.observations[seen] <= depending)
            self.retire(int(numbers[np.argmin(depend.sum(1))]))

    def places(self) -> tuple[np.ndarray, dict[int, int]]:
        """Where `content` has the landmark of each slot, (capacity + 1,), and each keyframe.

        NO_LANDMARK where there is none; the last entry is where a slot of -1 points.
        """
        slots = np.flatnonzero(self.valid)
        landmark = np.full(self.capacity + 1, NO_LANDMARK, np.int32)
        landmark[slots] = np.arange(len(slots))
        return landmark, {number: place for place, number in enumerate(self.keyframes)}

    def content(self) -> tuple[dict[str, np.ndarray], list[Keyframe], np.ndarray]:
        """Landmarks without the empty slots, K keyframes, and (K, N) which they observe: -1 or an
        index into these landmarks.

        What `adopt` takes; `last_seen` counts in these keyframes, retired ones are not among them.
        """
        slots, (index, _) = np.flatnonzero(self.valid), self.places()
        landmarks = {name: getattr(self, name)[slots] for name in LANDMARK_ATTRIBUTES}
        landmarks["descriptors"] = self.descriptors[:, slots]
        landmarks["last_seen"] = np.searchsorted(
            list(self.keyframes), landmarks["last_seen"]
        ).astype(np.int32)
        observed = index[self.landmarks_of(np.array(list(self.keyframes), int))]
        return landmarks, list(self.keyframes.values()), observed

    def adopt(
        self,
        landmarks: dict[str, np.ndarray],
        keyframes: list[Keyframe],
        observed: np.ndarray,
        depth_calibration: np.ndarray,
        camera: Camera,
        readout: float | None = None,
    ) -> np.ndarray:
        """Takes over landmarks and keyframes of another map, in the same world axes.

        Args:
            landmarks: `descriptors` (S, L, D) and each of `LANDMARK_ATTRIBUTES` (L, ...); of these
                `last_seen` counts keyframes of the other map.
            keyframes: K keyframes of N features.
            observed: (K, N) index into these L of the landmark of each feature, or -1.
            depth_calibration: (12,) how their depths are corrected; from now on as the others'
                here.
            camera: their intrinsics.
            readout: seconds for which their pixels are corrected, the same; None: as here.

        Returns:
            (L,) their slots here; those that no keyframe observes are empty.

        Raises:
            ValueError: there is no room, or shapes do not fit.
        """
        count, first = len(landmarks["points"]), self.keyframes.next_number
        if count > len(self._free):
            raise ValueError(f"{count} landmarks, {len(self._free)} places are free")
        slots = np.array([self._free.pop() for _ in range(count)], np.int64)
        for name, values in landmarks.items():
            own = getattr(self, name)
            if name == "descriptors":
                own[:, slots] = values
            else:
                own[slots] = values + first if name == "last_seen" else values
        self.valid[slots] = True
        self.observations[slots] = 0
        self.created_at[slots] = first + len(keyframes)
        self.serial[slots] = self._born + np.arange(count)
        self._born += count
        to_slot = np.append(slots, NO_LANDMARK)  # the last entry is where -1 points
        for keyframe, indices in zip(keyframes, observed, strict=True):
            copy = dataclasses.replace(keyframe)
            copy.correct_depth(depth_calibration, self.depth_calibration, camera)
            if readout is not None and self.readout is not None:
                copy.unroll(self.readout - readout)
            number = self.keyframes.append(copy)
            self.observed.add_keyframe(number, to_slot[indices])
            linked = self.observed.link(number, np.flatnonzero(indices >= 0))
            # Loops move a landmark with the keyframe that made it: the first that shows it.
            self.created_at[linked] = np.minimum(self.created_at[linked], number)
        self.remove(slots[self.observations[slots] == 0])
        return slots

    def make_room(self, count: int) -> None:
        """Deletes the least useful landmarks until `count` places are free."""
        if count > len(self._free):
            self._recycle(count - len(self._free))

    def observe(self, number: int, features: np.ndarray, slots: np.ndarray) -> None:
        """Notes that `features` of a keyframe show the landmarks `slots`, no slot twice."""
        self.observed.add(number, features, slots)
        self._note_views(number, features, slots)

    def show(
        self, number: int, features: np.ndarray, slots: np.ndarray, keep_given: bool = False
    ) -> int:
        """Gives features of a keyframe the landmarks that were matched to them.

        Where a feature shows another landmark already, the two are fused.

        Args:
            number: the keyframe.
            features: (M,) of its features.
            slots: (M,) the landmark of each, no slot twice; -1 and dead ones are passed over.
            keep_given: keep the given one of two landmarks, not the one with more observers.

        Returns:
            How many landmarks were fused.
        """
        landmarks = self.landmarks_of(number)  # changes as observations do
        usable = (slots >= 0) & self.valid[slots] & ~np.isin(slots, landmarks)
        features, slots = features[usable], slots[usable]
        free = landmarks[features] < 0
        self.observe(number, features[free], slots[free])
        fused = 0
        for feature, slot in zip(features[~free].tolist(), slots[~free].tolist(), strict=True):
            own = int(landmarks[feature])
            if own < 0:
                continue
            if keep_given or self.observations[own] < self.observations[slot]:
                self.fuse(slot, own)
            else:
                self.fuse(own, slot)
            fused += 1
        return fused

    def _note_views(self, number: int, features: np.ndarray, slots: np.ndarray) -> None:
        """Takes what a keyframe saw of some landmarks into their mean view and appearances."""
        keyframe = self.keyframes[number]
        self.last_seen[slots] = np.maximum(self.last_seen[slots], number)
        to_camera = keyframe.centre.astype(np.float32) - self.points[slots]
        distance = np.linalg.norm(to_camera, axis=1)
        share = 1.0 / self.observations[slots].astype(np.float32)
        direction = to_camera / np.maximum(distance, 1e-6)[:, None]
        mean = self.view_directions[slots] * (1 - share)[:, None] + direction * share[:, None]
        norm = np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-6)
        self.view_directions[slots] = mean / norm
        self.distances[slots] = self.distances[slots] * (1 - share) + distance * share
        place = self.appearances[slots] % self.descriptors.shape[0]
        self.descriptors[place, slots] = keyframe.descriptors[features]
        self.appearances[slots] += 1

    def forget(self, number: int, features: np.ndarray) -> None:
        """Takes observations back (outliers of bundle adjustment)."""
        self.remove(self.observed.forget(number, features))

    def create(self, number: int, features: np.ndarray, points: np.ndarray, colours: np.ndarray):
        """Makes landmarks from features of a keyframe; points (F, 3) world, colours (F, 3)."""
        self.make_room(len(features))
        count = min(len(features), len(self._free))
        features = features[:count]
        slots = np.array([self._free.pop() for _ in range(count)], np.int64)
        self.points[slots] = points[:count]
        self.colours[slots] = colours[:count]
        self.valid[slots] = True
        self.observations[slots] = 0
        self.appearances[slots] = 0
        self.descriptors[:, slots] = 0
        self.distances[slots] = 0
        self.created_at[slots] = number
        self.last_seen[slots] = number
        self.serial[slots] = self._born + np.arange(count)
        self._born += count
        self.observe(number, features, slots)

    def _recycle(self, count: int) -> None:
        """Frees the least useful landmarks: few observers first, then the longest unseen."""
        alive = np.flatnonzero(self.valid)
        order = np.lexsort((self.last_seen[alive], self.observations[alive]))
        self.remove(alive[order[:count]])

    def remove(self, slots: np.ndarray) -> None:
        """Deletes landmarks and every observation of them."""
        slots = np.unique(slots[slots >= 0])
        slots = slots[self.valid[slots]]
        if len(slots) == 0:
            return
        self.valid[slots] = False
        self.observed.clear(slots)
        self._free.extend(slots.tolist())

    def remove_little_observed(self, slots: np.ndarray, enough: int) -> None:
        """Removes those of some landmarks (M,) that fewer than `enough` keyframes observe."""
        self.remove(slots[self.observations[slots] < enough])

    def fuse(self, kept: int, dropped: int) -> None:
        """Merges two landmarks; a keyframe that observes both keeps the first one's feature."""
        if kept == dropped or not (self.valid[kept] and self.valid[dropped]):
            return
        self.observed.fuse(kept, dropped)
        appearances = self.descriptors.shape[0]
        if self.appearances[kept] < appearances:
            self.descriptors[self.appearances[kept], kept] = self.descriptors[0, dropped]
            self.appearances[kept] += 1
        self.last_seen[kept] = max(self.last_seen[kept], self.last_seen[dropped])
        self.valid[dropped] = False
        self._free.append(int(dropped))

    def cull(self, now: int, patience: int = 3) -> None:
        """Removes landmarks still seen by one keyframe `patience` keyframes after their birth."""
        old = self.valid & (self.created_at <= now - patience)
        self.remove(np.flatnonzero(old & (self.observations < 2)))
