"""Poses of all frames so far, each relative to a keyframe, so that it follows its corrections."""

import dataclasses
import enum

import numpy as np

from ace_jax.data.frame import Frame
from ace_jax.geometry.rigid import difference, invert
from ace_jax.geometry.rolling_shutter import MAX_INTERVAL, Motion
from ace_jax.slam.loops.map_joining import Joined
from ace_jax.slam.mapping.atlas import Atlas
from ace_jax.slam.mapping.keyframes import Keyframes

NO_KEYFRAME = -1


class State(enum.Enum):
    """What the system knows about the newest frame."""

    STARTING = "STARTING"
    TRACKING = "TRACKING"
    LOST = "LOST"


@dataclasses.dataclass(slots=True)  # a day has millions
class TrackedFrame:
    """One processed frame.

    Attributes:
        index: the source's index.
        timestamp: seconds.
        live_camera_from_world: (4, 4) float64 as known when the frame was tracked, None if lost.
        reference: number of the keyframe that the pose is relative to; NO_KEYFRAME if lost.
        camera_from_reference: (4, 4) motion from that keyframe; follows its corrections.
        map: number of the map that the keyframe and the world's axes are of, see `Atlas`.
        lost_because: the likely cause if the frame has no pose, see `loss`.
    """

    index: int
    timestamp: float
    live_camera_from_world: np.ndarray | None
    reference: int = NO_KEYFRAME
    camera_from_reference: np.ndarray | None = None
    map: int = 0
    lost_because: str | None = None

    def from_live_keyframe(self, keyframes: Keyframes) -> tuple[int, np.ndarray]:
        """The keyframe that the pose hangs on, none that is retired, and (4, 4) the motion from it.

        Args:
            keyframes: of the frame's map.
        """
        number, motion = keyframes.anchored(self.reference)
        return number, self.camera_from_reference @ motion


class FramePoses:
    """The frames of a run and the camera's motion over them.

    Args:
        atlas: the maps that the frames' poses are relative to.

    Attributes:
        frames: one for each frame, oldest first.
    """

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas
        self.frames: list[TrackedFrame] = []
        self._last_two: tuple[TrackedFrame | None, ...] = (None, None)

    def tracked(
        self, frame: Frame, pose: np.ndarray, reference: int, relative: np.ndarray
    ) -> TrackedFrame:
        """A frame of the current map with its pose (4, 4), which is `relative` to a keyframe's."""
        number = self._atlas.current
        entry = TrackedFrame(frame.index, frame.timestamp, pose, reference, relative, number)
        self._last_two = self._last, entry
        return entry

    def corrected(self, frame: TrackedFrame) -> np.ndarray | None:
        """(4, 4) camera_from_world of a frame as known now, in the axes of the current map.

        None if it was lost, or tracked in another map.
        """
        if frame.camera_from_reference is None or frame.map != self._atlas.current:
            return None
        return self._in_its_map(frame)

    def _in_its_map(self, frame: TrackedFrame) -> np.ndarray:
        """(4, 4) camera_from_world of a tracked frame as known now, in the axes of its map."""
        keyframes = self._atlas.maps[frame.map].keyframes
        return frame.camera_from_reference @ keyframes.pose_of(frame.reference)

    def last_tracked(self) -> np.ndarray | None:
        """(4, 4) camera_from_world of the last frame that was tracked, if in the current map."""
        return None if self._last is None else self.corrected(self._last)

    def last_turn(self) -> float:
        """Radians between the two frames that were tracked last; 0 if they are in other maps."""
        pair = [None if frame is None else self.corrected(frame) for frame in self._last_two]
        if any(pose is None for pose in pair):
            return 0.0
        return float(difference(*pair)[1])

    @property
    def _last(self) -> TrackedFrame | None:
        return self._last_two[1]

    def restore(self, frames: list[TrackedFrame]) -> None:
        """Takes over the frames of an interrupted run."""
        self.frames = frames
        tracked = [f for f in frames if f.camera_from_reference is not None]
        self._last_two = (None, None, *tracked)[-2:]

    def move(self, number: int, into: int, joined: Joined) -> None:
        """Brings the frames of a map into the one that has adopted it."""
        back = invert(joined.motion)
        for frame in self.frames:
            if frame.map != number or frame.camera_from_reference is None:
                continue
            reference, relative = frame.from_live_keyframe(joined.keyframes)
            frame.reference, frame.camera_from_reference = joined.keyframe[reference], relative
            frame.live_camera_from_world = frame.live_camera_from_world @ back
            frame.map = into

    def drop(self, number: int, why: str) -> None:
        """Forgets the poses of a map's frames; `why` is one of the causes of a loss."""
        for frame in self.frames:
            if frame.map == number and frame.camera_from_reference is not None:
                frame.live_camera_from_world = frame.camera_from_reference = None
                frame.reference = NO_KEYFRAME
                frame.lost_because = why

    def motion(self) -> Motion | None:
        """Velocity between the last two frames; None unless both were tracked."""
        if len(self.frames) < 2:
            return None
        before, last = self.frames[-2:]
        poses = self.corrected(before), self.corrected(last)
        if any(pose is None for pose in poses):
            return None
        return Motion.between(*poses, last.timestamp - before.timestamp)

    def motion_to(self, camera_from_world: np.ndarray | None, timestamp: float) -> Motion | None:
        """Velocity from the last frame to a new one; the last velocity if a pose is unknown."""
        last = self.corrected(self.frames[-1]) if self.frames else None
        if camera_from_world is None or last is None:
            return self.motion()
        interval = timestamp - self.frames[-1].timestamp
        return Motion.between(last, np.asarray(camera_from_world, np.float64), interval)

    def predicted(self, timestamp: float) -> np.ndarray:
        """(4, 4) float32 camera_from_world at a time, with the velocity of the last two frames."""
        motion = self.motion()
        interval = timestamp - self.frames[-1].timestamp
        pose = self.corrected(self.frames[-1])
        if motion is not None and 0 < interval <= MAX_INTERVAL:
            pose = motion.after(interval) @ pose
        return pose.astype(np.float32)

    def trajectory(self, live: bool, number: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Timestamps (T,) and (T, 4, 4) world_from_camera of the frames of one map.

        Args:
            live: as known when each was tracked, not after all corrections.
            number: of the map; None: the current one.
        """
        number = self._atlas.current if number is None else number
        tracked = [f for f in self.frames if f.map == number and f.reference != NO_KEYFRAME]
        poses = [f.live_camera_from_world if live else self._in_its_map(f) for f in tracked]
        inverse = np.array([invert(pose) for pose in poses]).reshape(-1, 4, 4)
        return np.array([f.timestamp for f in tracked]), inverse
