"""SLAM with your own camera: three calls.

    slam = ace_jax.Slam(camera)
    pose = slam.track(rgb, depth, seconds)  # for each frame
    result = slam.finish()

`python -m ace_jax.slam` does the same with a recording, reads ahead and writes a report.
"""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any, SupportsIndex, cast

import numpy as np
from numpy.typing import ArrayLike

from ace_jax.data.frame import BadFrame, Frame, FrameSource
from ace_jax.data.inputs import (
    ImageLike,
    Intrinsics,
    as_camera,
    as_depth,
    as_image,
    as_seed,
    check_camera,
)
from ace_jax.data.pose_writers import write_trajectory_tum
from ace_jax.data.recording import FRAMES_PER_SECOND
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import invert
from ace_jax.localization.scene_map import SceneMap
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.reporting.losses import Loss, losses
from ace_jax.slam.reporting.other_maps import OtherMap, other_maps, write_other_maps
from ace_jax.slam.reporting.outputs import write_points_ply
from ace_jax.slam.run import SystemOptions, create_system, plan_system
from ace_jax.slam.sessions.session import with_session


@dataclasses.dataclass(frozen=True)
class SlamPose:
    """What is known about the camera when a frame has been tracked.

    Attributes:
        index: of the frame, from 0.
        timestamp: seconds.
        state: "TRACKING", "LOST", or "STARTING" before the first frame with enough depth.
        world_from_camera: (4, 4) float64, metres, OpenCV axes; None while the camera is lost.
            Later frames may correct it, see `Slam.finish`.
        inliers: landmarks of the map that the pose agrees with; 0 while the camera is lost.
        lost_because: the likely cause if there is no pose, in words.
        map_number: of the map whose axes the pose is in: after a loss a new one may be begun, which
            is joined to the first when the camera comes back to it.
    """

    index: int
    timestamp: float
    state: str
    world_from_camera: np.ndarray | None
    inliers: int
    lost_because: str | None = None
    map_number: int = 0

    @property
    def tracked(self) -> bool:
        """Whether there is a pose."""
        return self.world_from_camera is not None


@dataclasses.dataclass(frozen=True)
class SlamResult:
    """What SLAM found, after all corrections.

    Attributes:
        timestamps: (T,) seconds of the frames with a pose in `map`.
        world_from_camera: (T, 4, 4) float64, metres.
        map: where later images can be found, see `Relocalizer.of`.
        points: (M, 3) float32 landmarks, world, metres.
        colours: (M, 3) uint8 of these.
        session: the map with all that SLAM needs to go on from it; None if nothing was mapped.
        lost: stretches of frames without a pose, with their likely cause.
        other_maps: maps begun after a loss in which nothing of `map` was recognised; each has its
            own axes. `map` is the one of the session, or else of most frames.
    """

    timestamps: np.ndarray
    world_from_camera: np.ndarray
    map: SceneMap
    points: np.ndarray
    colours: np.ndarray
    session: SceneMap | None
    lost: list[Loss]
    other_maps: tuple[OtherMap, ...]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes `trajectory.tum` (camera to world), the map, its session and `points.ply`.

        Other maps become `trajectory_mapN.tum` and `session_mapN.safetensors`.

        Raises:
            UserError: the folder cannot be written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_trajectory_tum(folder / "trajectory.tum", self.timestamps, self.world_from_camera)
            self.map.save(folder / "map.safetensors")
            if self.session is not None:
                self.session.save(folder / "session.safetensors")
            write_points_ply(folder / "points.ply", self.points, self.colours)
            write_other_maps(folder, self.other_maps)
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror}") from error


@dataclasses.dataclass(frozen=True)
class _Stream:
    """A camera as far as `create_system` asks."""

    camera: Camera
    name: str = "the camera"


