"""Data of the interactive view in a SLAM report: the map, the trajectory, and single frames."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ace_jax.data.frame import BadFrame, Frame, FrameSource
from ace_jax.evaluation import pictures
from ace_jax.evaluation.trajectory import NoOverlap, Trajectory, TrajectoryErrors, compare
from ace_jax.geometry.rigid import invert, transform
from ace_jax.slam.frame_poses import TrackedFrame
from ace_jax.slam.mapping.keyframes import NO_LANDMARK
from ace_jax.slam.reporting.live_view import landmarks_seen
from ace_jax.slam.reporting.losses import losses, states_of
from ace_jax.slam.stream import Observation

if TYPE_CHECKING:
    from ace_jax.evaluation.explorer import Cloud, Explored, Shot
    from ace_jax.slam.landmark_slam import LandmarkSlam

_SAMPLES = 140  # of the frames that can be chosen; first frames of losses come on top
_LOSSES = 20
_SURFACE_POINTS = 30_000
_MAX_DEPTH = 4.0  # metres; a depth camera's noise grows with the square


@dataclasses.dataclass(frozen=True)
class Seen:
    """Landmarks that a frame saw: (K, 2) pixels, and (K, 3) metres in the camera's axes."""

    uv: np.ndarray
    xyz: np.ndarray


class SampledFrames:
    """Notes what some frames of a run see, evenly spaced over it, however long it is.

    Attributes:
        step: every so many frames one is noted.
        seen: by the frame's index.
    """

    def __init__(self) -> None:
        self.step = 1
        self.seen: dict[int, Seen] = {}

    def note(self, system: "LandmarkSlam", observation: Observation, tracked: TrackedFrame) -> None:
        """Notes the frame that was just processed, if its turn has come."""
        pose = tracked.live_camera_from_world
        if tracked.index % self.step or pose is None:
            return
        uv, slots = landmarks_seen(system, observation)
        known = slots != NO_LANDMARK
        uv, slots = uv[known], slots[known]
        if np.array_equal(tracked.camera_from_reference, np.eye(4)):
            # A keyframe: the landmarks that were just made of its features are no inliers.
            older = system.landmark_map.observations[slots] > 1
            uv, slots = uv[older], slots[older]
        xyz = transform(pose, system.landmark_map.points[slots].astype(np.float64))
        self.seen[tracked.index] = Seen(uv, xyz.astype(np.float32))
        if len(self.seen) > _SAMPLES:
            self.step *= 2
            self.seen = {i: seen for i, seen in self.seen.items() if i % self.step == 0}


def explored(
    source: FrameSource,
    system: "LandmarkSlam",
    samples: SampledFrames,
    reference: Trajectory | None,
) -> "Explored":
    """What the page shows.

    Args:
        source: the recording; the images of the frames that can be chosen are read again.
        system: after the run.
        samples: what frames saw.
        reference: ground truth, or None.
    """
    from ace_jax.evaluation.explorer import Cloud, Explored  # imports Matplotlib

    frames = system.frames
    final = _trajectory([system.poses.corrected(f) for f in frames], frames)
    live = _trajectory(
        [f.live_camera_from_world if f.map == system.atlas.current else None for f in frames],
        frames,
    )
    errors = None if reference is None else _compare(final, reference)
    truth = None
    if errors is not None and reference is not None:
        truth = reference.moved(invert(errors.reference_from_estimate))
    states = states_of(frames, system.atlas)
    shots, surfaces = _shots(source, system, samples, final, (live, truth, errors), states)
    return Explored(
        shots=shots,
        points=Cloud(*system.points()),
        surfaces=surfaces,
        states=states,
        estimate=final,
        truth=truth,
        error=None if errors is None else _by_frame(errors, len(frames)),
    )


def _trajectory(
    camera_from_world: Sequence[np.ndarray | None], frames: Sequence[TrackedFrame]
) -> Trajectory:
    """One pose a frame, NaN where there is none."""
    poses = np.full((len(frames), 4, 4), np.nan)
    for pose, found in zip(poses, camera_from_world, strict=True):
        if found is not None:
            pose[:] = invert(found)
    return Trajectory(np.array([f.timestamp for f in frames]), poses)


def _compare(estimate: Trajectory, reference: Trajectory) -> TrajectoryErrors | None:
    try:
        return compare(estimate, reference)
    except NoOverlap:
        return None


