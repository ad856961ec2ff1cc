"""Mapping of new keyframes, beside tracking: local mapping, loop closing, retirement."""

from collections.abc import Callable

from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.loops.loop_closing import LoopCloser
from ace_jax.slam.loops.loop_correction import LoopClosure
from ace_jax.slam.mapping.landmark_map import LandmarkMap
from ace_jax.slam.mapping.local_mapping import LocalMapper
from ace_jax.slam.mapping.mapping_queue import MappingQueue, MappingTask


class KeyframeMapping:
    """Maps keyframes in the order in which they come; those that wait are mapped together.

    Args:
        landmark_map: the map that they are in.
        config: constants.
        mapper: local mapping.
        loops: loop closing, or None.
        lag: see `MappingQueue`.
        on_closure: called when a closed loop has moved the map.

    Attributes:
        queue: where the tasks run.
        closures: the loops that were closed.
        unmapped: keyframes that wait to be mapped, oldest first,
        being_mapped: and those that are being mapped now.
    """

    def __init__(
        self,
        landmark_map: LandmarkMap,
        config: SlamConfig,
        mapper: LocalMapper,
        loops: LoopCloser | None,
        lag: int | None,
        on_closure: Callable[[], None],
    ) -> None:
        self._landmark_map = landmark_map
        self._config = config
        self.mapper = mapper
        self.loops = loops
        self.queue = MappingQueue(lag)
        self._on_closure = on_closure
        self.closures: list[LoopClosure] = []
        self.unmapped: list[int] = []
        self.being_mapped: list[int] = []

    def set_noise(self, noise: NoiseModel) -> None:
        """Takes over what was learned of the features' noise."""
        self.mapper.noise = noise
        if self.loops is not None:
            self.loops.noise = noise

    def add(self, number: int) -> None:
        """Has a keyframe mapped that has just come into the map."""
        self.unmapped.append(number)
        if len(self.unmapped) == 1:
            self.queue.submit(self._task())

    def resume(self, unmapped: list[int], unadjusted: list[int], age: int) -> None:
        """Goes on where another run was; `unadjusted` keyframes are fused already."""
        if unadjusted:
            self.queue.submit(self.mapper.adjust(self._landmark_map, unadjusted))
        self.unmapped = unmapped
        if unmapped:
            self.queue.submit(self._task())
        self.queue.age = age

    def _task(self) -> MappingTask:
        """Maps all keyframes that wait when its turn comes."""
        numbers, self.unmapped = self.unmapped, []
        self.being_mapped = numbers
        yield from self.mapper.refine(self._landmark_map, numbers)
        self.being_mapped = []
        config = self._config
        if self.loops is not None and len(self.unmapped) <= config.max_waiting_loops:
            closure = yield from self.loops.close(self._landmark_map, numbers[-1])
            if closure is not None:
                self.closures.append(closure)
                self._on_closure()
        self._landmark_map.retire_surplus(
            config.max_keyframes, config.recent_keyframes, config.depending_observers
        )

    def finish(self, settle: bool) -> None:
        """Completes what runs and waits; then adjusts the whole map once more, if wanted."""
        self.queue.finish()
        if settle:
            self.queue.submit(self.mapper.settle(self._landmark_map))
            self.queue.finish()
