"""One SLAM run: a recording in, a folder with trajectory, map, picture and numbers out."""

import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from ace_jax.data.background import Background
from ace_jax.data.frame import BadFrame, Frame, FrameSource, inverse_depth_sigma, own_cameras
from ace_jax.data.playback import Arrival, Player
from ace_jax.data.prefetch import Prefetcher
from ace_jax.data.subset import SubsetSource
from ace_jax.errors import UserError, limit_reached
from ace_jax.executables import LOADED
from ace_jax.features import registry
from ace_jax.geometry.rigid import invert
from ace_jax.runtime import peak_memory_mb
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.frame_poses import State, TrackedFrame
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.networks.config import HEAD_OPTIONS
from ace_jax.slam.reporting import outputs
from ace_jax.slam.reporting.explored import SampledFrames
from ace_jax.slam.reporting.live_view import SlamView
from ace_jax.slam.reporting.progress import Progress
from ace_jax.slam.reporting.results import write_results
from ace_jax.slam.reporting.stage_times import WARM_UP_FRAMES
from ace_jax.slam.sessions.checkpoint import SlamCheckpoint
from ace_jax.slam.sessions.session import load_session
from ace_jax.slam.stream import FeatureStream, Observation

DEFAULT_HEAD = "landmark_attention"
# Of all recordings the one that loses none, with weights at hand or not (docs/slam-figures.md).
AUTO_FEATURES = "blobs"
MAX_BAD_FRAMES_SHOWN = 5
SWITCH_INTERVAL = 5e-4  # seconds


@dataclasses.dataclass
class RunResult:
    """What a run leaves behind.

    Attributes:
        metrics: content of `metrics.json`.
        system: the SLAM system in its last state.
        interrupted: whether Ctrl-C ended it.
    """

    metrics: dict[str, Any]
    system: LandmarkSlam
    interrupted: bool


@dataclasses.dataclass(frozen=True)
class SystemOptions:
    """Which SLAM system to make.

    Attributes:
        head: "landmark_attention", "tri_mlp" or "homogeneous_mlp".
        features: name of an extractor, or "auto" for the one that suits most recordings.
        weights_dir: folder with the extractor's weights, or None for the default places.
        seed: random seed.
        realtime: take mapping results as soon as they are there instead of at fixed frames.
        session: file of an earlier session to go on from.
        frozen: leave the session's map as it is.
        close_loops: see `LandmarkSlam`.
    """

    head: str = DEFAULT_HEAD
    features: str = "auto"
    weights_dir: str | None = None
    seed: int = 0
    realtime: bool = False
    session: Path | None = None
    frozen: bool = False
    close_loops: bool = True


def create_system(source: FrameSource, options: SystemOptions) -> LandmarkSlam:
    """The SLAM system for a recording; raises as `plan_system`."""
    return plan_system(source, options)()


def plan_system(source: FrameSource, options: SystemOptions) -> Callable[[], LandmarkSlam]:
    """What makes the SLAM system for a recording, which takes as long as to compile its programs.

    Raises:
        UserError: no such head or features, weights are missing, or the session does not fit.
    """
    heads = (DEFAULT_HEAD, *HEAD_OPTIONS)
    if options.head not in heads:
        raise UserError(f"no SLAM head {options.head!r}; there are {', '.join(heads)}")
    config = SlamConfig()
    depth_sigma = inverse_depth_sigma(source)
    if depth_sigma is not None:
        config = dataclasses.replace(config, inverse_depth_sigma=depth_sigma)
    common = {
        "config": config,
        "seed": options.seed,
        "mapping_lag": None if options.realtime else config.mapping_lag,
    }
    if options.session is not None:
        if options.head != DEFAULT_HEAD:
            raise UserError(f"a session can be continued with --head {DEFAULT_HEAD} alone")
        scene_map, landmark_map = load_session(options.session, config.max_landmarks)
        camera = scene_map.camera
        if not own_cameras(source) or (camera.width, camera.height) != (
            source.camera.width,
            source.camera.height,
        ):
            scene_map.require_camera(source.camera, f"{source.name}, going on from a session,")
        extractor = registry.create(
            scene_map.features, options.weights_dir, **scene_map.feature_options
        )
        scene_map.require_features(extractor)
        common |= {"landmark_map": landmark_map, "frozen": options.frozen}
        common |= {"feature_options": scene_map.feature_options}
    else:
        camera = source.camera
        features = AUTO_FEATURES if options.features == "auto" else options.features
        extractor = registry.create(features, options.weights_dir)
    if options.head == DEFAULT_HEAD:
        return functools.partial(
            LandmarkSlam, camera, extractor, close_loops=options.close_loops, **common
        )
    from ace_jax.slam.networks.distillation import DistilledNetworkSlam  # imports the optimizers

    return functools.partial(DistilledNetworkSlam, camera, extractor, options.head, **common)


