"""Rigid motions on the host: float64 NumPy, for stored poses, keyframes and trajectories.

`se3` has the same for JAX.
"""

import math

import numpy as np


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


def transform(b_from_a: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., N, 3) of frame a in frame b, for one motion (..., 4, 4) each."""
    rotation_t = np.swapaxes(b_from_a[..., :3, :3], -1, -2)
    return points @ rotation_t + b_from_a[..., None, :3, 3]


def rotation_angle(motion: np.ndarray) -> np.ndarray:
    """Rotation angles (...), radians, of motions (..., 4, 4) or rotations; exact near 0 and pi."""
    r = motion[..., :3, :3]
    twice_sine_axis = np.stack(
        [
            r[..., 2, 1] - r[..., 1, 2],
            r[..., 0, 2] - r[..., 2, 0],
            r[..., 1, 0] - r[..., 0, 1],
        ],
        axis=-1,
    )
    twice_cosine = np.trace(r, axis1=-2, axis2=-1) - 1
    return np.arctan2(np.linalg.norm(twice_sine_axis, axis=-1), twice_cosine)


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle (3,), radians, of a rotation (3, 3)."""
    sine_axis = 0.5 * np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    sine, cosine = math.sqrt(sine_axis @ sine_axis), 0.5 * (np.trace(rotation) - 1.0)
    if cosine < -0.5:  # towards half a turn the sine tells less and less of the axis
        w, *vector = to_quaternion(rotation)
        length = math.hypot(*vector)
        return np.array(vector) * (2.0 * math.atan2(length, w) / length)
    return sine_axis if sine < 1e-12 else sine_axis * (math.atan2(sine, cosine) / sine)


def rotation_of(vector: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) by a rotation vector (3,), radians (Rodrigues' formula)."""
    x, y, z = (float(component) for component in vector)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = math.hypot(x, y, z)
    if angle < 1e-9:
        return np.eye(3) + cross
    half = math.sin(0.5 * angle) / (0.5 * angle)  # without the cancellation of 1 - cos
    return np.eye(3) + (math.sin(angle) / angle) * cross + 0.5 * half**2 * (cross @ cross)


def rotated(points: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Points (N, 3) turned by rotation vectors (N, 3), radians."""
    angle = np.sqrt(np.einsum("ni,ni->n", vectors, vectors))
    (a, b, c), (x, y, z) = (vectors / np.maximum(angle, 1e-300)[:, None]).T, points.T
    sine, cosine = np.sin(angle), np.cos(angle)
    along = (1.0 - cosine) * (a * x + b * y + c * z)
    result = np.empty(points.shape)
    result[:, 0] = cosine * x + sine * (b * z - c * y) + along * a
    result[:, 1] = cosine * y + sine * (c * x - a * z) + along * b
    result[:, 2] = cosine * z + sine * (a * y - b * x) + along * c
    return result


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


def orthonormalized(pose: np.ndarray) -> np.ndarray:
    """The (4, 4) float64 pose with its rotation projected to SO(3); float32 products drift off."""
    result = np.eye(4)
    result[:3, :3] = project_to_so3(pose[:3, :3].astype(np.float64))
    result[:3, 3] = pose[:3, 3]
    return result


def centre(camera_from_world: np.ndarray) -> np.ndarray:
    """Centres (..., 3) of cameras (..., 4, 4) in the world, metres."""
    rotation_t = np.swapaxes(camera_from_world[..., :3, :3], -1, -2)
    return -(rotation_t @ camera_from_world[..., :3, 3:])[..., 0]


def difference(poses: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Metres (...) between the centres of cameras (..., 4, 4) and another's, radians between them.

    Both are camera_from_world and broadcast against each other.
    """
    poses, other = np.asarray(poses, np.float64), np.asarray(other, np.float64)
    distance = np.linalg.norm(centre(poses) - centre(other), axis=-1)
    return distance, rotation_angle(poses[..., :3, :3] @ np.swapaxes(other[..., :3, :3], -1, -2))


def view_difference(poses: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `difference`, with the angles between the optical axes: a roll changes nothing."""
    poses, other = np.asarray(poses, np.float64), np.asarray(other, np.float64)
    distance = np.linalg.norm(centre(poses) - centre(other), axis=-1)
    cosine = np.sum(poses[..., 2, :3] * other[..., 2, :3], axis=-1)
    return distance, np.arccos(np.clip(cosine, -1.0, 1.0))


def nearest_view(poses: np.ndarray, other: np.ndarray) -> int:
    """Which of cameras (K, 4, 4) sees most nearly what another (4, 4) sees: metres plus radians."""
    return int(np.argmin(sum(view_difference(poses, other))))
