"""Depth images of a room's corner, exact or as a bent sensor sees them."""

import numpy as np
from data_scene import rotation

from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import image_rays
from ace_jax.geometry.rigid import centre

CAMERA = Camera(262.5, 262.5, 159.5, 119.5, 320, 240)
# n.X = 1 in world axes: a far wall, a side wall, a floor, a slanted board.
WALLS = np.array([[0.0, 0.05, 0.33], [0.7, 0.0, 0.1], [-0.02, 0.75, 0.1], [-0.75, 0.0, 0.2]])


def view(angles, centre) -> np.ndarray:
    """(4, 4) camera_from_world of a camera at `centre` (3,) turned by `angles` (3,) radians."""
    pose = np.eye(4)
    pose[:3, :3] = rotation(np.asarray(angles, float))
    pose[:3, 3] = -pose[:3, :3] @ np.asarray(centre, float)
    return pose


def depth_image(pose: np.ndarray, walls: np.ndarray = WALLS) -> np.ndarray:
    """(H, W) metres to the nearest wall."""
    # Per wall, share of the way per metre of depth.
    towards = (image_rays(CAMERA) @ pose[:3, :3]) @ walls.T
    left = 1.0 - walls @ centre(pose)
    depth = np.where(towards > 1e-6, left / np.maximum(towards, 1e-6), np.inf)
    return depth.min(-1).astype(np.float32)


def views(count: int, seed: int = 0, step: float = 0.12) -> list[np.ndarray]:
    """Cameras that look around in the corner."""
    rng = np.random.default_rng(seed)
    return [
        view(rng.uniform(-0.25, 0.25, 3) * [0.6, 1, 0.3], rng.uniform(-step, step, 3) * 2)
        for _ in range(count)
    ]
