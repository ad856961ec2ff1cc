"""Checkpoints of a running SLAM system: map and trajectory in one file, to resume a killed run.

The file is a session (see `session`, so it is a map as well) with the frames that were processed,
and where tracking stood. A reader sees the last whole one or the one before; writing is on a thread
of its own.

A run that goes on from it tracks the next frame as if nothing had happened, and maps the keyframes
that were not mapped yet. It differs from the undisturbed run by what is rounded in the file
(descriptors), by the order in which slots of landmarks are used again, by mapping results that come
some frames later, and by what is not kept: a loop or another map that waited for confirmation, and
the fusing of two maps that had just been joined.
"""

import dataclasses
import hashlib
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import logging

from ace_jax.errors import UserError
from ace_jax.localization.scene_map import SceneMap, load_map, part, save_map
from ace_jax.slam.frame_poses import TrackedFrame
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.mapping.atlas import Atlas
from ace_jax.slam.sessions.session import with_session
from ace_jax.slam.sessions.tracking_state import maps_state, restore_maps, resume, tracking_state
from ace_jax.slam.tracking.loss import CAUSES

FILE_NAME = "checkpoint.safetensors"
_TRACKING = "tracking/"
_MAPS = "maps/"
_NUMBERS = ("index", "timestamp", "reference", "map")


class SlamCheckpoint:
    """The state of one run, kept in `checkpoint.safetensors` in its folder.

    Args:
        out: the run's folder.
        settings: what must not change between a run and its continuation.
        seconds: between two savings; 0 saves after every frame.
    """

    def __init__(self, out: Path, settings: object, seconds: float = 30.0):
        self.path = out / FILE_NAME
        self._identity = hashlib.sha256(repr(settings).encode()).hexdigest()
        self._seconds = seconds
        self._saved_at = time.monotonic()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._found: SceneMap | None = None  # read, but not restored yet

    def unfinished(self) -> bool:
        """Whether there is an interrupted run to go on with.

        Raises:
            UserError: there is one, but of another recording or other settings, or it is damaged.
        """
        if not self.path.is_file():
            return False
        if self._content().info.get("checkpoint") != self._identity:
            raise UserError(
                f"{self.path} is of an unfinished run with other settings; give the same flags "
                "again, choose another --out, or delete the file"
            )
        return True

    def restore(self, system: LandmarkSlam) -> int:
        """Lets a system, made with this file as its session, go on where the run was.

        Returns:
            The number of the next frame.

        Raises:
            UserError: the file is damaged.
        """
        scene_map, self._found = self._content(), None
        try:
            restore_maps(system, part(scene_map.extra, _MAPS))
            frames = _frames(scene_map, system.atlas)
            resume(system, frames, part(scene_map.extra, _TRACKING))
            return int(scene_map.info["next_frame"])
        except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
            raise UserError(
                f"{self.path} is not a complete checkpoint ({error}); delete it to start anew"
            ) from error

    def _content(self) -> SceneMap:
        """The file, read once for both questions: is it this run's, and what is in it."""
        if self._found is None:
            self._found = load_map(self.path)
        return self._found

    def frame_done(self, system: LandmarkSlam, next_frame: int) -> None:
        """Saves if it is time, and the last saving is over; what is saved is as of now.

        A place that cannot be written costs a warning, not the run.
        """
        now = time.monotonic()
        busy = self._writing is not None and not self._writing.done()
        if now - self._saved_at < self._seconds or busy or not system.landmark_map.keyframes:
            return
        self._saved_at = now
        frames = _hung_on_live(system.frames, system.atlas)
        content = _with_frames(with_session(system.scene_map(), system.landmark_map), frames)
        tracking = {f"{_TRACKING}{name}": x for name, x in tracking_state(system).items()}
        tracking |= {f"{_MAPS}{name}": x for name, x in maps_state(system).items()}
        info = {"checkpoint": self._identity, "next_frame": next_frame}
        content = dataclasses.replace(
            content, extra=content.extra | tracking, info=content.info | info
        )
        self._writing = self._pool.submit(self._write, content)

    def _write(self, content: SceneMap) -> None:
        try:
            save_map(self.path, content, half=True)
        except UserError as error:
            logging.warning("this run cannot be continued from here: %s", error)

    def close(self) -> None:
        """Waits for what is being written."""
        self._pool.shutdown(wait=True)

    def remove(self) -> None:
        """The run is finished: there is nothing to go on with."""
        self.close()
        self.path.unlink(missing_ok=True)


def _hung_on_live(frames: list[TrackedFrame], atlas: Atlas) -> list[TrackedFrame]:
    """Frames that refer to keyframes by the places that these have in their map's arrays."""
    places = {n: landmark_map.places()[1] for n, landmark_map in atlas.maps.items()}

    def hung(frame: TrackedFrame) -> TrackedFrame:
        if frame.camera_from_reference is None:
            return frame
        number, relative = frame.from_live_keyframe(atlas.maps[frame.map].keyframes)
        place = places[frame.map][number]
        return dataclasses.replace(frame, reference=place, camera_from_reference=relative)

    return [hung(frame) for frame in frames]


def _with_frames(content: SceneMap, frames: list[TrackedFrame]) -> SceneMap:
    nowhere = np.full((4, 4), np.nan)
    extra = {f"frame/{name}": np.array([getattr(f, name) for f in frames]) for name in _NUMBERS}
    for name in ("live_camera_from_world", "camera_from_reference"):
        poses = [getattr(f, name) for f in frames]
        extra[f"frame/{name}"] = np.stack([nowhere if p is None else p for p in poses])
    causes = [-1 if f.lost_because is None else CAUSES.index(f.lost_because) for f in frames]
    extra["frame/cause"] = np.array(causes)
    return dataclasses.replace(content, extra=content.extra | extra)


def _frames(content: SceneMap, atlas: Atlas) -> list[TrackedFrame]:
    extra = content.extra
    nothing = np.zeros(len(extra["frame/index"]), np.int64)
    # Checkpoints of earlier versions know one map, and no causes.
    extra = {"frame/map": nothing, "frame/cause": nothing - 1} | extra
    numbers = [extra[f"frame/{name}"].tolist() for name in _NUMBERS]
    live, relative = (
        [None if np.isnan(pose).any() else pose for pose in extra[f"frame/{name}"]]
        for name in ("live_camera_from_world", "camera_from_reference")
    )
    causes = [None if cause < 0 else CAUSES[cause] for cause in extra["frame/cause"].tolist()]
    frames = [TrackedFrame(i, t, a, r, b, m, c) for i, t, r, m, a, b, c in
              zip(*numbers, live, relative, causes, strict=True)]  # fmt: skip
    for frame in frames:
        if frame.camera_from_reference is not None:
            atlas.tracked[frame.map] += 1
            if frame.reference not in atlas.maps[frame.map].keyframes:
                raise ValueError("frames refer to keyframes that are not there")
    return frames
