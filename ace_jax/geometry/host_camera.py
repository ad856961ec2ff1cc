"""Pinhole projection on the host: NumPy, for images, features, keyframes and evaluation.

`camera.project` and `camera.unproject` are the same for JAX.
"""

import numpy as np

from ace_jax.geometry import rigid
from ace_jax.geometry.camera import MIN_DEPTH, Camera


def intrinsic_matrix(camera: Camera) -> np.ndarray:
    """K (3, 3) float64: homogeneous pixels of points at unit depth."""
    fx, fy, cx, cy = (float(value) for value in camera.intrinsics)
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def camera_from_matrix(matrix: np.ndarray, width: int, height: int) -> Camera:
    """The camera of an intrinsic matrix (3, 3) (or larger, whose corner it is)."""
    fx, fy, cx, cy = (float(matrix[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return Camera(fx, fy, cx, cy, width, height)


def project(points: np.ndarray, camera: Camera) -> np.ndarray:
    """Pixels (..., 2) of points (..., 3) in camera axes, metres; z >= 0.1 m is forced."""
    z = np.maximum(points[..., 2], MIN_DEPTH)
    u = camera.fx * points[..., 0] / z + camera.cx
    uv = np.empty((*u.shape, 2), u.dtype)
    uv[..., 0] = u
    uv[..., 1] = camera.fy * points[..., 1] / z + camera.cy
    return uv


def rays(uv: np.ndarray, camera: Camera) -> np.ndarray:
    """Points (..., 3) at unit depth, in camera axes, that pixels (..., 2) show."""
    x, y = camera.normalised(uv[..., 0], uv[..., 1])
    points = np.ones((*x.shape, 3), x.dtype)
    points[..., 0] = x
    points[..., 1] = y
    return points


def image_rays(camera: Camera) -> np.ndarray:
    """Rays (H, W, 3), see `rays`, of all pixels of an image."""
    v, u = np.mgrid[: camera.height, : camera.width]
    return rays(np.stack([u, v], axis=-1), camera)


def unproject(uv: np.ndarray, depth: np.ndarray, camera: Camera) -> np.ndarray:
    """(N, 3) float64 points of pixels (N, 2) at z-depth (N,), metres; the origin without depth."""
    return rays(uv, camera) * np.asarray(depth, np.float64)[..., None]


def unproject_to_world(
    uv: np.ndarray, depth: np.ndarray, camera: Camera, camera_from_world: np.ndarray
) -> np.ndarray:
    """The same in the world of a (4, 4) pose."""
    return rigid.transform(rigid.invert(camera_from_world), unproject(uv, depth, camera))