def create_while_rendering(source: FrameSource, options: SystemOptions) -> LandmarkSlam:
    """As `create_system`; a recording that has to be rendered is rendered meanwhile.

    The renderer's programs depend on each other's results and are compiled one by one: a second
    core has nothing else to do. Raises as `plan_system`, and as rendering does.
    """
    create = plan_system(source, options)
    if not hasattr(source, "prepare"):
        return create()
    with ThreadPoolExecutor(1, "create") as pool:
        system = pool.submit(create)
        source.prepare()
        return system.result()


def prepare(source: FrameSource, out: Path, needs_depth: bool = True) -> None:
    """Creates `out` and checks the recording; do it before anything is compiled or rendered.

    Raises:
        UserError: the recording has no frames or no depth, or `out` cannot be written.
    """
    if len(source) == 0:
        raise UserError(f"{source.name}: no frames")
    if needs_depth and not source.has_depth:
        raise UserError(
            f"{source.name}: no depth; SLAM needs RGB-D, relocalize (and slam --frozen in the "
            "session of an earlier run) take colour alone"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}; set --out") from error


def run(
    source: FrameSource,
    system: LandmarkSlam,
    out: Path,
    seed: int = 0,
    readout: float | None = None,
    realtime: bool = False,
    checkpoint: SlamCheckpoint | None = None,
    view: SlamView | None = None,
) -> RunResult:
    """Processes a recording and writes the results.

    What was computed is written also when the stream breaks off, memory runs out or the user
    interrupts.

    Args:
        source: the recording; its poses are used for the evaluation alone.
        system: a fresh SLAM system.
        out: the folder to write to; created.
        seed: noted in the metrics.
        readout: seconds of the rolling shutter instead of what the recording says.
        realtime: play the recording at its own timestamps and skip the frames that come late.
        checkpoint: where to keep the state meanwhile. If a run was left unfinished there, its
            frames are not processed again.
        view: shows the frames as they are processed.

    Raises:
        UserError: the recording has no frames or no depth, `out` cannot be written, or the stream
            broke off; what was computed until then is in `out`.
    """
    prepare(source, out, not system.needs_no_depth)
    if hasattr(source, "prepare"):  # a rendered recording: not on the system's time
        source.prepare()
    ground_truth = source.poses()
    log, samples = _FrameLog(), SampledFrames()
    first = 0
    if checkpoint is not None and checkpoint.unfinished():
        first = checkpoint.restore(system)
        print(f"going on after frame {first} of {len(source)}", file=sys.stderr)
    part = SubsetSource(source, start=first) if 0 < first < len(source) else source
    interrupted, failure = False, None
    compilations = CompilationCounter()

    def blinded(frame: Frame) -> Frame:
        # SLAM never sees the ground truth.
        frame = dataclasses.replace(frame, world_from_camera=None, index=frame.index + first)
        frame = system.adapted(frame)
        return frame if readout is None else dataclasses.replace(frame, readout=readout)

    with contextlib.ExitStack() as stack:
        stack.enter_context(compilations)
        stack.enter_context(_frequent_thread_switches())
        bar = stack.enter_context(Progress(len(part), source.name))
        if realtime:
            _rehearse(part, system)
            player = Player(part)
            arrivals = stack.enter_context(Background(player, ahead=0, name="reader"))
        else:
            arrivals = _read_ahead(stack.enter_context(Prefetcher(part, ahead=4)))
        ahead = 0 if realtime else 2
        stream = stack.enter_context(FeatureStream(arrivals, system.observe, blinded, ahead))
        if realtime:
            stack.callback(player.close)  # before the threads that wait for its frames
        try:
            last = time.perf_counter()
            for observation in stream:
                tracked = _process(system, observation, log)
                pose = None if tracked is None else tracked.live_camera_from_world
                pose = None if pose is None else invert(pose)
                now = time.perf_counter()
                log.seconds.append(now - last)
                log.latencies.append(now - observation.arrival)
                last = now
                index = observation.index + first
                if checkpoint is not None and index + 1 < len(source):
                    checkpoint.frame_done(system, index + 1)
                # The error so far is that of one map: others have axes of their own.
                comparable = ground_truth is not None and pose is not None
                comparable = comparable and tracked.map == system.atlas.main
                truth = ground_truth[index] if comparable else None
                bar.update(system.state is State.TRACKING, pose, truth)
                if tracked is not None:
                    samples.note(system, observation, tracked)
                if view is not None:
                    truth = None if ground_truth is None else ground_truth[index]
                    view.frame(system, observation, pose, truth, log.seconds[-1] * 1e3)
                if realtime:
                    player.done()
                if len(log.seconds) == WARM_UP_FRAMES:
                    compilations.reset()
        except KeyboardInterrupt:
            interrupted = True
        except Exception as error:
            if not isinstance(error, OSError | UserError) and limit_reached(error) is None:
                raise
            failure = error
    if checkpoint is not None:
        checkpoint.close()
    for line in log.bad[:MAX_BAD_FRAMES_SHOWN]:
        print(f"skipped: {line}", file=sys.stderr)
    if len(log.bad) > MAX_BAD_FRAMES_SHOWN:
        print(f"skipped {len(log.bad) - MAX_BAD_FRAMES_SHOWN} more frames", file=sys.stderr)
    start = time.perf_counter()
    try:
        system.finish()
    except KeyboardInterrupt:
        interrupted = True
    except Exception as error:
        # Without the last corrections there are still the poses and the map so far.
        if limit_reached(error) is None:
            raise
        failure = failure or error
    extra = {
        "frames_skipped": len(log.bad),
        "interrupted": interrupted,
        "finish_s": time.perf_counter() - start,
        "recompilations": compilations.count,
        "peak_memory_mb": peak_memory_mb(),
    }
    frames = first + len(log.seconds)
    if realtime:
        extra |= outputs.realtime_metrics(frames, player.late, log.latencies)
        frames += player.late
    metrics = write_results(source, system, out, log.seconds, frames, seed, extra, samples)
    if view is not None:
        view.finish(system)
    if checkpoint is not None and failure is None and not interrupted:
        checkpoint.remove()
    if failure is not None:
        failure = limit_reached(failure) or failure
        done = f"the first {frames} frames are in {out}"
        raise UserError(f"{source.name} broke off: {failure}; {done}")
    return RunResult(metrics, system, interrupted)


