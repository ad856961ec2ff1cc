"""Points on the host: where pixels with depth are, and how crowded it is around them."""

import numpy as np
from scipy.spatial import cKDTree

from ace_jax.geometry.camera import Camera


def in_camera(uv: np.ndarray, depth: np.ndarray, camera: Camera) -> np.ndarray:
    """(N, 3) float64 points of pixels (N, 2) at z-depth (N,), metres; the origin without depth."""
    z = np.asarray(depth, np.float64)[:, None]
    rays = (uv - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
    return np.concatenate([rays * z, z], axis=1)


def in_world(
    uv: np.ndarray, depth: np.ndarray, camera: Camera, camera_from_world: np.ndarray
) -> np.ndarray:
    """The same in the world of a (4, 4) pose."""
    return (in_camera(uv, depth, camera) - camera_from_world[:3, 3]) @ camera_from_world[:3, :3]


def nth_nearest(
    points: np.ndarray, others: np.ndarray, n: int, reach: float = np.inf
) -> np.ndarray:
    """(N,) metres from points (N, 3) to the n-th nearest of others (M, 3); inf beyond `reach`."""
    if len(points) == 0 or len(others) < n:
        return np.full(len(points), np.inf)
    distances, _ = cKDTree(others).query(points, k=[n], distance_upper_bound=reach)
    return distances[:, 0]
