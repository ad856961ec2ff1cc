"""Joining of two maps of overlapping places.

Keyframes of the second map are relocalized in the first; the motion that enough of them agree on
brings the second map's world into the first's. Then its keyframes and landmarks move over, and
fusing and bundle adjustment join the two where they overlap (map merging in ORB-SLAM3: Campos et
al., T-RO 2021, VI-B).
"""

import dataclasses
from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import difference, invert, orthonormalized, transform
from ace_jax.slam.config import MergeConfig
from ace_jax.slam.loops.loop_closing import LoopCloser
from ace_jax.slam.mapping.keyframes import NO_LANDMARK, Keyframes
from ace_jax.slam.mapping.landmark_map import LandmarkMap
from ace_jax.slam.mapping.mapping_queue import Job
from ace_jax.slam.mapping.sensor_changes import calibrate_depth
from ace_jax.slam.tracking.tracker import Tracked, Tracker

# (4, 4) camera_from_world of a keyframe's features in a map, or None.
Locate = Callable[[LandmarkMap, Features], np.ndarray | None]


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Where two maps meet.

    Attributes:
        first_from_second: (4, 4) world of the second map to world of the first, metres.
        keyframes: numbers of the second map's keyframes that agree on it.
    """

    first_from_second: np.ndarray
    keyframes: tuple[int, ...]


def agreed_overlap(second: LandmarkMap, poses: Mapping[int, np.ndarray]) -> Overlap | None:
    """The motion between two maps that most keyframes agree on; None where too few do.

    Args:
        second: the second map.
        poses: (4, 4) camera_from_world in the first map of some of its keyframes, by number.
    """
    numbers = [number for number in poses if number in second.keyframes]
    if not numbers:
        return None
    motions = np.array(
        [invert(poses[n]) @ second.keyframes[n].camera_from_world for n in numbers], np.float64
    )
    # Compared where the cameras are: a rotation about a far origin would look like a translation.
    there = transform(motions, np.array([second.keyframes[n].centre for n in numbers]))
    distance = np.linalg.norm(there - there[np.arange(len(there)), np.arange(len(there))], axis=2)
    _, turned = difference(motions[:, None], motions)
    agree = (distance < MergeConfig.max_disagreement[0]) & (
        turned < MergeConfig.max_disagreement[1]
    )
    members = np.flatnonzero(agree[int(np.argmax(agree.sum(1)))])
    if len(members) < MergeConfig.min_agreeing:
        return None
    return Overlap(
        first_from_second=orthonormalized(motions[members].mean(0)),
        keyframes=tuple(numbers[m] for m in members),
    )


def find_overlap(locate: Locate, first: LandmarkMap, second: LandmarkMap) -> Overlap | None:
    """Looks for keyframes from all over a second map in a first one."""
    chosen = list(second.keyframes.items())
    chosen = chosen[:: -(-len(chosen) // MergeConfig.max_asked)]
    found = {n: locate(first, keyframe.features) for n, keyframe in chosen}
    return agreed_overlap(second, {n: pose for n, pose in found.items() if pose is not None})


@dataclasses.dataclass
class Joined:
    """What became of a map that another one has adopted.

    Attributes:
        motion: (4, 4) its world to the other's.
        keyframes: its keyframes.
        keyframe: for each of its keyframes the number that it has in the other map.
        landmark: (C + 1,) for each of its slots the other map's, or -1; the last one is -1.
    """

    motion: np.ndarray
    keyframes: Keyframes
    keyframe: dict[int, int]
    landmark: np.ndarray


def adopt_map(
    first: LandmarkMap, second: LandmarkMap, first_from_second: np.ndarray, camera: Camera
) -> Joined:
    """Moves a second map's keyframes, landmarks and registrations into a first one.

    Args:
        first: is changed.
        second: of the same sensor; left as it is.
        first_from_second: (4, 4) world of the second map to world of the first, metres.
        camera: intrinsics of both.

    Raises:
        ValueError: there is no room.
    """
    landmarks, keyframes, observed = second.content()
    landmarks["points"] = transform(first_from_second, landmarks["points"])
    landmarks["view_directions"] = landmarks["view_directions"] @ first_from_second[:3, :3].T
    back = invert(first_from_second)
    keyframes = [
        dataclasses.replace(k, camera_from_world=orthonormalized(k.camera_from_world @ back))
        for k in keyframes
    ]
    known = first.keyframes.next_number
    index, place = second.places()
    slots = first.adopt(
        landmarks, keyframes, observed, second.depth_calibration, camera, second.readout
    )
    first.edges.adopt(second.edges.content(place), known, len(keyframes))
    if second.calibrator is not first.calibrator:
        first.calibrator.include(second.calibrator)
    if second.shutter is not first.shutter:
        first.shutter.include(second.shutter)
    calibrate_depth(first, first.calibrator.calibration, camera)
    alive = first.valid[slots]
    slots = np.append(np.where(alive, slots, NO_LANDMARK), NO_LANDMARK)
    numbers = {number: known + i for number, i in place.items()}
    return Joined(first_from_second, second.keyframes, numbers, slots[index])


class MapJoiner:
    """Looks for each new keyframe of the current map in the other maps of a run.

    Args:
        tracker: finds a keyframe in a map,
        loops: and verifies the place.

    Attributes:
        recognised: the number of another map, and where keyframes of the current one, by number,
            are in it: (4, 4) camera_from_world; None: not known.
    """

    def __init__(self, tracker: Tracker, loops: LoopCloser) -> None:
        self._tracker, self._loops = tracker, loops
        self.recognised: tuple[int, dict[int, np.ndarray]] | None = None
        self._poses: dict[int, dict[int, np.ndarray]] = {}

    def forget(self) -> None:
        """Drops what was found: the maps are others now."""
        self.recognised = None
        self._poses = {}

    def locate(
        self,
        landmark_map: LandmarkMap,
        features: Features,
        draw: int = 0,
        tracker: Tracker | None = None,
    ) -> tuple[Tracked, np.ndarray] | None:
        """Where features of another map are in one, if depth does not contradict it.

        Args:
            landmark_map: the map.
            features: with depth.
            draw: number of the random draw.
            tracker: with the noise as known when the search began; None: as known now.

        Returns:
            As tracked, and the (4, 4) camera_from_world after verification.
        """
        tracker = tracker or self._tracker
        found = tracker.locate(landmark_map, features, draw) if landmark_map.keyframes else None
        if found is None:
            return None
        pose = self._loops.verified(landmark_map, features, found.camera_from_world, tracker.noise)
        return None if pose is None else (found, pose)

    def overlap_of(self, first: LandmarkMap, second: LandmarkMap) -> Overlap | None:
        """Where a second map lies in a first one, by keyframes from all over it."""

        def pose_in(landmark_map: LandmarkMap, features: Features) -> np.ndarray | None:
            found = self.locate(landmark_map, features)
            return None if found is None else found[1]

        return find_overlap(pose_in, first, second)

    def search(
        self, others: Mapping[int, LandmarkMap], current: LandmarkMap, number: int
    ) -> Generator[Job, Any, None]:
        """Looks for a keyframe of the current map in the others; sets `recognised`.

        The others do not change while the job runs: what changes maps waits for it.

        Args:
            others: by number.
            current: the map of the keyframe.
            number: the keyframe.
        """
        if not others:
            return
        features = current.keyframes[number].features
        tracker = dataclasses.replace(self._tracker)  # its noise is learned meanwhile
        found = yield lambda: {
            other: self.locate(landmark_map, features, tracker=tracker)
            for other, landmark_map in others.items()
        }
        for other, place in found.items():
            if place is None:
                continue
            poses = self._poses.setdefault(other, {})
            poses[number] = place[1]
            if self.recognised is None and agreed_overlap(current, poses) is not None:
                self.recognised = other, poses
