"""One SLAM run: a recording in, a folder with trajectory, map, picture and numbers out."""

import contextlib
import dataclasses
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ace_jax.data.frame import BadFrame, FrameSource, inverse_depth_sigma
from ace_jax.data.prefetch import Prefetcher
from ace_jax.errors import UserError
from ace_jax.evaluation.trajectory import Trajectory
from ace_jax.features import registry
from ace_jax.maps import save_map
from ace_jax.slam import outputs
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.network_distillation import DistilledNetworkSlam
from ace_jax.slam.network_slam import HEAD_OPTIONS
from ace_jax.slam.progress import Progress
from ace_jax.slam.system import SlamSystem, State

DEFAULT_HEAD = "landmark_attention"
MAX_BAD_FRAMES_SHOWN = 5


@dataclasses.dataclass
class RunResult:
    """What a run leaves behind.

    Attributes:
        metrics: content of `metrics.json`.
        system: the SLAM system in its last state.
        interrupted: whether Ctrl-C ended it.
    """

    metrics: dict[str, Any]
    system: SlamSystem
    interrupted: bool


def create_system(
    head: str, source: FrameSource, features: str, weights_dir: str | None, seed: int
) -> SlamSystem:
    """The SLAM system of a head's name.

    Raises:
        UserError: no such head or features, or weights are missing.
    """
    heads = (DEFAULT_HEAD, *HEAD_OPTIONS)
    if head not in heads:
        raise UserError(f"no SLAM head {head!r}; there are {', '.join(heads)}")
    extractor = registry.create(features, weights_dir)
    config = SlamConfig()
    depth_sigma = inverse_depth_sigma(source)
    if depth_sigma is not None:
        config = dataclasses.replace(config, inverse_depth_sigma=depth_sigma)
    if head == DEFAULT_HEAD:
        return LandmarkSlam(source.camera, extractor, config, seed=seed)
    return DistilledNetworkSlam(source.camera, extractor, head, config, seed=seed)


def available_features(weights_dir: str | None) -> str:
    """XFeat where its weights are found, else SIFT, which needs none."""
    try:
        registry.create("xfeat", weights_dir)
    except UserError as missing:
        if weights_dir is not None:
            raise
        print(f"features: sift (xfeat tracks better: {missing})", file=sys.stderr)
        return "sift"
    return "xfeat"


def prepare(source: FrameSource, out: Path) -> None:
    """Creates `out`, checks the recording and lets it render; do it before anything is compiled.

    Raises:
        UserError: the recording has no frames or no depth, or `out` cannot be written.
    """
    if len(source) == 0:
        raise UserError(f"{source.name}: no frames")
    if not source.has_depth:
        raise UserError(f"{source.name}: no depth; SLAM needs RGB-D, relocalize takes colour alone")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}; set --out") from error
    if hasattr(source, "prepare"):  # a rendered recording: not on the system's time
        source.prepare()


