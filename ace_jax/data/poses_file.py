"""Reads pose files: TUM trajectories, and named poses as in ACE and the SfM pseudo ground truth of
7-Scenes (Brachmann et al., ICCV 2021)."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from absl import logging

from ace_jax.data.frame import Frame, FrameSource
from ace_jax.data.places import with_slashes
from ace_jax.data.stored_poses import clean_poses
from ace_jax.data.subset import SubsetSource
from ace_jax.errors import UserError
from ace_jax.geometry.rigid import from_quaternion, invert, slerp, to_quaternion

MAX_NEIGHBOUR = 0.05  # seconds: a pose is interpolated only between neighbours this near
MAX_NEAREST = 0.02  # seconds: a single neighbour must be this near
_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Poses at times, ascending.

    Attributes:
        timestamps: (M,) float64 seconds, strictly ascending.
        world_from_camera: (M, 4, 4) float64.
    """

    timestamps: np.ndarray
    world_from_camera: np.ndarray

    def at(self, timestamps: np.ndarray, *, interpolate: bool = True) -> np.ndarray:
        """Poses (N, 4, 4) at times (N,); NaN where the trajectory has no pose near enough.

        Args:
            timestamps: (N,) seconds.
            interpolate: between two neighbours within 0.05 s take the pose in between (slerp and
                linear translation); otherwise, and at the ends, the nearest within 0.02 s.
        """
        timestamps = np.asarray(timestamps, np.float64)
        result = np.full((len(timestamps), 4, 4), np.nan)
        if not len(self.timestamps):
            return result
        after = np.clip(np.searchsorted(self.timestamps, timestamps), 0, len(self.timestamps) - 1)
        before = np.maximum(after - 1, 0)
        gap_before = np.abs(timestamps - self.timestamps[before])
        gap_after = np.abs(self.timestamps[after] - timestamps)
        nearest = np.where(gap_before < gap_after, before, after)
        near = np.minimum(gap_before, gap_after) <= MAX_NEAREST
        result[near] = self.world_from_camera[nearest[near]]
        if interpolate:
            inside = (
                (self.timestamps[before] < timestamps)
                & (timestamps < self.timestamps[after])
                & (np.maximum(gap_before, gap_after) <= MAX_NEIGHBOUR)
            )
            a, b = before[inside], after[inside]
            fraction = gap_before[inside] / (gap_before[inside] + gap_after[inside])
            result[inside] = self._between(a, b, fraction)
        return result

    def _between(self, a: np.ndarray, b: np.ndarray, fraction: np.ndarray) -> np.ndarray:
        if not len(a):
            return np.empty((0, 4, 4))
        start, end = self.world_from_camera[a], self.world_from_camera[b]
        wxyz = slerp(
            np.stack([to_quaternion(pose[:3, :3]) for pose in start]),
            np.stack([to_quaternion(pose[:3, :3]) for pose in end]),
            fraction,
        )
        weight = fraction[:, None]
        return from_quaternion(wxyz, (1 - weight) * start[:, :3, 3] + weight * end[:, :3, 3])


@dataclasses.dataclass(frozen=True)
class NamedPoses:
    """Poses of named images.

    Attributes:
        world_from_camera: by image name as in the file, each (4, 4) float64.
        focal: the focal length in pixels that the file states (median over its lines), or None.
    """

    world_from_camera: dict[str, np.ndarray]
    focal: float | None = None

    def of(self, names: Sequence[str]) -> np.ndarray:
        """Poses (N, 4, 4) of frames by name; NaN for those that the file does not name.

        Folders and image suffixes may be given on one side only; a base name that occurs in
        several folders is matched by its full path alone.
        """
        by_path = {image_stem(name): pose for name, pose in self.world_from_camera.items()}
        by_base: dict[str, np.ndarray | None] = {}
        for path, pose in by_path.items():
            base = PurePosixPath(path).name
            by_base[base] = None if base in by_base else pose
        result = np.full((len(names), 4, 4), np.nan)
        for i, name in enumerate(names):
            path = image_stem(name)
            pose = by_path.get(path)
            if pose is None:
                pose = by_base.get(PurePosixPath(path).name)
            if pose is not None:
                result[i] = pose
        return result


def read_poses(path: str | Path) -> Trajectory | NamedPoses:
    """Reads a pose file; its kind is told from its lines.

    `t tx ty tz qx qy qz qw` (TUM; camera to world, quaternion w last) gives a `Trajectory`;
    `name qw qx qy qz tx ty tz [f | rot_err trans_err inliers]` (world to camera, w first) gives
    `NamedPoses`, whose ninth column is a focal length only when it is the last one.

    Raises:
        UserError: missing, empty, mixed or unreadable file.
    """
    lines = _fields(path)
    if not lines:
        raise UserError(f"{path}: no poses in it")
    if len(lines[0][1]) == 16 and all(map(_is_number, lines[0][1])):
        raise UserError(
            f"{path}: its lines are 4 x 4 matrices, without time or name; give lines "
            "'t tx ty tz qx qy qz qw' (ace-jax data convert --to tum writes them)"
        )
    timed = len(lines[0][1]) == 8 and _is_number(lines[0][1][0])
    try:
        return _trajectory(lines, path) if timed else _named(lines, path)
    except (ValueError, IndexError) as error:
        raise UserError(
            f"{path}: {error}; lines are 't tx ty tz qx qy qz qw' (camera to world) or "
            "'name qw qx qy qz tx ty tz' (world to camera)"
        ) from error