@dataclasses.dataclass
class _FrameLog:
    """Per frame: seconds since the last one was done, seconds since arrival; and what was bad."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    latencies: list[float] = dataclasses.field(default_factory=list)
    bad: list[str] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def _frequent_thread_switches() -> Iterator[None]:
    """Lets a thread wait half a millisecond for another's Python instead of five.

    Reading, features, tracking and mapping hand the interpreter to each other many times a frame.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _rehearse(source: FrameSource, system: LandmarkSlam) -> None:
    """Reads and looks at the first frame before the clock starts.

    Tables are made and programs loaded with the first image; at the camera's pace that would cost
    the next twenty.
    """
    with contextlib.suppress(BadFrame):
        system.observe(source[0])


def _process(system: LandmarkSlam, observation: Observation, log: _FrameLog) -> TrackedFrame | None:
    """Tracks one frame; None if it cannot be read."""
    if isinstance(observation.frame, BadFrame):
        log.bad.append(str(observation.frame))
        return None
    spent = {"read": observation.read_ms, "features": observation.features_ms}
    return system.process(observation.frame, observation.features, spent)


def _read_ahead(frames: Prefetcher) -> Iterator[Arrival]:
    """Frames as fast as they are taken."""
    for index, frame in enumerate(frames):
        yield Arrival(index, frame, time.perf_counter())


class CompilationCounter(contextlib.AbstractContextManager):
    """Counts the programs that are compiled, or loaded from disk, while it is open."""

    _EVENTS = ("/jax/core/compile/backend_compile_duration", LOADED)

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
        if self._open and event in self._EVENTS:
            self.count += 1

    def reset(self) -> None:
        """Starts counting anew."""
        self.count = 0
