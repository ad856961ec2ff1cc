"""The map: landmarks in recycled slots, and the keyframes that observe them (host side).

Bookkeeping is numpy because it grows and branches; every number-crunching step receives blocks of
fixed size cut from here, so nothing recompiles.
"""

import dataclasses

import numpy as np

from ace_jax.geometry.camera import MIN_DEPTH, Camera
from ace_jax.slam.matching import LandmarkBlock

NO_LANDMARK = -1


@dataclasses.dataclass
class Keyframe:
    """An image that stays in the map.

    Attributes:
        frame_index: the source's index of the image.
        camera_from_world: (4, 4) float64.
        uv: (N, 2) pixels.
        descriptors: (N, D) unit length.
        depth: (N,) metres, 0 where unknown.
        mask: (N,) bool.
        landmarks: (N,) int32 slot of each feature's landmark, -1 where there is none.
        inlier_ratio: quality of its pose when it was tracked.
    """

    frame_index: int
    camera_from_world: np.ndarray
    uv: np.ndarray
    descriptors: np.ndarray
    depth: np.ndarray
    mask: np.ndarray
    landmarks: np.ndarray
    inlier_ratio: float

    @property
    def centre(self) -> np.ndarray:
        """(3,) camera centre in the world, metres."""
        return -self.camera_from_world[:3, :3].T @ self.camera_from_world[:3, 3]


class LandmarkMap:
    """Landmarks and keyframes.

    Attributes:
        points: (C, 3) metres, world.
        descriptors: (S, C, D) appearances; the first `appearances[c] (<= S)` are filled.
        view_directions: (C, 3) mean unit direction towards the observers.
        distances: (C,) mean distance of the observers, metres.
        colours: (C, 3) uint8.
        valid: (C,) bool.
        observations: (C,) keyframes that observe the landmark.
        created_at: (C,) keyframe number at which it was made.
        keyframes: all keyframes, oldest first.
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
        self.observations = np.zeros(capacity, np.int32)
        self.created_at = np.zeros(capacity, np.int32)
        self.last_seen = np.zeros(capacity, np.int32)
        self.keyframes: list[Keyframe] = []
        self._free = list(range(capacity - 1, -1, -1))

    def __len__(self) -> int:
        return int(self.valid.sum())

    def _observer_table(self) -> np.ndarray:
        """(number of keyframes, N) landmark slots."""
        return np.stack([k.landmarks for k in self.keyframes])

    def covisibility(self, slots: np.ndarray) -> np.ndarray:
        """(number of keyframes,) how many of the landmarks `slots` each keyframe observes."""
        mine = np.zeros(self.capacity + 1, bool)  # the extra entry takes NO_LANDMARK
        mine[slots[slots >= 0]] = True
        return mine[self._observer_table()].sum(1)

    def slots_seen_by(self, keyframe_numbers: np.ndarray) -> np.ndarray:
        """Sorted slots that any of these keyframes observes."""
        if len(keyframe_numbers) == 0:
            return np.zeros(0, np.int64)
        seen = np.zeros(self.capacity + 1, bool)
        for number in keyframe_numbers:
            seen[self.keyframes[number].landmarks] = True
        seen[-1] = False
        return np.flatnonzero(seen[:-1] & self.valid)

    def in_view(
        self, slots: np.ndarray, camera_from_world: np.ndarray, camera: Camera, margin: float = 40.0
    ) -> np.ndarray:
        """Which landmarks project into the image widened by `margin` pixels: (len(slots),) bool."""
        in_camera = self.points[slots] @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
        z = np.maximum(in_camera[:, 2], 1e-3)
        u = camera.fx * in_camera[:, 0] / z + camera.cx
        v = camera.fy * in_camera[:, 1] / z + camera.cy
        return (
            (in_camera[:, 2] > MIN_DEPTH)
            & (u > -margin)
            & (u < camera.width + margin)
            & (v > -margin)
            & (v < camera.height + margin)
        )

    def block(self, slots: np.ndarray, size: int) -> LandmarkBlock:
        """Landmarks `slots` (at most `size`; -1 entries are masked), padded to `size`."""
        slots = slots[:size]
        index = np.zeros(size, np.int64)
        mask = np.zeros(size, bool)
        index[: len(slots)] = np.maximum(slots, 0)
        mask[: len(slots)] = slots >= 0
        mask &= self.valid[index]
        return LandmarkBlock(
            points=self.points[index],
            descriptors=self.descriptors[:, index],
            view_directions=self.view_directions[index],
            distances=self.distances[index],
            mask=mask,
        )

    def add_keyframe(self, keyframe: Keyframe) -> int:
        """Appends a keyframe with its observations; returns its number."""
        number = len(self.keyframes)
        self.keyframes.append(keyframe)
        features = np.flatnonzero(keyframe.landmarks >= 0)
        self._record(number, features)
        return number

    def observe(self, number: int, features: np.ndarray, slots: np.ndarray) -> None:
        """Notes that `features` of a keyframe show the landmarks `slots`."""
        self.keyframes[number].landmarks[features] = slots
        self._record(number, features)

    def _record(self, number: int, features: np.ndarray) -> None:
        keyframe = self.keyframes[number]
        slots = keyframe.landmarks[features]
        self.observations[slots] += 1
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
        keyframe = self.keyframes[number]
        features = features[keyframe.landmarks[features] >= 0]  # -1 would count as the last slot
        slots = keyframe.landmarks[features]
        keyframe.landmarks[features] = NO_LANDMARK
        np.subtract.at(self.observations, slots, 1)
        self.remove(slots[self.observations[slots] <= 0])

    def create(self, number: int, features: np.ndarray, points: np.ndarray, colours: np.ndarray):
        """Makes landmarks from features of a keyframe; points (F, 3) world, colours (F, 3)."""
        count = min(len(features), len(self._free))
        if count < len(features):
            self._recycle(len(features) - count)
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
        gone = np.zeros(self.capacity + 1, bool)
        gone[slots] = True
        for keyframe in self.keyframes:
            keyframe.landmarks[gone[keyframe.landmarks]] = NO_LANDMARK
        self._free.extend(slots.tolist())

    def fuse(self, kept: int, dropped: int) -> None:
        """Merges two landmarks; a keyframe that observes both keeps the first one's feature."""
        if kept == dropped or not (self.valid[kept] and self.valid[dropped]):
            return
        for keyframe in self.keyframes:
            features = np.flatnonzero(keyframe.landmarks == dropped)
            if len(features) == 0:
                continue
            if np.any(keyframe.landmarks == kept):
                keyframe.landmarks[features] = NO_LANDMARK
            else:
                keyframe.landmarks[features] = kept
                self.observations[kept] += 1
        self.last_seen[kept] = max(self.last_seen[kept], self.last_seen[dropped])
        self.valid[dropped] = False
        self._free.append(int(dropped))

    def cull(self, now: int, patience: int = 3) -> None:
        """Removes landmarks still seen by one keyframe `patience` keyframes after their birth."""
        old = self.valid & (self.created_at <= now - patience)
        self.remove(np.flatnonzero(old & (self.observations < 2)))
