"""Processing time of a frame by stage."""

import array
import time
from collections.abc import Mapping

import numpy as np

WARM_UP_FRAMES = 2  # compilation; told apart


class StageClock:
    """Milliseconds since the last lap, by stage.

    Args:
        spent_ms: by stage, what was spent on the frame before the clock started.
    """

    def __init__(self, spent_ms: Mapping[str, float] | None = None):
        self.stage_ms: dict[str, float] = dict(spent_ms or {})
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Books the time since the last lap under `stage`."""
        now = time.perf_counter()
        self.stage_ms[stage] = self.stage_ms.get(stage, 0.0) + (now - self._last) * 1e3
        self._last = now


class StageTimes:
    """Milliseconds by stage of all frames of a run, four bytes each.

    Attributes:
        newest: milliseconds by stage of the newest frame.
    """

    def __init__(self) -> None:
        self.newest: Mapping[str, float] = {}
        self._count = 0
        self._milliseconds: dict[str, array.array] = {}

    def add(self, stage_ms: Mapping[str, float]) -> None:
        """Notes the stages that ran for a frame."""
        self.newest = stage_ms
        self._count += 1
        if self._count <= WARM_UP_FRAMES:
            return
        for stage, milliseconds in stage_ms.items():
            self._milliseconds.setdefault(stage, array.array("f")).append(milliseconds)

    def by_stage(self) -> dict[str, np.ndarray]:
        """(M,) milliseconds of each stage in the frames in which it ran and nothing compiled."""
        return {stage: np.array(values) for stage, values in self._milliseconds.items()}
