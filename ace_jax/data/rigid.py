"""Rigid motions on the host: float64 NumPy, for the poses that come with a recording."""

import dataclasses

import numpy as np
from absl import logging

MAX_ROTATION_DEFECT = 0.05  # |R^T R - I| beyond this is no rounding error: the pose is rubbish


def project_to_so3(matrices: np.ndarray) -> np.ndarray:
    """Nearest rotations (Frobenius) to matrices (..., 3, 3): U diag(1, 1, det UV^T) V^T."""
    u, _, vt = np.linalg.svd(matrices)
    u[..., :, 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return u @ vt


def invert(transforms: np.ndarray) -> np.ndarray:
    """Inverses (..., 4, 4) of rigid transforms (..., 4, 4)."""
    inverse = np.zeros_like(transforms)
    rotation_t = np.swapaxes(transforms[..., :3, :3], -1, -2)
    inverse[..., :3, :3] = rotation_t
    inverse[..., :3, 3] = -(rotation_t @ transforms[..., :3, 3:])[..., 0]
    inverse[..., 3, 3] = 1.0
    return inverse


def from_quaternion(wxyz: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Transforms (..., 4, 4) from quaternions (..., 4), w first, and translations (..., 3).

    Quaternions are normalised; a zero or non-finite one gives NaN.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        w, x, y, z = np.moveaxis(wxyz / np.linalg.norm(wxyz, axis=-1, keepdims=True), -1, 0)
    transform = np.zeros((*w.shape, 4, 4))
    transform[..., 0, :3] = np.stack(
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1
    )
    transform[..., 1, :3] = np.stack(
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1
    )
    transform[..., 2, :3] = np.stack(
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1
    )
    transform[..., :3, 3] = translation
    transform[..., 3, 3] = 1.0
    return transform


def to_quaternion(rotation: np.ndarray) -> np.ndarray:
    """Unit quaternion (4,), w first and w >= 0, of a rotation (3, 3).

    The quaternion is the dominant eigenvector of a symmetric 4 x 4 matrix that is linear in R
    (Bar-Itzhack, "New method for extracting the quaternion from a rotation matrix", 2000), which
    needs no case distinction and is exact to rounding for every angle.
    """
    r = rotation
    k = np.array(
        [
            [r[0, 0] + r[1, 1] + r[2, 2], 0.0, 0.0, 0.0],
            [r[2, 1] - r[1, 2], r[0, 0] - r[1, 1] - r[2, 2], 0.0, 0.0],
            [r[0, 2] - r[2, 0], r[0, 1] + r[1, 0], r[1, 1] - r[0, 0] - r[2, 2], 0.0],
            [
                r[1, 0] - r[0, 1],
                r[0, 2] + r[2, 0],
                r[1, 2] + r[2, 1],
                r[2, 2] - r[0, 0] - r[1, 1],
            ],
        ]
    )
    wxyz = np.linalg.eigh(k, UPLO="L")[1][:, -1]
    return wxyz if wxyz[0] >= 0 else -wxyz


def slerp(wxyz_a: np.ndarray, wxyz_b: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """Quaternions (N, 4) between unit quaternions (N, 4) at fractions (N,), the short way."""
    cosine = np.sum(wxyz_a * wxyz_b, axis=-1)
    wxyz_b = np.where(cosine[:, None] < 0, -wxyz_b, wxyz_b)
    angle = np.arccos(np.clip(np.abs(cosine), 0.0, 1.0))
    # For a vanishing angle both weights tend to the linear ones; sin(angle) would divide 0 by 0.
    small = angle < 1e-7
    sine = np.where(small, 1.0, np.sin(angle))
    weight_a = np.where(small, 1.0 - fraction, np.sin((1.0 - fraction) * angle) / sine)
    weight_b = np.where(small, fraction, np.sin(fraction * angle) / sine)
    return weight_a[:, None] * wxyz_a + weight_b[:, None] * wxyz_b


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
    absent = np.isnan(poses).all(axis=(1, 2))
    finite = np.isfinite(poses).all(axis=(1, 2))
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
