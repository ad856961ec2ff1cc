"""The maps of one run, of which one grows (the Atlas of ORB-SLAM3: Campos et al., T-RO 2021, VI).

Where the camera is lost for a while, a new map begins. It is kept apart until a place in it is
recognised in another map; then the two are joined.
"""

import collections

from ace_jax.slam.config import SlamConfig
from ace_jax.slam.mapping.landmark_map import LandmarkMap
from ace_jax.slam.tracking.loss import GIVEN_UP, TOO_MANY_MAPS


class Atlas:
    """Landmark maps by number, each with its own world axes.

    Args:
        first: the map to begin with; if it has keyframes already, it is of an earlier session.
        config: its `new_map_after` and `max_maps`.

    Attributes:
        maps: by number, oldest first; numbers are never given twice.
        current: number of the map that the camera is in.
        session: number of the map of an earlier session, if there is one.
        lost: frames since the camera was tracked in the current map.
        tracked: frames that were tracked, by map.
        next_number: of the next map.
    """

    def __init__(self, first: LandmarkMap, config: SlamConfig) -> None:
        self._config = config
        self.maps = {0: first}
        self.current = 0
        self.session = 0 if first.keyframes else None
        self.lost = 0
        self.tracked = collections.Counter()
        self.next_number = 1

    @property
    def landmark_map(self) -> LandmarkMap:
        """The map that the camera is in."""
        return self.maps[self.current]

    @property
    def others(self) -> dict[int, LandmarkMap]:
        """The other maps by number, oldest first."""
        return {n: landmark_map for n, landmark_map in self.maps.items() if n != self.current}

    @property
    def main(self) -> int:
        """Number of the map that a run is about: the session's, else that of most frames."""
        if self.session is not None:
            return self.session
        return max(self.maps, key=lambda number: (self.tracked[number], -number))

    def lasted(self, number: int) -> bool:
        """Whether a map has held the camera for more than the first few frames."""
        return number == self.session or self.tracked[number] > self._config.new_map_after

    def gives_up(self) -> bool:
        """Whether a new map should begin, as the camera is not found in the current one.

        The patience is as long as the map has lasted: one that failed at once begins anew at once.
        """
        patience = self._config.new_map_after
        if not self.lasted(self.current):
            patience = min(patience, self.tracked[self.current])
        return self.lost >= patience

    def count_tracked(self) -> None:
        """Counts a frame that was tracked in the current map."""
        self.tracked[self.current] += 1
        self.lost = 0

    def go_to(self, number: int) -> None:
        """Makes a map the current one."""
        self.current, self.lost = number, 0

    def begin(self) -> int:
        """Adds an empty map of the same sensor; returns its number."""
        before = self.landmark_map
        landmark_map = LandmarkMap(
            before.capacity, before.descriptors.shape[2], before.descriptors.shape[0]
        )
        # What is known of the sensor holds for all maps.
        landmark_map.depth_calibration = before.depth_calibration.copy()
        landmark_map.settled_calibration = before.depth_calibration.copy()
        landmark_map.calibrator = before.calibrator
        landmark_map.readout = landmark_map.settled_readout = before.readout
        landmark_map.shutter = before.shutter
        landmark_map.pixel_residual = before.pixel_residual
        self.maps[self.next_number] = landmark_map
        self.next_number += 1
        return self.next_number - 1

    def surplus(self) -> dict[int, str]:
        """Other maps that are not worth keeping, and why: failed at once, or shortest of many."""
        failed = {number: GIVEN_UP for number in self.others if not self.lasted(number)}
        rest = self.others.keys() - failed.keys() - {self.session}
        rest = sorted(rest, key=lambda number: self.tracked[number])
        many = max(len(self.maps) - len(failed) - self._config.max_maps, 0)
        return failed | dict.fromkeys(rest[:many], TOO_MANY_MAPS)

    def remove(self, number: int, into: int | None = None) -> None:
        """Forgets a map; `into` is the one that has adopted it."""
        del self.maps[number]
        frames = self.tracked.pop(number, 0)
        if into is not None:
            self.tracked[into] += frames
            if number == self.session:
                self.session = into
        if number == self.current:
            self.current = into

    def restore(
        self, maps: dict[int, LandmarkMap], current: int, session: int | None, next_number: int
    ) -> None:
        """Takes over the maps of an interrupted run; the present map is its current one."""
        maps[current] = self.landmark_map
        self.maps = dict(sorted(maps.items()))
        self.current, self.session, self.next_number = current, session, next_number
