"""Mapping of new keyframes, beside tracking: local mapping, loops, joining of maps, retirement."""

from collections.abc import Callable, Sequence

import numpy as np

from ace_jax.data.frame import Frame
from ace_jax.features.base import Features
from ace_jax.geometry.depth_planes import fit_planes
from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.loops.loop_closing import LoopCloser
from ace_jax.slam.loops.loop_correction import LoopClosure
from ace_jax.slam.loops.map_joining import MapJoiner
from ace_jax.slam.mapping.atlas import Atlas
from ace_jax.slam.mapping.keyframes import Keyframe
from ace_jax.slam.mapping.local_mapping import LocalMapper
from ace_jax.slam.mapping.mapping_queue import Job, MappingQueue, MappingTask


class KeyframeMapping:
    """Maps keyframes in the order in which they come; those that wait are mapped together.

    Args:
        atlas: its current map is the one that they are in.
        config: constants.
        mapper: local mapping.
        loops: verification of places, and loop closing; None: neither is needed.
        close_loops: whether loops are closed.
        joiner: looks for them in the other maps, or None.
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
        atlas: Atlas,
        config: SlamConfig,
        mapper: LocalMapper,
        loops: LoopCloser | None,
        close_loops: bool,
        joiner: MapJoiner | None,
        lag: int | None,
        on_closure: Callable[[], None],
    ) -> None:
        self._atlas = atlas
        self._config = config
        self.mapper = mapper
        self.loops = loops
        self._close_loops = close_loops
        self.joiner = joiner
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

    def warm_up(self, features: Features) -> list[Job]:
        """Calls that compile every program, with blank features."""
        jobs = self.mapper.warm_up(self._atlas.landmark_map, features)
        if self.loops is not None:
            jobs += self.loops.warm_up(self._atlas.landmark_map, features)
        return jobs

    def insert(
        self,
        frame: Frame,
        features: Features,
        landmarks: np.ndarray,
        camera_from_world: np.ndarray,
        inlier_ratio: float,
        uv_rate: np.ndarray | None = None,
    ) -> int:
        """Adds a frame to the current map as a keyframe, and has it mapped.

        Args:
            frame: the frame.
            features: N features, with depth.
            landmarks: (N,) slot of each feature's landmark, -1 where there is none.
            camera_from_world: (4, 4).
            inlier_ratio: quality of its pose.
            uv_rate: (N, 2) see `Keyframe`.

        Returns:
            Its number.
        """
        camera = self.mapper.camera
        planes = None if frame.depth is None else fit_planes(frame.depth, camera)
        keyframe = Keyframe.of(
            frame.index, features, camera_from_world, inlier_ratio, planes, uv_rate
        )
        number = self.mapper.insert(self._atlas.landmark_map, keyframe, landmarks, frame.rgb)
        self.unmapped.append(number)
        if len(self.unmapped) == 1:
            self.queue.submit(self._task())
        return number

    def resume(self, unmapped: list[int], unadjusted: list[int], age: int) -> None:
        """Goes on where another run was; `unadjusted` keyframes are fused already."""
        if unadjusted:
            self.queue.submit(self.mapper.adjust(self._atlas.landmark_map, unadjusted))
        self.unmapped = unmapped
        if unmapped:
            self.queue.submit(self._task())
        self.queue.age = age

    def _task(self) -> MappingTask:
        """Maps all keyframes that wait when its turn comes."""
        numbers, self.unmapped = self.unmapped, []
        self.being_mapped = numbers
        landmark_map = self._atlas.landmark_map
        yield from self.mapper.refine(landmark_map, numbers)
        self.being_mapped = []
        config = self._config
        has_time = len(self.unmapped) <= config.max_waiting_loops
        if self._close_loops and has_time:
            closure = yield from self.loops.close(landmark_map, numbers[-1])
            if closure is not None:
                self.closures.append(closure)
                self._on_closure()
        if self.joiner is not None and has_time:
            yield from self.joiner.search(self._atlas.others, landmark_map, numbers[-1])
        self._retire_surplus()

    def _retire_surplus(self) -> None:
        config = self._config
        self._atlas.landmark_map.retire_surplus(
            config.max_keyframes, config.recent_keyframes, config.depending_observers
        )

    def tie(self, numbers: Sequence[int], others: Sequence[int]) -> None:
        """Ties keyframes of the current map to `others`, which show the same, see `LocalMapper`."""
        for number in numbers:
            self.queue.submit(self._tie_task(number, others))

    def _tie_task(self, number: int, others: Sequence[int]) -> MappingTask:
        yield from self.mapper.tie(self._atlas.landmark_map, number, others)
        self._retire_surplus()

    def leave_map(self) -> None:
        """Completes the mapping of the current map: another one takes its place."""
        self.queue.finish()
        if self.loops is not None:
            self.loops.forget()
        if self.joiner is not None:
            self.joiner.forget()

    def finish(self, settle: bool) -> None:
        """Completes what runs and waits; then adjusts the whole map once more, if wanted."""
        self.queue.finish()
        if settle:
            self.queue.submit(self.mapper.settle(self._atlas.landmark_map))
            self.queue.finish()
