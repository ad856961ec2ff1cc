"""Keyframes, the poses of those that were retired, and which landmarks they observe."""

import dataclasses

import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.depth_calibration import recorrect_depth
from ace_jax.geometry.rigid import centre, invert

NO_LANDMARK = -1
MAX_OBSERVERS = 32  # per landmark; the oldest observation makes room for a newer one
_FIRST_ROWS = 64


@dataclasses.dataclass
class Keyframe:
    """An image that is kept in the map with its features, depth and pose.

    Attributes:
        frame_index: the source's index of the image.
        camera_from_world: (4, 4) float64.
        uv: (N, 2) pixels.
        descriptors: (N, D) unit length.
        depth: (N,) metres, 0 where unknown, corrected by the map's depth calibration.
        mask: (N,) bool.
        inlier_ratio: quality of its pose when it was tracked.
        travelled: metres from keyframe to keyframe until here; set when it comes into a map.
        planes: (R, C, 3) surfaces of its depth image as the sensor sees them, see `depth_planes`;
            None if they are unknown.
        uv_rate: (N, 2) pixels by which `uv` moves for each second of the shutter's readout, see
            `readout_calibration`; None if the camera's motion was unknown.
    """

    frame_index: int
    camera_from_world: np.ndarray
    uv: np.ndarray
    descriptors: np.ndarray
    depth: np.ndarray
    mask: np.ndarray
    inlier_ratio: float
    travelled: float = 0.0
    planes: np.ndarray | None = None
    uv_rate: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        frame_index: int,
        features: Features,
        camera_from_world: np.ndarray,
        inlier_ratio: float,
        planes: np.ndarray | None,
        uv_rate: np.ndarray | None = None,
    ) -> "Keyframe":
        """A keyframe with these features."""
        return cls(
            frame_index=frame_index,
            camera_from_world=camera_from_world,
            uv=features.uv,
            descriptors=features.descriptors,
            depth=features.depth,
            mask=features.mask,
            inlier_ratio=inlier_ratio,
            planes=planes,
            uv_rate=uv_rate,
        )

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

    def unroll(self, seconds: float) -> None:
        """Corrects pixels for a shutter's readout that is longer by some seconds."""
        if self.uv_rate is not None and seconds:
            self.uv = (self.uv + seconds * self.uv_rate).astype(np.float32)

    def correct_depth(self, before: np.ndarray, after: np.ndarray, camera: Camera) -> None:
        """Corrects depth by one calibration (12,) instead of another."""
        if not np.array_equal(before, after):
            self.depth = recorrect_depth(self.uv, self.depth, camera, before, after)


@dataclasses.dataclass(frozen=True)
class Retired:
    """A keyframe that made room: what is left is its pose relative to another keyframe.

    Attributes:
        anchor: number of that keyframe, which may be retired by now itself.
        camera_from_anchor: (4, 4) float64.
    """

    anchor: int
    camera_from_anchor: np.ndarray


class Keyframes(dict[int, Keyframe]):
    """Keyframes by number, oldest first; numbers are never given twice.

    Attributes:
        retired: former keyframes by number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.retired: dict[int, Retired] = {}

    @property
    def next_number(self) -> int:
        """The number that the next keyframe will have."""
        return len(self) + len(self.retired)

    @property
    def newest(self) -> int:
        """The newest keyframe's number."""
        return next(reversed(self))

    def append(self, keyframe: Keyframe) -> int:
        """Adds a keyframe and notes how far the camera has travelled; returns its number."""
        number = self.next_number
        if self:
            before = self[self.newest]
            step = float(np.linalg.norm(keyframe.centre - before.centre))
            keyframe.travelled = before.travelled + step
        self[number] = keyframe
        return number

    def mean_centre(self) -> np.ndarray:
        """(3,) mean camera centre, world, metres; 0 without keyframes."""
        return np.mean([k.centre for k in self.values()], axis=0) if self else np.zeros(3)

    def retire(self, number: int, anchor: int) -> None:
        """Keeps of a keyframe its pose relative to keyframe `anchor`."""
        pose = self.pop(number).camera_from_world
        self.retired[number] = Retired(anchor, pose @ invert(self[anchor].camera_from_world))

    def pose_of(self, number: int) -> np.ndarray:
        """(4, 4) camera_from_world of a keyframe, or of a former one, as known now."""
        live, camera_from_live = self.anchored(number)
        return camera_from_live @ self[live].camera_from_world

    def anchored(self, number: int) -> tuple[int, np.ndarray]:
        """The keyframe that a pose is relative to, and (4, 4) the motion from it.

        For a keyframe that is not retired: itself.
        """
        motion = np.eye(4)
        while (gone := self.retired.get(number)) is not None:
            motion = motion @ gone.camera_from_anchor
            number = gone.anchor
        return number, motion

    def anchors(self) -> np.ndarray:
        """(next_number,) the keyframe that each one's pose is relative to, see `anchored`."""
        anchor = np.arange(self.next_number)
        for number, gone in self.retired.items():
            anchor[number] = gone.anchor
        while np.any(anchor != anchor[anchor]):
            anchor = anchor[anchor]
        return anchor


