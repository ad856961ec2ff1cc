"""A long SLAM run with samples of memory, latency, map size and compilations."""

import dataclasses
import time
from pathlib import Path

import numpy as np

from ace_jax.data.frame import FrameSource
from ace_jax.data.playback import Arrival
from ace_jax.data.prefetch import Prefetcher
from ace_jax.slam.frame_poses import State
from ace_jax.slam.run import CompilationCounter, SystemOptions, create_system
from ace_jax.slam.stream import FeatureStream

WARM = 2000  # frames; flat means flat from here on
HEADER = ["frames", "resident MiB", "ms p50", "ms p95", "core ms p50", "core ms p95",
          "keyframes", "landmarks", "tracked %", "compiled"]  # fmt: skip


@dataclasses.dataclass
class Sample:
    """A stretch of frames.

    Attributes:
        frames: its last frame.
        resident: MiB at its end.
        milliseconds: of each frame, from one result to the next.
        core_milliseconds: processor time of the whole process for each frame.
        keyframes: in the map.
        landmarks: in the map.
        tracked: share of the frames with a pose.
        compiled: programs since the stretch before.
    """

    frames: int
    resident: float
    milliseconds: np.ndarray
    core_milliseconds: np.ndarray
    keyframes: int
    landmarks: int
    tracked: float
    compiled: int

    def cells(self) -> list[str]:
        """A row of the table."""
        p50, p95 = np.percentile(self.milliseconds, [50, 95])
        core50, core95 = np.percentile(self.core_milliseconds, [50, 95])
        return [
            f"{self.frames}",
            f"{self.resident:.0f}",
            *(f"{x:.1f}" for x in (p50, p95, core50, core95)),
            f"{self.keyframes}",
            f"{self.landmarks}",
            f"{100 * self.tracked:.1f}",
            f"{self.compiled}",
        ]


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def soak(source: FrameSource, weights_dir: str | None, every: int) -> list[Sample]:
    """Runs over a source; a sample each `every` frames."""
    system = create_system(source, SystemOptions(weights_dir=weights_dir))
    samples: list[Sample] = []
    with CompilationCounter() as compilations, Prefetcher(source, ahead=4) as frames:
        arrivals = (Arrival(i, frame, time.perf_counter()) for i, frame in enumerate(frames))
        with FeatureStream(arrivals, system.observe) as stream:
            wall, core, tracked = [time.perf_counter()], [time.process_time()], 0
            for number, observation in enumerate(stream, 1):
                frame = dataclasses.replace(observation.frame, world_from_camera=None)
                system.process(frame, observation.features)
                tracked += system.state is State.TRACKING
                wall.append(time.perf_counter())
                core.append(time.process_time())
                if number == 2:
                    compilations.reset()
                if number % every == 0:
                    samples.append(
                        Sample(
                            number,
                            _resident(),
                            np.diff(wall) * 1e3,
                            np.diff(core) * 1e3,
                            len(system.landmark_map.keyframes),
                            len(system.landmark_map),
                            tracked / (len(wall) - 1),
                            compilations.count,
                        )
                    )
                    print(samples[-1].cells(), flush=True)
                    wall, core, tracked = wall[-1:], core[-1:], 0
                    compilations.reset()
    return samples


def verdict(samples: list[Sample]) -> str:
    """How far memory and latency are from flat after the first `WARM` frames."""
    warm = [s for s in samples if s.frames >= WARM] or samples
    memory = [s.resident for s in warm]
    core = [float(np.percentile(s.core_milliseconds, 95)) for s in warm]
    return (
        f"After {warm[0].frames} frames resident memory changes by "
        f"{100 * (max(memory) / memory[0] - 1):+.1f} % at most; processor time p95 of the last "
        f"stretch against the first: {100 * (core[-1] / core[0] - 1):+.1f} %."
    )