def run(
    source: FrameSource,
    system: SlamSystem,
    out: Path,
    seed: int = 0,
    readout: float | None = None,
) -> RunResult:
    """Processes a recording and writes the results.

    What was computed is written also when the stream breaks off or is interrupted.

    Args:
        source: the recording; its poses are used for the evaluation alone.
        system: a fresh SLAM system.
        out: the folder to write to; created.
        seed: noted in the metrics.
        readout: seconds of the rolling shutter instead of what the recording says.

    Raises:
        UserError: the recording has no frames or no depth, `out` cannot be written, or the stream
            broke off; what was computed until then is in `out`.
    """
    prepare(source, out)
    ground_truth = source.poses()
    seconds: list[float] = []
    bad: list[str] = []
    interrupted, failure = False, None
    compilations = CompilationCounter()
    with compilations, Prefetcher(source) as frames, Progress(len(source), source.name) as bar:
        try:
            for index, frame, waited in _timed(frames):
                start = time.perf_counter()
                try:
                    if isinstance(frame, BadFrame):
                        raise frame
                    # SLAM never sees the ground truth.
                    frame = dataclasses.replace(frame, world_from_camera=None)
                    if readout is not None:
                        frame = dataclasses.replace(frame, readout=readout)
                    tracked = system.process(frame)
                except BadFrame as error:
                    bad.append(str(error))
                    bar.update(system.state is State.TRACKING)
                    continue
                tracked.stage_ms["read"] = waited * 1e3
                seconds.append(waited + time.perf_counter() - start)
                pose = tracked.live_camera_from_world
                bar.update(
                    pose is not None,
                    None if pose is None else np.linalg.inv(pose),
                    None if ground_truth is None else ground_truth[index],
                )
                if len(seconds) == outputs.WARM_UP_FRAMES:
                    compilations.reset()
        except KeyboardInterrupt:
            interrupted = True
        except (OSError, UserError) as error:
            failure = error
    for line in bad[:MAX_BAD_FRAMES_SHOWN]:
        print(f"skipped: {line}", file=sys.stderr)
    if len(bad) > MAX_BAD_FRAMES_SHOWN:
        print(f"skipped {len(bad) - MAX_BAD_FRAMES_SHOWN} more frames", file=sys.stderr)
    start = time.perf_counter()
    system.finish()
    extra = {
        "frames_skipped": len(bad),
        "interrupted": interrupted,
        "finish_s": time.perf_counter() - start,
        "recompilations": compilations.count,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    metrics = write_results(source, system, out, seconds, len(seconds) + len(bad), seed, extra)
    if failure is not None:
        done = f"the first {len(seconds)} frames are in {out}"
        raise UserError(f"{source.name} broke off: {failure}; {done}") from failure
    return RunResult(metrics, system, interrupted)


def write_results(
    source: FrameSource,
    system: SlamSystem,
    out: Path,
    frame_seconds: list[float],
    frames: int,
    seed: int,
    extra: dict[str, Any],
) -> dict[str, Any]:
    """Writes trajectories, map, points, picture and metrics; returns the metrics."""
    live = Trajectory(*system.live_trajectory())
    final = Trajectory(*system.final_trajectory())
    outputs.write_trajectory_tum(
        out / "trajectory_live.tum", live.timestamps, live.world_from_camera
    )
    outputs.write_trajectory_tum(out / "trajectory.tum", final.timestamps, final.world_from_camera)
    outputs.write_points_ply(out / "points.ply", *system.points())
    map_bytes = save_map(out / "map.safetensors", system.scene_map(), half=True)
    poses = source.poses()
    reference = None if poses is None else Trajectory(source.timestamps(), poses)
    stages: dict[str, list[float]] = {}
    for frame in system.frames:
        for stage, ms in frame.stage_ms.items():
            stages.setdefault(stage, []).append(ms / 1e3)
    metrics = outputs.trajectory_metrics(
        sequence=source.name,
        frames=frames,
        estimate=final,
        live=live,
        ground_truth=reference,
        frame_seconds=frame_seconds,
        stage_seconds=stages,
        map_bytes=map_bytes,
        head=system.scene_map().head,
        features=system.extractor.name,
        seed=seed,
    )
    metrics.update(extra)
    outputs.write_json(out / "metrics.json", metrics)
    outputs.plot_trajectory(out / "trajectory.png", final, reference, title=source.name)
    return metrics


class CompilationCounter(contextlib.AbstractContextManager):
    """Counts the programs that JAX compiles (or loads from its cache) while it is open."""

    _EVENT = "/jax/core/compile/backend_compile_duration"

    def __init__(self):
        self.count = 0
        self._open = False

    def __enter__(self) -> "CompilationCounter":
        self._open = True
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        # JAX has no public call that takes a listener back.
        self._open = False

    def _listen(self, event: str, _: float, **__: Any) -> None:
        if self._open and event == self._EVENT:
            self.count += 1

    def reset(self) -> None:
        """Starts counting anew."""
        self.count = 0


def _timed(frames: Prefetcher) -> Iterator[tuple[int, Any, float]]:
    """Frames with their index and the seconds spent waiting for them."""
    index = 0
    while True:
        start = time.perf_counter()
        try:
            frame = next(frames)
        except StopIteration:
            return
        yield index, frame, time.perf_counter() - start
        index += 1
