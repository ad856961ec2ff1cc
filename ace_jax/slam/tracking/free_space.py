"""Moving-object detection from free space: surfaces where earlier depth images saw none.

A depth image shows where surfaces are and that the space between them and the camera is empty. A
surface that is now in space seen to be empty has moved there (a person who walks in), and its
features carry no information about the camera's motion. Ray-traced free space removes dynamic
objects from occupancy maps in the same way (Hornung et al., OctoMap, Autonomous Robots 2013).
"""

from collections.abc import Mapping

import cv2
import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry import rigid
from ace_jax.geometry.camera import MIN_DEPTH, Camera
from ace_jax.geometry.host_camera import project, unproject_to_world
from ace_jax.slam.config import FreeSpaceConfig


class FreeSpace:
    """Keeps a few depth images of the last seconds and asks them what has moved.

    Args:
        camera: intrinsics of the frames.
        config: constants.
    """

    def __init__(self, camera: Camera, config: FreeSpaceConfig = FreeSpaceConfig()) -> None:  # noqa: B008
        self._camera = camera
        self._config = config
        size = tuple(-(-int(x) // config.step) for x in (camera.height, camera.width))
        # Nearest depth of each pixel's neighbours, 0 unknown; places are used in turn.
        self._depths = np.zeros((config.count, *size), np.float32)
        self._poses = np.tile(np.eye(4), (config.count, 1, 1))
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
        if 0 <= time - self._last < self._config.interval:
            return
        small = depth[:: self._config.step, :: self._config.step]
        small = np.where(np.isfinite(small), small, 0.0).astype(np.float32)
        place = self._taken % len(self._depths)
        # One unknown neighbour makes the pixel unknown: nothing is said about what lies at edges.
        small = cv2.erode(small, np.ones((3, 3), np.uint8))
        if np.isfinite(self._last):
            small[self._moving_area(depth, camera_from_world)] = 0.0
        self._depths[place] = small
        self._poses[place] = camera_from_world
        self._taken += 1
        self._last = time

    def content(self) -> dict[str, np.ndarray]:
        """Copies of the images, as `restore` takes them."""
        counters = np.array([self._taken, self._last])
        depths, poses = self._depths.copy(), self._poses.copy()
        return {"depths": depths, "poses": poses, "counters": counters}

    def restore(self, content: Mapping[str, np.ndarray]) -> None:
        """Takes over the images of another run of the same camera.

        Raises:
            ValueError: arrays of other shapes, or not finite.
            KeyError: one is missing.
        """
        depths, poses, counters = (content[name] for name in ("depths", "poses", "counters"))
        shapes = self._depths.shape, self._poses.shape, (2,)
        finite = np.isfinite(depths).all() and np.isfinite(poses).all()
        if (depths.shape, poses.shape, counters.shape) != shapes or not finite:
            raise ValueError("the images of free space have other sizes")
        self._depths, self._poses = depths.copy(), poses.copy()
        self._taken, self._last = int(counters[0]), float(counters[1])

    def moved(
        self, features: Features, depth: np.ndarray | None, camera_from_world: np.ndarray | None
    ) -> np.ndarray:
        """Which features (N,) show a surface where there was air before.

        Args:
            features: N features.
            depth: (H, W) the frame's depth image, metres, 0, NaN and inf where unknown; None: none.
            camera_from_world: (4, 4) where the camera is, about; None: unknown.
        """
        found = np.zeros(len(features.mask), bool)
        if depth is None or camera_from_world is None or not np.isfinite(self._last):
            return found
        uv, nearest = _nearest_at(depth, features.uv, self._config.edge)
        usable = np.flatnonzero(features.mask & (nearest > 0))
        if len(usable) == 0:
            return found
        points = unproject_to_world(uv[usable], nearest[usable], self._camera, camera_from_world)
        in_air, was_seen = self._judge(points)
        if in_air.any():
            area = unproject_to_world(
                *_samples(depth, self._config.grid), self._camera, camera_from_world
            )
            found[usable] = self._moving(
                points, in_air, was_seen, area[self._judge(area)[0]], len(area)
            )
        return found

    def _moving_area(self, depth: np.ndarray, camera_from_world: np.ndarray) -> np.ndarray:
        """Pixels of a snapshot that move: kept in it, they would count as static surface later."""
        uv, z = _samples(depth, 2 * self._config.grid)
        area = unproject_to_world(uv, z, self._camera, camera_from_world)
        step = _spacing(depth, 2 * self._config.grid)
        height, width = (-(-size // step) for size in depth.shape)
        cells = np.zeros((height, width), np.uint8)
        in_air, was_seen = self._judge(area)
        column, row = uv[self._moving(area, in_air, was_seen, area[in_air], len(area))].T // step
        cells[row, column] = 1
        cells = cv2.dilate(cells, np.ones((3, 3), np.uint8))
        rows, columns = (np.arange(0, size, self._config.step) // step for size in depth.shape)
        return cells[rows][:, columns] > 0

    def _judge(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which points (M, 3) were in the air once, and which were on a surface."""
        then = rigid.transform(self._poses, points)  # (count, M, 3)
        distance = then[..., 2]
        pixels = np.rint(project(then, self._camera) / self._config.step)
        column, row = pixels[..., 0], pixels[..., 1]
        _, height, width = self._depths.shape
        inside = (distance > MIN_DEPTH) & (column >= 0) & (column < width)
        inside &= (row >= 0) & (row < height)
        place = np.where(inside, row * width + column, 0.0).astype(np.int64)
        place += (height * width * np.arange(len(then)))[:, None]
        seen = self._depths.ravel().take(place)
        margin = self._config.margin[0] + self._config.margin[1] * distance
        air = inside & (seen > distance + margin)
        surface = inside & (np.abs(seen - distance) <= margin)
        return air.any(axis=0), surface.any(axis=0)

    def _moving(
        self,
        points: np.ndarray,
        in_air: np.ndarray,
        was_seen: np.ndarray,
        moving_area: np.ndarray,
        area: int,
    ) -> np.ndarray:
        """Which points (M, 3) move: those in the air, unless all is, and what is new beside them.

        Args:
            points: in the world, metres.
            in_air: (M,) see `FreeSpace._judge`.
            was_seen: (M,) the same.
            moving_area: (A, 3) points in the air, of such as are spread evenly over the picture,
            area: of which there are so many.
        """
        if len(moving_area) > self._config.max_moved * area:
            return np.zeros(len(points), bool)
        moving = in_air.copy()
        # What is at a place that was never seen belongs to the moving thing beside it.
        unknown = ~in_air & ~was_seen
        moving[unknown] = np.isfinite(
            nth_nearest(points[unknown], moving_area, self._config.neighbours, self._config.reach)
        )
        return moving


def _nearest_at(depth: np.ndarray, uv: np.ndarray, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 2) of the nearest surface around pixels (N, 2), and its depth (N,), 0 if unknown.

    What is seen at an edge is the edge of the nearer thing.
    """
    height, width = depth.shape
    radius = round(edge * width)
    v, u = (x.ravel() for x in np.mgrid[-radius : radius + 1, -radius : radius + 1])
    column = np.clip(np.rint(uv[:, 0]).astype(np.int64), radius, width - 1 - radius)
    row = np.clip(np.rint(uv[:, 1]).astype(np.int64), radius, height - 1 - radius)
    patches = depth.ravel().take((row * width + column)[:, None] + (v * width + u))
    patches = np.where(patches > 0, patches, np.inf)
    best = patches.argmin(1)
    z = patches[np.arange(len(uv)), best]
    return np.stack([column + u[best], row + v[best]], 1), np.where(np.isfinite(z), z, 0.0)


def nth_nearest(
    points: np.ndarray, others: np.ndarray, n: int, reach: float = np.inf
) -> np.ndarray:
    """(N,) metres from points (N, 3) to the n-th nearest of others (M, 3); inf beyond `reach`."""
    if len(points) == 0 or len(others) < n:
        return np.full(len(points), np.inf)
    from scipy.spatial import cKDTree  # here: imported beside the compilation, see `compilation.py`

    distances, _ = cKDTree(others).query(points, k=[n], distance_upper_bound=reach)
    return distances[:, 0]


def _spacing(depth: np.ndarray, count: int) -> int:
    return max(depth.shape[1] // count, 1)


def _samples(depth: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (M, 2) spread evenly, about `count` of them across, and their known depth (M,)."""
    step = _spacing(depth, count)
    v, u = np.mgrid[step // 2 : depth.shape[0] : step, step // 2 : depth.shape[1] : step]
    z = depth[v, u]
    known = np.isfinite(z) & (z > 0)
    return np.stack([u[known], v[known]], axis=1), z[known]
