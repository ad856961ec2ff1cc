"""What moves: points where an earlier depth image saw nothing but air.

A depth image says where surfaces are and also where none are: between the camera and what it saw.
A surface that is now in such a place has moved there (a person who walks in), so its features tell
nothing about the camera. Ray-traced free space removes dynamic objects from occupancy maps in the
same way (Hornung et al., OctoMap, Autonomous Robots 2013).
"""

import cv2
import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera

NEAREST = 0.1  # metres
STEP = 4  # pixels; a snapshot keeps every fourth row and column
MARGIN = (0.06, 0.05)  # metres, and metres per metre of distance, that a surface may be off
MOST_MOVED = 0.7  # if more of the features seem to move, the pose is wrong, not the world


class FreeSpace:
    """Keeps a few depth images of the last seconds and asks them what has moved.

    Args:
        camera: intrinsics of the frames.
        count: images that are kept.
        interval: seconds between them.
    """

    def __init__(self, camera: Camera, count: int = 20, interval: float = 0.25) -> None:
        self._camera = camera
        self._interval = interval
        size = -(-int(camera.height) // STEP), -(-int(camera.width) // STEP)
        # Nearest depth of each pixel's neighbours, 0 unknown; places are used in turn.
        self._depths = np.zeros((count, *size), np.float32)
        self._poses = np.tile(np.eye(4), (count, 1, 1))
        self._taken = 0
        self._last = -np.inf

    def forget(self) -> None:
        """Drops all images: the world's axes have changed, or the camera was lost."""
        self._depths[:] = 0.0
        self._last = -np.inf

    def remember(self, time: float, depth: np.ndarray, camera_from_world: np.ndarray) -> None:
        """Keeps a depth image (H, W) of a tracked frame, if the last one is old enough.

        Args:
            time: seconds.
            depth: metres; 0, NaN and inf mean unknown.
            camera_from_world: (4, 4).
        """
        if 0 <= time - self._last < self._interval:
            return
        small = depth[::STEP, ::STEP]
        small = np.where(np.isfinite(small), small, 0.0).astype(np.float32)
        place = self._taken % len(self._depths)
        # One unknown neighbour makes the pixel unknown: nothing is said about what lies at edges.
        self._depths[place] = cv2.erode(small, np.ones((3, 3), np.uint8))
        self._poses[place] = camera_from_world
        self._taken += 1
        self._last = time

    def moved(self, features: Features, camera_from_world: np.ndarray) -> np.ndarray:
        """Which features (N,) with depth show a surface where there was air before.

        Args:
            features: N features with depth.
            camera_from_world: (4, 4) where the camera is, about.
        """
        camera = self._camera
        found = np.zeros(len(features.mask), bool)
        usable = np.flatnonzero(features.mask & (features.depth > 0))
        if len(usable) == 0 or not np.isfinite(self._last):
            return found
        z = features.depth[usable, None].astype(np.float64)
        rays = (features.uv[usable] - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
        in_camera = np.concatenate([rays * z, z], axis=1)
        points = (in_camera - camera_from_world[:3, 3]) @ camera_from_world[:3, :3]
        then = points @ self._poses[:, :3, :3].transpose(0, 2, 1) + self._poses[:, None, :3, 3]
        x, y, distance = np.moveaxis(then, -1, 0)  # each (count, M)
        scale = np.maximum(distance, NEAREST)
        column = np.rint((camera.fx * x / scale + camera.cx) / STEP)
        row = np.rint((camera.fy * y / scale + camera.cy) / STEP)
        _, height, width = self._depths.shape
        inside = (distance > NEAREST) & (column >= 0) & (column < width)
        inside &= (row >= 0) & (row < height)
        column, row = (np.where(inside, pixel, 0).astype(np.int64) for pixel in (column, row))
        seen = self._depths[np.arange(len(then))[:, None], row, column]
        air = inside & (seen > distance + MARGIN[0] + MARGIN[1] * distance)
        found[usable] = air.any(axis=0)
        if found.sum() > MOST_MOVED * len(usable):
            found[:] = False
        return found