class Slam:
    """RGB-D SLAM of a stream of frames, one at a time.

    The programs are compiled (or loaded: they are kept on disk) before the first frame, which
    takes a while; no later frame waits for a compilation.

    Args:
        camera: intrinsics of the colour images, to which depth is registered, pixel for pixel; a
            `Camera`, or a (3, 3) matrix or [fx, fy, cx, cy], whose size the first image tells.
            Images must be undistorted.
        features: which keypoints, see `ace-jax slam --help`.
        weights_dir: folder of pretrained weights, for features that have some.
        seed: random seed, an integer.
        realtime: take what mapping has computed as soon as it is there. Frames then need not wait
            for it, and two runs differ a little.
        close_loops: recognise places seen long ago and take out the drift since.
        session: a `session.safetensors` of an earlier run of this place, to go on from.
        frozen: look for the camera in `session` and leave that map as it is; needs no depth.

    Raises:
        UserError: an input cannot be used; the line says what to do.
    """

    def __init__(
        self,
        camera: Intrinsics,
        *,
        features: str = "auto",
        weights_dir: str | os.PathLike[str] | None = None,
        seed: SupportsIndex = 0,
        realtime: bool = False,
        close_loops: bool = True,
        session: str | os.PathLike[str] | None = None,
        frozen: bool = False,
    ) -> None:
        if frozen and session is None:
            raise UserError("frozen needs a map: give a session")
        self._options = SystemOptions(
            features=features,
            weights_dir=None if weights_dir is None else os.fspath(weights_dir),
            seed=as_seed(seed),
            realtime=realtime,
            session=None if session is None else Path(session),
            frozen=frozen,
            close_loops=close_loops,
        )
        self._given: Any = camera
        self._system: LandmarkSlam | None = None
        self._result: SlamResult | None = None
        self._last = -math.inf
        if isinstance(camera, Camera):
            self._start(check_camera(camera))
        else:
            self._check_options(as_camera(camera, 1, 1))

    def _check_options(self, camera: Camera) -> None:
        """Refuses now what would be refused at the first image, which tells the camera's size."""
        session = self._options.session
        if session is None:
            plan_system(cast(FrameSource, _Stream(camera)), self._options)
        elif not session.exists():
            raise UserError(f"there is no session {session}")

    def _start(self, camera: Camera) -> LandmarkSlam:
        self._system = create_system(cast(FrameSource, _Stream(camera)), self._options)
        return self._system

    @property
    def system(self) -> LandmarkSlam:
        """The system beneath, for what is not offered here.

        Raises:
            UserError: it waits for the first image, as the camera was given without its size.
        """
        if self._system is None:
            raise UserError("no frame was tracked yet; give a Camera, which knows the images' size")
        return self._system

    def track(
        self, rgb: ImageLike, depth: ArrayLike | None = None, timestamp: float | None = None
    ) -> SlamPose:
        """Where the camera is, from its next frame; the map grows with it.

        Args:
            rgb: (H, W, 3) uint8 RGB, or a file, grey or floats, see `data.inputs.as_image`.
            depth: (H, W) metres, 0 or NaN where unknown; None only with `frozen`.
            timestamp: seconds, ascending; None: 30 frames a second.

        Raises:
            UserError: the frame cannot be used; it does not count, and the next one may.
        """
        if self._result is not None:
            raise UserError("SLAM is finished; make another Slam for more frames")
        image = as_image(rgb)
        height, width = image.shape[:2]
        camera = as_camera(self._given, width, height)
        if depth is None and not self._options.frozen:
            raise UserError("no depth; SLAM needs RGB-D (frozen in a session, colour alone)")
        metres = None if depth is None else as_depth(depth, (height, width))
        system = self._system or self._start(camera)
        index = len(system.frames)
        seconds = self._time(timestamp, index)
        frame = Frame(index, f"frame {index}", seconds, image, metres, camera)
        try:
            tracked = system.process(frame)
        except BadFrame as error:
            raise UserError(str(error)) from error
        self._last = seconds
        pose = tracked.live_camera_from_world
        lost = pose is None
        return SlamPose(
            index=index,
            timestamp=seconds,
            state=system.state.value,
            world_from_camera=None if lost else invert(pose),
            inliers=0 if lost else int(np.count_nonzero(system.last_landmarks >= 0)),
            lost_because=tracked.lost_because,
            map_number=tracked.map,
        )

    def _time(self, timestamp: float | None, index: int) -> float:
        if timestamp is None:
            last = self._last if self._last > -math.inf else -1.0 / FRAMES_PER_SECOND
            return last + 1.0 / FRAMES_PER_SECOND
        try:
            seconds = float(timestamp)
        except (TypeError, ValueError) as error:
            raise UserError(f"a timestamp is a number of seconds: {error}") from error
        if not math.isfinite(seconds) or seconds <= self._last:
            raise UserError(
                f"frame {index} has the time {seconds:g} s after {self._last:g} s; times must "
                "ascend"
            )
        return seconds

    def finish(self) -> SlamResult:
        """The whole trajectory and the map, after the last frame; again, the same result.

        Raises:
            UserError: there was no frame.
        """
        if self._result is None:
            system = self._system
            if system is None or not system.frames:
                raise UserError("no frame was tracked yet: nothing to finish")
            system.finish()
            scene_map, known = system.scene_map(), system.landmark_map
            self._result = SlamResult(
                *system.final_trajectory(),
                scene_map,
                *system.points(),
                with_session(scene_map, known) if known.keyframes else None,
                losses(system.frames),
                other_maps(system),
            )
        return self._result
