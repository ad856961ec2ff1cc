"""Sequential RANSAC over rigid motions; the camera's is the one that explains the largest surface.

Matches follow several motions where things move (Torr, "Geometric motion segmentation and model
selection", Phil. Trans. R. Soc. 1998). Motions are compared by the square metres of surface that
they explain: the static scene is larger than what walks in front of it, even if that covers most of
the image or has most of the features.
"""

import numpy as np

from ace_jax.geometry import rigid
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import unproject
from ace_jax.geometry.ransac_kabsch import depth_threshold, rigid_motion

# Tuned, unless stated otherwise, on synthetic rooms with walking people.
# 1/m; a Kinect's random noise: its systematic errors are the same in frames a moment apart.
INVERSE_DEPTH_SIGMA = 0.002
CLOSE = 0.02  # metres; nearer than this a point always agrees
CELLS_ACROSS = 16  # columns of the grid in which points of a cell count as one surface
HYPOTHESES = 512  # theory: finds 22 % inliers with 99.5 % (three points each)
MOST_MOTIONS = 3  # that are looked for beside the first one


def beside(
    camera_from_world: np.ndarray,
    points: np.ndarray,
    uv: np.ndarray,
    depth: np.ndarray,
    camera: Camera,
) -> np.ndarray:
    """Which pixels (N, 2) with depth (N,) are within its noise of their points (N, 3): (N,)."""
    moved = rigid.transform(camera_from_world, points)
    apart = np.linalg.norm(moved - unproject(uv, depth, camera), axis=1)
    return (depth > 0) & (apart < _limit(depth))


def most_common_motion(
    points: np.ndarray, uv: np.ndarray, depth: np.ndarray, asked: np.ndarray, camera: Camera
) -> tuple[np.ndarray, np.ndarray] | None:
    """The pose that most matches agree with, from their depth alone.

    Args:
        points: (N, 3) what each feature is matched with, world, metres.
        uv: (N, 2) the features' pixels,
        depth: (N,) and their depth, metres, 0 where unknown.
        asked: (N,) bool, the matches.
        camera: intrinsics.

    Returns:
        (4, 4) camera_from_world and the matches (N,) that agree, or None.
    """
    asked = asked & (depth > 0)
    seen = unproject(uv, depth, camera).astype(np.float32)
    limit = _limit(depth).astype(np.float32)
    draw = np.uint32(0), np.int32(0)
    result = rigid_motion(np.asarray(points, np.float32), seen, asked, limit, *draw, HYPOTHESES)
    if not bool(result.success):
        return None
    pose = np.asarray(result.camera_from_world)
    return pose, asked & beside(pose, points, uv, depth, camera)


def surface(
    points: np.ndarray, uv: np.ndarray, camera_from_world: np.ndarray, camera: Camera
) -> float:
    """Square metres of surface around points (M, 3) seen at uv (M, 2).

    A cell of the picture counts once, however many points it shows.
    """
    side = camera.width / CELLS_ACROSS
    z = points @ camera_from_world[2, :3] + camera_from_world[2, 3]
    column, row = np.floor(uv / side).astype(np.int64).T
    _, cell, count = np.unique(row * CELLS_ACROSS + column, return_inverse=True, return_counts=True)
    return float(np.sum(np.square(z * side / camera.fx) / count[cell]))


def _limit(depth: np.ndarray) -> np.ndarray:
    return depth_threshold(depth, INVERSE_DEPTH_SIGMA, floor=CLOSE)
