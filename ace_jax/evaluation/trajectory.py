"""Trajectory metrics: ATE, RPE and coverage (Sturm et al., IROS 2012).

Estimate and reference are matched by time, aligned by a rigid motion (never by scale: a metric
system has to get the scale right), and compared in float64 on the host. The numbers agree with
those of `evo`.
"""

import dataclasses
from typing import Any

import numpy as np

from ace_jax.data.association import MAX_DIFFERENCE, associate
from ace_jax.geometry.rigid import invert, rotation_angle

MIN_MATCHES = 3  # fewer points do not fix a rotation


class NoOverlap(Exception):
    """Too few poses of the two trajectories belong to the same instants."""


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Poses over time.

    Attributes:
        timestamps: (N,) float64 seconds.
        world_from_camera: (N, 4, 4) float64, metres; NaN where a frame has no pose.
    """

    timestamps: np.ndarray
    world_from_camera: np.ndarray

    def __post_init__(self) -> None:
        timestamps = np.asarray(self.timestamps, np.float64).reshape(-1)
        poses = np.asarray(self.world_from_camera, np.float64).reshape(-1, 4, 4)
        if len(timestamps) != len(poses):
            raise ValueError(f"{len(timestamps)} timestamps for {len(poses)} poses")
        object.__setattr__(self, "timestamps", timestamps)
        object.__setattr__(self, "world_from_camera", poses)

    def __len__(self) -> int:
        return len(self.timestamps)

    @property
    def known(self) -> np.ndarray:
        """(N,) bool: the frames that have a pose and a time."""
        return np.isfinite(self.world_from_camera).all((1, 2)) & np.isfinite(self.timestamps)

    @property
    def positions(self) -> np.ndarray:
        """(N, 3) camera centres in world axes, metres."""
        return self.world_from_camera[:, :3, 3]

    def __getitem__(self, keep: np.ndarray | slice) -> "Trajectory":
        return Trajectory(self.timestamps[keep], self.world_from_camera[keep])

    def moved(self, target_from_world: np.ndarray) -> "Trajectory":
        """The same trajectory seen from another world frame."""
        return Trajectory(self.timestamps, target_from_world @ self.world_from_camera)


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Summary of non-negative errors, in the errors' unit; NaN if there are none."""

    rmse: float
    mean: float
    median: float
    std: float
    min: float
    max: float

    @classmethod
    def of(cls, errors: np.ndarray) -> "Statistics":
        """Summarises errors (N,)."""
        if len(errors) == 0:
            return cls(*[float("nan")] * 6)
        return cls(
            rmse=float(np.sqrt(np.mean(errors**2))),
            mean=float(np.mean(errors)),
            median=float(np.median(errors)),
            std=float(np.std(errors)),
            min=float(np.min(errors)),
            max=float(np.max(errors)),
        )


@dataclasses.dataclass(frozen=True)
class TrajectoryErrors:
    """The comparison of an estimate with a reference; M matched poses.

    Attributes:
        estimate_index: (M,) the matched poses of the estimate, in order of time.
        reference_index: (M,) their partners in the reference.
        reference_from_estimate: (4, 4) the alignment that ATE uses.
        ate_trans_m: (M,) distances between aligned and reference positions, metres.
        ate_rot_deg: (M,) angles between aligned and reference orientations, degrees.
        rpe_trans_m: (max(M - delta, 0),) translation of the relative pose errors, metres.
        rpe_rot_deg: same shape, their rotation, degrees.
    """

    estimate_index: np.ndarray
    reference_index: np.ndarray
    reference_from_estimate: np.ndarray
    ate_trans_m: np.ndarray
    ate_rot_deg: np.ndarray
    rpe_trans_m: np.ndarray
    rpe_rot_deg: np.ndarray

    @property
    def ate_rmse_m(self) -> float:
        """Root mean square of the distances, metres."""
        return Statistics.of(self.ate_trans_m).rmse


