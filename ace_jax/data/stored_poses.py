"""Validation of stored poses: non-rigid ones are dropped, the others projected onto SE(3)."""

import dataclasses

import numpy as np
from absl import logging

from ace_jax.geometry.rigid import project_to_so3

MAX_ROTATION_DEFECT = 0.05  # |R^T R - I| beyond this is no rounding error: the pose is rubbish


@dataclasses.dataclass(frozen=True)
class PoseCounts:
    """What is wrong with poses as they are stored.

    Attributes:
        total: frames.
        absent: frames without a pose (all NaN).
        not_finite: poses with some NaN or infinite number; not used.
        not_rigid: poses whose rotation is none (|R^T R - I| > 0.05, or a reflection); not used.
        defect: largest |R^T R - I| of the poses that are used.
    """

    total: int
    absent: int
    not_finite: int
    not_rigid: int
    defect: float


def count_poses(poses: np.ndarray) -> PoseCounts:
    """Counts what `clean_poses` will drop from poses (N, 4, 4) as read."""
    absent, finite, rigid, defect = _judge(np.asarray(poses, np.float64))
    return PoseCounts(
        total=len(poses),
        absent=int(absent.sum()),
        not_finite=int((~finite & ~absent).sum()),
        not_rigid=int((finite & ~rigid).sum()),
        defect=float(defect[rigid].max(initial=0.0)),
    )


def _judge(poses: np.ndarray) -> tuple[np.ndarray, ...]:
    """Whether each pose is absent, finite, rigid, and its |R^T R - I|; each (N,)."""
    absent = np.asarray(np.isnan(poses).all(axis=(1, 2)))
    finite = np.asarray(np.isfinite(poses).all(axis=(1, 2)))
    rotations = np.where(finite[:, None, None], poses[:, :3, :3], np.eye(3))
    defect = np.abs(np.swapaxes(rotations, 1, 2) @ rotations - np.eye(3)).max(axis=(1, 2))
    rigid = finite & (defect < MAX_ROTATION_DEFECT) & (np.linalg.det(rotations) > 0)
    return absent, finite, rigid, defect


def clean_poses(poses: np.ndarray, what: str) -> np.ndarray:
    """Rigid poses (N, 4, 4): rotations projected to SO(3), NaN where a pose is none.

    Args:
        poses: (N, 4, 4), as read. Already all-NaN entries mean "no pose given" and stay silent.
        what: names the source in the log line about broken entries.
    """
    poses = np.array(poses, dtype=np.float64)
    absent, _, good, _ = _judge(poses)
    clean = np.full_like(poses, np.nan)
    clean[good] = poses[good]
    clean[good, :3, :3] = project_to_so3(poses[good, :3, :3])
    clean[good, 3] = (0.0, 0.0, 0.0, 1.0)
    broken = int(np.sum(~good & ~absent))
    if broken:
        logging.warning(
            "%s: %d of %d poses are not rigid motions; ignored", what, broken, len(good)
        )
    return clean