def _by_frame(errors: TrajectoryErrors, count: int) -> np.ndarray:
    metres = np.full(count, np.nan)
    metres[errors.estimate_index] = errors.ate_trans_m
    return metres


def _shots(
    source: FrameSource,
    system: "LandmarkSlam",
    samples: SampledFrames,
    final: Trajectory,
    judged: tuple[Trajectory, Trajectory | None, TrajectoryErrors | None],
    states: Sequence[str],
) -> tuple[list["Shot"], "Cloud | None"]:
    """The frames that can be chosen, and the surfaces that their depth images show."""
    from ace_jax.evaluation.explorer import Cloud, Shot

    live, truth, errors = judged
    frames = system.frames
    metres = partners = None
    if errors is not None and truth is not None:
        metres, partners = _by_frame(errors, len(frames)), np.full(len(frames), -1)
        partners[errors.estimate_index] = errors.reference_index
        live_errors = _compare(live, truth)
        live_metres = None if live_errors is None else _by_frame(live_errors, len(frames))
    chosen = _chosen(frames, samples.step)
    start = frames[0].timestamp if frames else 0.0
    shots, surfaces = [], []
    for at, image in zip(chosen, _images(source, system, [frames[i] for i in chosen]), strict=True):
        frame = frames[at]
        pose = final.world_from_camera[at] if final.known[at] else None
        facts = [("state", states[at]), ("time", f"{frame.timestamp - start:.2f} s")]
        shown = {}
        if metres is not None and np.isfinite(metres[at]):
            facts.append(("error", f"{100 * metres[at]:.2f} cm"))
            if live_metres is not None and np.isfinite(live_metres[at]):
                facts.append(("when it was tracked", f"{100 * live_metres[at]:.2f} cm"))
            shown["truth"] = truth.world_from_camera[partners[at]]
        seen = samples.seen.get(frame.index)
        if pose is not None and seen is not None:
            facts.append(("inliers", str(len(seen.uv))))
            shown |= {"uv": seen.uv, "xyz": transform(pose, seen.xyz.astype(np.float64))}
        if image is not None:
            shown["jpeg"] = pictures.thumbnail(image.rgb)
            if pose is not None and image.depth is not None:
                surfaces.append(_surface(image, pose, _SURFACE_POINTS // len(chosen)))
        shots.append(Shot(at, f"frame {frame.index}", facts, system.camera, pose, **shown))
    if not surfaces:
        return shots, None
    points, colours = (np.concatenate(parts) for parts in zip(*surfaces, strict=True))
    return shots, Cloud(points, colours)


def _chosen(frames: Sequence[TrackedFrame], step: int) -> list[int]:
    """Places in `frames` of those that can be chosen: evenly spaced, and where losses begin."""
    place = {frame.index: i for i, frame in enumerate(frames)}
    # Frames that were lost, or processed before an interruption, were not noted.
    while sum(index % step == 0 for index in place) > _SAMPLES:
        step *= 2
    found = {i for index, i in place.items() if index % step == 0}
    longest = sorted(losses(frames), key=lambda loss: -loss.frames)[:_LOSSES]
    return sorted(found | {place[loss.first] for loss in longest})


def _images(
    source: FrameSource, system: "LandmarkSlam", frames: Sequence[TrackedFrame]
) -> Iterator[Frame | None]:
    """The frames, read again; None for one that cannot be, such as a camera's, which are gone."""
    for frame in frames:
        if source.name.startswith("live/"):
            yield None
            continue
        try:
            yield system.adapted(source[frame.index])
        except (BadFrame, OSError):
            yield None


def _surface(
    frame: Frame, world_from_camera: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Some points (M, 3) of a frame's depth image in the world, and their colours (M, 3) uint8."""
    rows, columns = np.nonzero((frame.depth > 0) & (frame.depth < _MAX_DEPTH))
    if len(rows) > count:
        keep = np.random.default_rng(frame.index).choice(len(rows), count, replace=False)
        rows, columns = rows[keep], columns[keep]
    depth = frame.depth[rows, columns].astype(np.float64)
    x, y = frame.camera.normalised(columns, rows)
    points = np.stack([x, y, np.ones_like(depth)], axis=1) * depth[:, None]
    return transform(world_from_camera, points), frame.rgb[rows, columns]