def align_se3(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The rigid motion that brings points closest together (Umeyama, PAMI 1991, eq. 40, c = 1).

    For points on one line or in one place the rotation is one of many that are equally good.

    Args:
        source: (N, 3) points, N >= 1.
        target: (N, 3) the points that they correspond to.

    Returns:
        (4, 4) `target_from_source`, minimising the sum of squared distances.
    """
    source_mean, target_mean = source.mean(0), target.mean(0)
    u, _, vt = np.linalg.svd((target - target_mean).T @ (source - source_mean))
    sign = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    motion = np.eye(4)
    motion[:3, :3] = u @ np.diag([1.0, 1.0, sign]) @ vt
    motion[:3, 3] = target_mean - motion[:3, :3] @ source_mean
    return motion


def compare(
    estimate: Trajectory,
    reference: Trajectory,
    max_difference: float = MAX_DIFFERENCE,
    delta: int = 1,
) -> TrajectoryErrors:
    """Compares an estimate with a reference.

    RPE is over all pairs of matched poses that are `delta` apart, E = (Q_i^-1 Q_j)^-1 (P_i^-1 P_j)
    with Q the reference and P the estimate (Sturm et al., eq. 1).

    Args:
        estimate: the poses in question; those that are not finite are left out.
        reference: the true ones; likewise.
        max_difference: seconds by which matched poses may differ.
        delta: distance of RPE's pairs, in matched poses.

    Returns:
        The errors of all matched poses.

    Raises:
        NoOverlap: fewer than three poses match.
    """
    if delta < 1:
        raise ValueError(f"delta is {delta}, must be at least 1")
    estimate_known, reference_known = (np.flatnonzero(t.known) for t in (estimate, reference))
    i, j = associate(
        estimate.timestamps[estimate_known], reference.timestamps[reference_known], max_difference
    )
    if len(i) < MIN_MATCHES:
        raise NoOverlap(
            f"{len(i)} poses match in time within {max_difference} s, {MIN_MATCHES} are needed"
        )
    i, j = estimate_known[i], reference_known[j]
    p, q = estimate.world_from_camera[i], reference.world_from_camera[j]
    motion = align_se3(p[:, :3, 3], q[:, :3, 3])
    aligned = motion @ p
    first = np.arange(max(len(p) - delta, 0))
    relative = _relative(p, q, first, first + delta)
    return TrajectoryErrors(
        estimate_index=i,
        reference_index=j,
        reference_from_estimate=motion,
        ate_trans_m=np.linalg.norm(aligned[:, :3, 3] - q[:, :3, 3], axis=-1),
        ate_rot_deg=np.degrees(rotation_angle(invert(q) @ aligned)),
        rpe_trans_m=np.linalg.norm(relative[:, :3, 3], axis=-1),
        rpe_rot_deg=np.degrees(rotation_angle(relative)),
    )


@dataclasses.dataclass(frozen=True)
class RelativeErrors:
    """Relative pose errors over stretches of one length; K of them.

    Attributes:
        first: (K,) where each begins, as positions in the matched poses.
        trans_m: (K,) translation of the errors, metres.
        rot_deg: (K,) their rotation, degrees.
    """

    first: np.ndarray
    trans_m: np.ndarray
    rot_deg: np.ndarray


_TOLERANCE = 0.1  # of a stretch's length, as in evo


def relative_errors(
    estimate: Trajectory, reference: Trajectory, errors: TrajectoryErrors, metres: float
) -> RelativeErrors:
    """RPE over all stretches of the reference's path that have a certain length.

    The stretches are those of `evo_rpe --delta_unit m --all_pairs --pairs_from_reference`.

    Args:
        estimate: the poses in question.
        reference: the true ones.
        errors: of `compare(estimate, reference)`: which poses belong together.
        metres: length of the stretches, within 10 %.
    """
    p = estimate.world_from_camera[errors.estimate_index]
    q = reference.world_from_camera[errors.reference_index]
    path = np.concatenate([[0.0], np.linalg.norm(np.diff(q[:, :3, 3], axis=0), axis=1).cumsum()])
    first = np.arange(len(path) - 1)
    wanted = path[:-1] + metres
    after = np.clip(np.searchsorted(path, wanted), first + 1, len(path) - 1)
    before = np.maximum(after - 1, first + 1)
    last = np.where(np.abs(path[before] - wanted) <= np.abs(path[after] - wanted), before, after)
    near = np.abs(path[last] - wanted) <= _TOLERANCE * metres
    first, last = first[near], last[near]
    relative = _relative(p, q, first, last)
    return RelativeErrors(
        first=first,
        trans_m=np.linalg.norm(relative[:, :3, 3], axis=-1),
        rot_deg=np.degrees(rotation_angle(relative)),
    )


def _relative(p: np.ndarray, q: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """(Q_i^-1 Q_j)^-1 (P_i^-1 P_j) of pairs (Sturm et al., eq. 1)."""
    return invert(invert(q[first]) @ q[last]) @ (invert(p[first]) @ p[last])


class RunningAte:
    """ATE RMSE of all pairs so far, after the best alignment, at a constant cost per pair.

    The minimum of Umeyama's objective needs only the sums over the pairs: with variances s of the
    two point sets and D the signed singular values of their covariance,
    rmse^2 = s_estimate + s_reference - 2 tr(D) (Umeyama, PAMI 1991, eq. 33 with c = 1).
    """

    def __init__(self) -> None:
        self._count = 0
        self._estimate_mean = np.zeros(3)
        self._reference_mean = np.zeros(3)
        self._squares = 0.0
        self._cross = np.zeros((3, 3))

    def add(self, estimate: np.ndarray, reference: np.ndarray) -> None:
        """Adds a pair of positions (3,), metres; one that is not finite is ignored."""
        if not (np.isfinite(estimate).all() and np.isfinite(reference).all()):
            return
        self._count += 1
        weight = (self._count - 1) / self._count
        from_estimate_mean = estimate - self._estimate_mean
        from_reference_mean = reference - self._reference_mean
        self._squares += weight * float(
            from_estimate_mean @ from_estimate_mean + from_reference_mean @ from_reference_mean
        )
        self._cross += weight * np.outer(from_reference_mean, from_estimate_mean)
        self._estimate_mean += from_estimate_mean / self._count
        self._reference_mean += from_reference_mean / self._count

    def rmse(self) -> float:
        """Metres; NaN before there are three pairs."""
        if self._count < MIN_MATCHES:
            return float("nan")
        u, singular, vt = np.linalg.svd(self._cross)
        singular[2] *= np.sign(np.linalg.det(u) * np.linalg.det(vt))
        return float(np.sqrt(max(self._squares - 2 * singular.sum(), 0.0) / self._count))


_ROWS = (
    ("ATE (cm)", "ate_trans_m", 100.0),
    ("ATE rotation (deg)", "ate_rot_deg", 1.0),
    ("RPE (cm)", "rpe_trans_m", 100.0),
    ("RPE rotation (deg)", "rpe_rot_deg", 1.0),
)
_STATISTICS = tuple(field.name for field in dataclasses.fields(Statistics))


def errors_table(
    result: TrajectoryErrors,
    estimate: Trajectory,
    reference: Trajectory,
    delta: int = 1,
    frames: int | None = None,
) -> str:
    """A table for the terminal: how much was compared, then a row per kind of error.

    Args:
        result: of `compare(estimate, reference)`.
        estimate: the poses in question.
        reference: the true ones.
        delta: that `compare` was given.
        frames: of the recording, if known; gives the coverage.
    """
    poses, matched = int(estimate.known.sum()), len(result.estimate_index)
    coverage = f"{poses / frames:.1%} of {frames} frames" if frames else "unknown (give --frames N)"
    lines = [
        f"{'poses':<20}{poses}, {matched} of them matched to {int(reference.known.sum())}",
        f"{'coverage':<20}{coverage}",
        "",
        f"{'':<20}" + "".join(f"{name:>10}" for name in _STATISTICS),
    ]
    for label, name, scale in _ROWS:
        statistics = dataclasses.astuple(Statistics.of(getattr(result, name) * scale))
        lines.append(f"{label:<20}" + "".join(f"{value:>10.4f}" for value in statistics))
    lines += [
        "",
        f"SE(3)-aligned, no scale; RPE over {delta} pose{'s' if delta > 1 else ''}, unaligned",
    ]
    return "\n".join(lines)


def errors_summary(
    result: TrajectoryErrors, estimate: Trajectory, frames: int | None = None
) -> dict[str, Any]:
    """The same numbers by name, in metres and degrees; the arguments are those of the table."""
    poses = int(estimate.known.sum())
    return {
        "poses": poses,
        "matched": len(result.estimate_index),
        "frames": frames,
        "coverage": poses / frames if frames else None,
        "reference_from_estimate": result.reference_from_estimate,
        **{name: dataclasses.asdict(Statistics.of(getattr(result, name))) for _, name, _ in _ROWS},
    }
