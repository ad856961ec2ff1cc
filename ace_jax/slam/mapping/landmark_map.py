"""The map: landmarks in recycled slots, and the keyframes that observe them (host side).

Bookkeeping is numpy because it grows and branches; every number-crunching step receives blocks of
fixed size cut from here, so nothing recompiles. Each landmark knows its observers, so the cost of a
change does not grow with the number of keyframes.
"""

import dataclasses

import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.camera import MIN_DEPTH, Camera
from ace_jax.geometry.depth_calibration import COEFFICIENTS, LEAST_CHANGE, BendEstimator, rebent
from ace_jax.geometry.host_camera import project
from ace_jax.geometry.rigid import centre, invert, transform
from ace_jax.localization.landmarks import Landmarks
from ace_jax.slam.mapping.depth_edges import DepthEdges

NO_LANDMARK = -1
LANDMARK_ATTRIBUTES = (
    "points",
    "appearances",
    "view_directions",
    "distances",
    "colours",
    "last_seen",
)
WELL_OBSERVED = 3  # observers beyond which a landmark can do without one of them
MAX_OBSERVERS = 32  # per landmark; the oldest observation makes room for a newer one


@dataclasses.dataclass
class Keyframe:
    """An image that stays in the map.

    Attributes:
        frame_index: the source's index of the image.
        camera_from_world: (4, 4) float64.
        uv: (N, 2) pixels.
        descriptors: (N, D) unit length.
        depth: (N,) metres, 0 where unknown, corrected by the map's `depth_bend`.
        mask: (N,) bool.
        landmarks: (N,) int32 slot of each feature's landmark, -1 where there is none. Once the
            keyframe is in a map, change it through the map's methods alone.
        inlier_ratio: quality of its pose when it was tracked.
        travelled: metres from keyframe to keyframe until here; set when it comes into a map.
        planes: (R, C, 3) surfaces of its depth image as the sensor sees them, see `depth_planes`;
            None if they are unknown.
    """

    frame_index: int
    camera_from_world: np.ndarray
    uv: np.ndarray
    descriptors: np.ndarray
    depth: np.ndarray
    mask: np.ndarray
    landmarks: np.ndarray
    inlier_ratio: float
    travelled: float = 0.0
    planes: np.ndarray | None = None

    @property
    def centre(self) -> np.ndarray:
        """(3,) camera centre in the world, metres."""
        return centre(self.camera_from_world)

    @property
    def features(self) -> Features:
        """The image's features."""
        return Features(
            uv=self.uv,
            descriptors=self.descriptors,
            scores=self.mask.astype(np.float32),
            mask=self.mask,
            depth=self.depth,
        )