def read_trajectory(path: str | Path) -> Trajectory:
    """Reads a TUM trajectory, which may be empty.

    Raises:
        UserError: missing or unreadable file.
    """
    try:
        return _trajectory(_fields(path), path)
    except (ValueError, IndexError) as error:
        raise UserError(f"{path}: {error}; lines are 't tx ty tz qx qy qz qw'") from error


def read_matrices(path: str | Path) -> np.ndarray:
    """Reads row-major 4 x 4 matrices, one a line (`nan` is a number), as (N, 4, 4) float64.

    Raises:
        UserError: missing file, or a line does not hold 16 numbers.
    """
    try:
        rows = [_numbers(fields, 16, n) for n, fields in _fields(path)]
    except ValueError as error:
        raise UserError(f"{path}: {error}; lines are row-major 4 x 4 matrices") from error
    return np.array(rows).reshape(-1, 4, 4)


def read_pose_files(paths: Sequence[Path]) -> np.ndarray | None:
    """Reads one 4 x 4 matrix a file as (N, 4, 4); None if none of the files is there.

    A missing file gives NaN (no pose), an unreadable one infinity (a broken pose).
    """
    poses = np.stack([_read_pose(path) for path in paths]) if paths else np.empty((0, 4, 4))
    return None if np.isnan(poses).all() and not any(path.exists() for path in paths) else poses


def _read_pose(path: Path) -> np.ndarray:
    try:
        values = [float(value) for value in path.read_text().split()]
    except FileNotFoundError:
        return np.full((4, 4), np.nan)
    except (OSError, ValueError):
        values = []
    return np.reshape(values, (4, 4)) if len(values) == 16 else np.full((4, 4), np.inf)


def image_stem(name: str) -> str:
    """The path without image suffixes: `seq-01/frame-000000.color.png` is `seq-01/frame-000000`."""
    name = with_slashes(name)
    for suffix in _IMAGE_SUFFIXES:
        name = name.removesuffix(suffix)
    return name.removesuffix(".color")


class PosedSource(SubsetSource):
    """A source with other poses, in metres; everything else is passed through."""

    def __init__(self, source: FrameSource, world_from_camera: np.ndarray) -> None:
        """Replaces the poses of `source` by (N, 4, 4) ones, NaN where a frame has none."""
        if world_from_camera.shape != (len(source), 4, 4):
            raise ValueError(f"{len(source)} frames, poses {world_from_camera.shape}")
        super().__init__(source)
        self._poses = world_from_camera
        self.metric = True

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        pose = self._poses[frame.index]
        known = np.isfinite(pose).all()
        return dataclasses.replace(frame, world_from_camera=pose.copy() if known else None)

    def poses(self) -> np.ndarray | None:
        """(N, 4, 4) float64 world_from_camera, NaN where a frame has none."""
        return self._poses.copy()


def with_poses(source: FrameSource, path: str | Path) -> PosedSource:
    """The source with the poses of a file, matched by frame name or by time.

    Raises:
        UserError: unreadable file, or it has no pose for any frame.
    """
    poses = read_poses(path)
    if isinstance(poses, Trajectory):
        found = poses.at(source.timestamps())
    else:
        found = poses.of(source.names())
    missing = int(np.isnan(found).any(axis=(1, 2)).sum())
    if missing == len(found):
        how = "times" if isinstance(poses, Trajectory) else "names"
        raise UserError(f"{path}: none of its {how} match the frames of {source.name}")
    if missing:
        logging.warning("%s: no pose for %d of %d frames", path, missing, len(found))
    return PosedSource(source, found)


def _fields(path: str | Path) -> list[tuple[int, list[str]]]:
    """Line numbers with the fields of every line that is neither empty nor a comment."""
    try:
        text = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise UserError(
            f"pose file {path}: {reason}; give a TUM trajectory or a list of named poses"
        ) from error
    lines = ((n, line.replace(",", " ").split()) for n, line in enumerate(text.splitlines(), 1))
    return [(n, fields) for n, fields in lines if fields and not fields[0].startswith("#")]


def _trajectory(lines: list[tuple[int, list[str]]], path: str | Path) -> Trajectory:
    if not lines:
        return Trajectory(np.empty(0), np.empty((0, 4, 4)))
    rows = np.array([_numbers(fields, 8, n) for n, fields in lines])
    poses = clean_poses(from_quaternion(rows[:, [7, 4, 5, 6]], rows[:, 1:4]), str(path))
    good = np.isfinite(poses).all(axis=(1, 2)) & np.isfinite(rows[:, 0])
    # Sorted and without repeated times, as interpolation needs it; the first of equals stays.
    times, first = np.unique(rows[good, 0], return_index=True)
    return Trajectory(times, poses[good][first])


def _named(lines: list[tuple[int, list[str]]], path: str | Path) -> NamedPoses:
    rows = np.array([_numbers(fields[1:8], 7, n) for n, fields in lines])
    poses = invert(clean_poses(from_quaternion(rows[:, :4], rows[:, 4:7]), str(path)))
    focals = [float(fields[8]) for _, fields in lines if len(fields) == 9]
    return NamedPoses(
        {fields[0]: pose for (_, fields), pose in zip(lines, poses, strict=True)},
        float(np.median(focals)) if focals else None,
    )


def _numbers(fields: list[str], count: int, line: int) -> list[float]:
    if len(fields) != count:
        raise ValueError(f"line {line} has {len(fields)} numbers instead of {count}")
    try:
        return [float(field) for field in fields]
    except ValueError as error:
        raise ValueError(f"line {line}: {error}") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