class Observations:
    """Observations of C landmarks by numbered keyframes: a growing table, and its inverse.

    A row of the table is a keyframe and holds the landmark of each of its features; the inverse
    lists the observers of each landmark, so the cost of a change does not grow with the number of
    keyframes.

    Args:
        capacity: C.

    Attributes:
        counts: (C,) keyframes that observe the landmark.
        seen_by: (C, MAX_OBSERVERS) numbers of these keyframes; the first `counts[c]` are valid.
        seen_as: (C, MAX_OBSERVERS) which feature of that keyframe it is.
    """

    def __init__(self, capacity: int):
        self.counts = np.zeros(capacity, np.int32)
        self.seen_by = np.zeros((capacity, MAX_OBSERVERS), np.int32)
        self.seen_as = np.zeros((capacity, MAX_OBSERVERS), np.int32)
        self._table = np.zeros((0, 0), np.int32)
        self._row = np.zeros(0, np.int32)  # by keyframe number
        self._free_rows: list[int] = []

    def add_keyframe(self, number: int, landmarks: np.ndarray) -> None:
        """Gives keyframe `number` a row that holds `landmarks` (N,); `link` makes them count."""
        if not self._free_rows:
            self._grow(len(landmarks))
        if number >= len(self._row):
            self._row = np.append(self._row, np.zeros(max(_FIRST_ROWS, number), np.int32))
        self._row[number] = self._free_rows.pop()
        self._table[self._row[number]] = landmarks

    def _grow(self, features: int) -> None:
        rows = len(self._table)
        table = np.full((max(_FIRST_ROWS, 2 * rows), features), NO_LANDMARK, np.int32)
        if rows:
            table[:rows] = self._table
        self._table = table
        self._free_rows.extend(range(len(table) - 1, rows - 1, -1))

    def drop_keyframe(self, number: int) -> None:
        """Frees the row of a keyframe whose observations were all forgotten."""
        self._free_rows.append(int(self._row[number]))

    def of(self, numbers: int | np.ndarray) -> np.ndarray:
        """(N,) landmark of each feature of a keyframe, -1 where there is none.

        A view that cannot be written to; for K numbers a copy (K, N).
        """
        rows = self._table[self._row[numbers]]
        rows.flags.writeable = rows.base is None
        return rows

    def covisibility(self, slots: np.ndarray, keyframes: int) -> np.ndarray:
        """(keyframes,) how many of the landmarks `slots`, none twice, each keyframe observes."""
        return np.bincount(self._observers(slots), minlength=keyframes)

    def _valid(self, slots: np.ndarray) -> np.ndarray:
        return np.arange(MAX_OBSERVERS) < self.counts[slots, None]

    def _observers(self, slots: np.ndarray) -> np.ndarray:
        return self.seen_by[slots][self._valid(slots)]

    def add(self, number: int, features: np.ndarray, slots: np.ndarray) -> None:
        """Notes that features (M,) of a keyframe show landmarks (M,), no landmark twice."""
        self._table[self._row[number], features] = slots
        self.link(number, features)

    def link(self, number: int, features: np.ndarray) -> np.ndarray:
        """Enters features (M,) of a row into the lists of observers; returns the landmarks (M,)."""
        slots = self._table[self._row[number], features]
        full = slots[self.counts[slots] == MAX_OBSERVERS]
        self._remove(full, self.seen_by[full].argmin(1))
        place = self.counts[slots]
        self.seen_by[slots, place] = number
        self.seen_as[slots, place] = features
        self.counts[slots] += 1
        return slots

    def _remove(self, slots: np.ndarray, places: np.ndarray) -> None:
        """Takes one observation (a place in `seen_by`) from each of some landmarks."""
        rows = self._row[self.seen_by[slots, places]]
        self._table[rows, self.seen_as[slots, places]] = NO_LANDMARK
        self.counts[slots] -= 1
        last = self.counts[slots]
        self.seen_by[slots, places] = self.seen_by[slots, last]
        self.seen_as[slots, places] = self.seen_as[slots, last]

    def forget(self, number: int, features: np.ndarray) -> np.ndarray:
        """Takes observations of a keyframe back; returns the landmarks that nobody observes now."""
        slots = self.of(number)[features]
        slots = slots[slots >= 0]
        self._remove(slots, ((self.seen_by[slots] == number) & self._valid(slots)).argmax(1))
        return slots[self.counts[slots] <= 0]

    def clear(self, slots: np.ndarray) -> None:
        """Removes every observation of some landmarks."""
        rows = self._row[self._observers(slots)]
        self._table[rows, self.seen_as[slots][self._valid(slots)]] = NO_LANDMARK
        self.counts[slots] = 0

    def fuse(self, kept: int, dropped: int) -> None:
        """Gives one landmark the observations of another, except where a keyframe has both."""
        # Plain Python: the lists have a handful of entries, and numpy calls cost more than those.
        count, extra = int(self.counts[kept]), int(self.counts[dropped])
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
        self.counts[kept] = count
        self.counts[dropped] = 0