@dataclasses.dataclass(frozen=True)
class Retired:
    """What is left of a keyframe that made room: its pose hangs on another one's.

    Attributes:
        anchor: number of the keyframe it hangs on, which may be retired by now itself.
        camera_from_anchor: (4, 4) float64 its pose relative to that one's.
    """

    anchor: int
    camera_from_anchor: np.ndarray


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
        seen_by: (C, MAX_OBSERVERS) numbers of these keyframes, the first `observations[c]` count.
        seen_as: (C, MAX_OBSERVERS) which feature of that keyframe it is.
        created_at: (C,) keyframe number at which it was made.
        serial: (C,) int64, another one for each landmark that ever lived in a slot.
        keyframes: by number, oldest first; numbers are never given twice.
        retired: former keyframes by number, see `retire`.
        depth_bend: (12,) how the keyframes' depths are corrected, see `depth_calibration`.
        settled_bend: (12,) what it was when all keyframes were last adjusted to it.
        bend: what is known of the sensor's bend, the next `depth_bend`.
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
        self.observations = np.zeros(capacity, np.int32)
        self.seen_by = np.zeros((capacity, MAX_OBSERVERS), np.int32)
        self.seen_as = np.zeros((capacity, MAX_OBSERVERS), np.int32)
        self.created_at = np.zeros(capacity, np.int32)
        self.last_seen = np.zeros(capacity, np.int32)
        self.serial = np.zeros(capacity, np.int64)
        self.keyframes: dict[int, Keyframe] = {}
        self.retired: dict[int, Retired] = {}
        self.depth_bend = np.zeros(COEFFICIENTS)
        self.settled_bend = np.zeros(COEFFICIENTS)
        self.bend = BendEstimator()
        self.edges = DepthEdges()
        self.pixel_residual = 0.0
        self._table = np.zeros((0, 0), np.int32)  # rows are the keyframes' `landmarks`
        self._row = np.zeros(0, np.int32)  # which row, by number
        self._free_rows: list[int] = []
        self._born = 0
        self._free = list(range(capacity - 1, -1, -1))

    def __len__(self) -> int:
        return int(self.valid.sum())

    @property
    def next_number(self) -> int:
        """The number that the next keyframe will have."""
        return len(self.keyframes) + len(self.retired)

    @property
    def newest(self) -> int:
        """The newest keyframe's number."""
        return next(reversed(self.keyframes))

    def covisibility(self, slots: np.ndarray) -> np.ndarray:
        """(next_number,) how many of the landmarks `slots` each keyframe observes."""
        slots = np.unique(slots[slots >= 0])
        slots = slots[self.valid[slots]]
        counts = np.arange(MAX_OBSERVERS) < self.observations[slots, None]
        return np.bincount(self.seen_by[slots][counts], minlength=self.next_number)

    def slots_seen_by(self, keyframe_numbers: np.ndarray) -> np.ndarray:
        """Sorted slots that any of these keyframes, retired ones apart, observes."""
        if len(keyframe_numbers) == 0:
            return np.zeros(0, np.int64)
        seen = np.zeros(self.capacity + 1, bool)
        for number in keyframe_numbers:
            if number in self.keyframes:
                seen[self.keyframes[number].landmarks] = True
        seen[-1] = False
        return np.flatnonzero(seen[:-1] & self.valid)

    def in_view(
        self, slots: np.ndarray, camera_from_world: np.ndarray, camera: Camera, margin: float = 40.0
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

    def add_keyframe(self, keyframe: Keyframe) -> int:
        """Appends a keyframe with its observations; returns its number."""
        number = self._append(keyframe, keyframe.landmarks)
        self._record(number, np.flatnonzero(keyframe.landmarks >= 0))
        return number

    def _append(self, keyframe: Keyframe, landmarks: np.ndarray) -> int:
        """Numbers a keyframe and gives it a row of the table, which holds `landmarks` then."""
        number = self.next_number
        if self.keyframes:
            before = self.keyframes[self.newest]
            step = float(np.linalg.norm(keyframe.centre - before.centre))
            keyframe.travelled = before.travelled + step
        if not self._free_rows:
            self._grow(len(landmarks))
        if number >= len(self._row):
            self._row = np.append(self._row, np.zeros(max(64, number), np.int32))
        row = self._free_rows.pop()
        self._row[number] = row
        self._table[row] = landmarks
        keyframe.landmarks = self._table[row]
        self.keyframes[number] = keyframe
        return number

    def pose_of(self, number: int) -> np.ndarray:
        """(4, 4) camera_from_world of a keyframe, or of a former one, as known now."""
        live, camera_from_live = self.anchored(number)
        return camera_from_live @ self.keyframes[live].camera_from_world

    def anchored(self, number: int) -> tuple[int, np.ndarray]:
        """The keyframe that a pose hangs on, and (4, 4) the pose's motion from it.

        A keyframe hangs on itself.
        """
        motion = np.eye(4)
        while (gone := self.retired.get(number)) is not None:
            motion = motion @ gone.camera_from_anchor
            number = gone.anchor
        return number, motion

    def anchors(self) -> np.ndarray:
        """(next_number,) the keyframe that each one hangs on: itself, unless it is retired."""
        anchor = np.arange(self.next_number)
        for number, gone in self.retired.items():
            anchor[number] = gone.anchor
        while np.any(anchor != anchor[anchor]):
            anchor = anchor[anchor]
        return anchor

    def retire(self, number: int) -> None:
        """Takes a keyframe's observations, features and descriptors out of the map.

        Its pose follows the keyframe that shares most landmarks with it (the next older one, if
        none does), so what hangs on it is still corrected.
        """
        keyframe = self.keyframes[number]
        shared = self.covisibility(keyframe.landmarks)
        shared[number] = 0
        anchor = int(np.argmax(shared))
        if shared[anchor] == 0:
            anchor = max((n for n in self.keyframes if n < number), default=self.newest)
        if anchor == number:
            raise ValueError("the only keyframe cannot be retired")
        self.forget(number, np.flatnonzero(keyframe.landmarks >= 0))
        motion = keyframe.camera_from_world @ invert(self.keyframes[anchor].camera_from_world)
        self.retired[number] = Retired(anchor, motion)
        del self.keyframes[number]
        self._free_rows.append(int(self._row[number]))
        self.edges.keep(self.keyframes)

    def retire_surplus(self, limit: int, recent: int) -> None:
        """Retires keyframes until at most `limit` are left, the least useful ones first.

        A keyframe is useful for the landmarks that few others observe; of equals the older one
        goes. The first one, which holds the world's axes, and the `recent` newest ones stay.
        """
        while len(self.keyframes) > max(limit, recent + 1):
            numbers = np.array(list(self.keyframes))[1:-recent]
            seen = self._table[self._row[numbers]]
            depend = (seen >= 0) & (self.observations[seen] <= WELL_OBSERVED)
            self.retire(int(numbers[np.argmin(depend.sum(1))]))

    def places(self) -> tuple[np.ndarray, dict[int, int]]:
        """Where `content` has the landmark of each slot, (capacity + 1,), and each keyframe.

        NO_LANDMARK where there is none; the last entry is where a slot of -1 points.
        """
        slots = np.flatnonzero(self.valid)
        landmark = np.full(self.capacity + 1, NO_LANDMARK, np.int32)
        landmark[slots] = np.arange(len(slots))
        return landmark, {number: place for place, number in enumerate(self.keyframes)}

    def content(self) -> tuple[dict[str, np.ndarray], list[Keyframe]]:
        """Landmarks without the empty slots, and keyframes whose `landmarks` count in them.

        What `adopt` takes; `last_seen` counts in these keyframes, retired ones are not among them.
        """
        slots, (index, _) = np.flatnonzero(self.valid), self.places()
        landmarks = {name: getattr(self, name)[slots] for name in LANDMARK_ATTRIBUTES}
        landmarks["descriptors"] = self.descriptors[:, slots]
        landmarks["last_seen"] = np.searchsorted(
            list(self.keyframes), landmarks["last_seen"]
        ).astype(np.int32)
        return landmarks, [
            dataclasses.replace(keyframe, landmarks=index[keyframe.landmarks])
            for keyframe in self.keyframes.values()
        ]

    def adopt(
        self,
        landmarks: dict[str, np.ndarray],
        keyframes: list[Keyframe],
        depth_bend: np.ndarray,
        camera: Camera,
    ) -> None:
        """Takes over landmarks and keyframes of another map, in the same world axes.

        Args:
            landmarks: `descriptors` (S, L, D) and each of `LANDMARK_ATTRIBUTES` (L, ...); of these
                `last_seen` counts keyframes of the other map.
            keyframes: their `landmarks` are indices into these L.
            depth_bend: (12,) how their depths are corrected; from now on as the others' here.
            camera: their intrinsics.

        Raises:
            ValueError: there is no room, or shapes do not fit.
        """
        count, first = len(landmarks["points"]), self.next_number
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
        for keyframe in keyframes:
            copy = dataclasses.replace(keyframe)
            self._correct(copy, depth_bend, self.depth_bend, camera)
            number = self._append(copy, to_slot[keyframe.landmarks])
            linked = self._link(number, np.flatnonzero(copy.landmarks >= 0))
            # Loops move a landmark with the keyframe that made it: the first that shows it.
            self.created_at[linked] = np.minimum(self.created_at[linked], number)
        self.remove(slots[self.observations[slots] == 0])

    def _grow(self, features: int) -> None:
        """Makes room in the table; the keyframes' views of it move along."""
        rows = len(self._table)
        table = np.full((max(64, 2 * rows), features), NO_LANDMARK, np.int32)
        if rows:
            table[:rows] = self._table
        for number, keyframe in self.keyframes.items():
            keyframe.landmarks = table[self._row[number]]
        self._table = table
        self._free_rows.extend(range(len(table) - 1, rows - 1, -1))

    def correct_depth(self, bend: np.ndarray, camera: Camera) -> None:
        """Corrects the depths of all keyframes by another bend (12,); landmarks stay.

        A change of less than `LEAST_CHANGE` is not worth it.
        """
        if np.abs(bend - self.depth_bend).max() < LEAST_CHANGE:
            return
        for keyframe in self.keyframes.values():
            self._correct(keyframe, self.depth_bend, bend, camera)
        self.depth_bend = bend

    @staticmethod
    def _correct(keyframe: Keyframe, before: np.ndarray, after: np.ndarray, camera: Camera) -> None:
        """Corrects depth by one bend instead of another."""
        if not np.array_equal(before, after):
            keyframe.depth = rebent(keyframe.uv, keyframe.depth, camera, before, after)

    def observe(self, number: int, features: np.ndarray, slots: np.ndarray) -> None:
        """Notes that `features` of a keyframe show the landmarks `slots`, no slot twice."""
        self.keyframes[number].landmarks[features] = slots
        self._record(number, features)

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
        keyframe = self.keyframes[number]
        usable = (slots >= 0) & self.valid[slots] & ~np.isin(slots, keyframe.landmarks)
        features, slots = features[usable], slots[usable]
        free = keyframe.landmarks[features] < 0
        self.observe(number, features[free], slots[free])
        fused = 0
        for feature, slot in zip(features[~free].tolist(), slots[~free].tolist(), strict=True):
            own = int(keyframe.landmarks[feature])
            if own < 0:
                continue
            if keep_given or self.observations[own] < self.observations[slot]:
                self.fuse(slot, own)
            else:
                self.fuse(own, slot)
            fused += 1
        return fused

    def _link(self, number: int, features: np.ndarray) -> np.ndarray:
        """Notes in the landmarks that these features show them; returns their slots."""
        slots = self.keyframes[number].landmarks[features]
        full = slots[self.observations[slots] == MAX_OBSERVERS]
        self._unlink(full, self.seen_by[full].argmin(1))
        place = self.observations[slots]
        self.seen_by[slots, place] = number
        self.seen_as[slots, place] = features
        self.observations[slots] += 1
        return slots

    def _record(self, number: int, features: np.ndarray) -> None:
        keyframe = self.keyframes[number]
        slots = self._link(number, features)
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

    def _unlink(self, slots: np.ndarray, places: np.ndarray) -> None:
        """Takes one observation (a place in `seen_by`) from each of some slots."""
        rows = self._row[self.seen_by[slots, places]]
        self._table[rows, self.seen_as[slots, places]] = NO_LANDMARK
        self.observations[slots] -= 1
        last = self.observations[slots]
        self.seen_by[slots, places] = self.seen_by[slots, last]
        self.seen_as[slots, places] = self.seen_as[slots, last]

    def forget(self, number: int, features: np.ndarray) -> None:
        """Takes observations back (outliers of bundle adjustment)."""
        slots = self.keyframes[number].landmarks[features]
        slots = slots[slots >= 0]
        counts = np.arange(MAX_OBSERVERS) < self.observations[slots, None]
        self._unlink(slots, ((self.seen_by[slots] == number) & counts).argmax(1))
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
        counts = np.arange(MAX_OBSERVERS) < self.observations[slots, None]
        rows = self._row[self.seen_by[slots][counts]]
        self._table[rows, self.seen_as[slots][counts]] = NO_LANDMARK
        self.observations[slots] = 0
        self._free.extend(slots.tolist())

    def fuse(self, kept: int, dropped: int) -> None:
        """Merges two landmarks; a keyframe that observes both keeps the first one's feature."""
        if kept == dropped or not (self.valid[kept] and self.valid[dropped]):
            return
        # Plain Python: the lists have a handful of entries, and numpy calls cost more than those.
        count, extra = int(self.observations[kept]), int(self.observations[dropped])
        observers = set(self.seen_by[kept, :count].tolist())
        numbers = self.seen_by[dropped, :extra].tolist()
        features = self.seen_as[dropped, :extra].tolist()
        for number, feature in zip(numbers, features, strict=True):
            if number in observers or count == MAX_OBSERVERS:
                self._table[self._row[number], feature] = NO_LANDMARK
                continue
            self._table[self._row[number], feature] = kept
            self.seen_by[kept, count], self.seen_as[kept, count] = number, feature
            count += 1
        self.observations[kept] = count
        appearances = self.descriptors.shape[0]
        if self.appearances[kept] < appearances:
            self.descriptors[self.appearances[kept], kept] = self.descriptors[0, dropped]
            self.appearances[kept] += 1
        self.last_seen[kept] = max(self.last_seen[kept], self.last_seen[dropped])
        self.valid[dropped] = False
        self.observations[dropped] = 0
        self._free.append(int(dropped))

    def cull(self, now: int, patience: int = 3) -> None:
        """Removes landmarks still seen by one keyframe `patience` keyframes after their birth."""
        old = self.valid & (self.created_at <= now - patience)
        self.remove(np.flatnonzero(old & (self.observations < 2)))
