"""Switches between the maps of a run: a new one, an earlier one, two that were joined."""

import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import invert
from ace_jax.slam.frame_poses import FramePoses
from ace_jax.slam.loops.map_joining import MapJoiner, Overlap, adopt_map, agreed_overlap
from ace_jax.slam.mapping.atlas import Atlas
from ace_jax.slam.mapping.keyframe_mapping import KeyframeMapping
from ace_jax.slam.mapping.keyframes import NO_LANDMARK
from ace_jax.slam.tracking.tracker import Tracked


class MapChanges:
    """Makes them, with all that depends on which map is the current one.

    Args:
        atlas: the maps.
        poses: of the run's frames.
        mapping: of keyframes.
        joiner: looks for overlaps.
        camera: intrinsics.
    """

    def __init__(
        self,
        atlas: Atlas,
        poses: FramePoses,
        mapping: KeyframeMapping,
        joiner: MapJoiner,
        camera: Camera,
    ) -> None:
        self._atlas, self._poses, self._mapping = atlas, poses, mapping
        self._joiner, self._camera = joiner, camera
        self._asked = 0

    def go_to(self, number: int) -> None:
        """Makes another map the current one; gives up those that are not worth keeping."""
        self._mapping.leave_map()
        self._atlas.go_to(number)
        for surplus, why in self._atlas.surplus().items():
            self._poses.drop(surplus, why)
            self._atlas.remove(surplus)

    def find(self, features: Features, draw: int) -> Tracked | None:
        """Looks for a frame in the other maps, one map a frame, and goes to it if that succeeds.

        Args:
            features: of the frame, with depth.
            draw: number of the frame.
        """
        others = self._atlas.others
        if not others:
            return None
        self._asked += 1
        number = sorted(others)[self._asked % len(others)]
        found = self._joiner.locate(others[number], features, draw)
        if found is None:
            return None
        self.go_to(number)
        return found[0]

    def lose(self) -> bool:
        """Counts a frame without a pose; whether a new map began, as there were too many."""
        self._atlas.lost += 1
        if not self._atlas.gives_up():
            return False
        self._mapping.leave_map()  # what it still computes is of the old map
        self.go_to(self._atlas.begin())
        return True

    def join_recognised(self) -> np.ndarray | None:
        """Joins the current map with another one, if mapping has recognised its place there.

        Returns:
            (C + 1,) what has become of the landmark in each slot of the map that was the current
            one, -1 where there is none and at the end; None if nothing was joined.
        """
        if self._joiner.recognised is None:
            return None
        number, poses = self._joiner.recognised
        self._mapping.queue.finish()  # it may move the keyframes
        overlap = agreed_overlap(self._atlas.landmark_map, poses)
        if overlap is None:
            self._joiner.forget()
            return None
        return self._join(number, self._atlas.current, overlap)

    def join_rest(self) -> bool:
        """Goes to the main map and joins it with all maps that overlap, as they are known now.

        Returns:
            Whether there was more than one map.
        """
        self._mapping.queue.finish()
        if not self._atlas.others:
            return False
        self.join_recognised()
        if self._atlas.current != self._atlas.main:
            self.go_to(self._atlas.main)
        left = list(self._atlas.others)
        while left:
            pair = sorted((left.pop(0), self._atlas.current))
            overlap = self._joiner.overlap_of(*(self._atlas.maps[n] for n in pair))
            if overlap is not None:
                self._join(*pair, overlap)
                left = list(self._atlas.others)
        return True

    def _join(self, first: int, second: int, overlap: Overlap) -> np.ndarray:
        """The older one of two maps adopts the newer one, with the frames that were tracked in it.

        Args:
            first: number of a map.
            second: of another one; one of the two is the current one.
            overlap: where the second one lies in the first.

        Returns:
            As `join_recognised`.
        """
        self._mapping.leave_map()
        atlas = self._atlas
        older, newer = sorted((first, second))
        motion, numbers = overlap.first_from_second, list(overlap.keyframes)
        if second == older:
            motion = invert(motion)
        serial = atlas.maps[older].serial.copy()
        atlas.maps[older].make_room(len(atlas.maps[newer]))
        joined = adopt_map(atlas.maps[older], atlas.maps[newer], motion, self._camera)
        self._poses.move(newer, older, joined)
        adopted = set(joined.keyframe.values())
        others = [n for n in atlas.maps[older].keyframes if n not in adopted]
        if second == newer:
            numbers = [joined.keyframe[n] for n in numbers if n in joined.keyframe]
        else:
            others = sorted(adopted)
        landmark = joined.landmark
        if atlas.current == older:
            kept = atlas.landmark_map.serial == serial
            landmark = np.append(np.where(kept, np.arange(len(kept)), NO_LANDMARK), NO_LANDMARK)
        atlas.remove(newer, into=older)
        atlas.go_to(older)
        self._mapping.tie(numbers, others)
        return landmark
