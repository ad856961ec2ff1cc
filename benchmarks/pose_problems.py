"""Absolute-pose problems: a grid of random ones, and matches of real images."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from kitchen import SEQUENCE, with_sfm_poses
from scipy.spatial.transform import Rotation

from ace_jax.data.registry import open_sequence
from ace_jax.features.sift import Sift
from ace_jax.geometry import rigid
from ace_jax.geometry.host_camera import unproject

WIDTH, HEIGHT = 640, 480
SCENES = ("general", "planar", "narrow")
_FOCAL = {"general": 525.0, "planar": 525.0, "narrow": 2400.0}
REAL_FRAMES = range(0, 800, 16)


@dataclasses.dataclass(frozen=True)
class Problem:
    """Correspondences between an image and the world, and the truth.

    Attributes:
        points_2d: (N, 2) float64 pixels.
        points_3d: (N, 3) float64, metres.
        focal: pixels.
        centre: principal point, pixels.
        camera_from_world: (4, 4) float64.
        depth: (N,) z-depth measured at the pixels, 0 where unknown; None without a depth camera.
    """

    points_2d: np.ndarray
    points_3d: np.ndarray
    focal: float
    centre: tuple[float, float]
    camera_from_world: np.ndarray
    depth: np.ndarray | None = None

    def error(self, camera_from_world: np.ndarray) -> tuple[float, float]:
        """Degrees, and centimetres between the camera centres."""
        metres, radians = rigid.difference(camera_from_world, self.camera_from_world)
        return float(np.degrees(radians)), float(100.0 * metres)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One difficulty.

    Attributes:
        scene: `general` (depths 1-5 m, 63 degrees), `planar` (a wall at 3 m, tilted by up to 45
            degrees), or `narrow` (as general, 15 degrees).
        points: correspondences.
        outliers: per cent, uniform over the image.
        noise: standard deviation of a pixel coordinate.
    """

    scene: str
    points: int
    outliers: int
    noise: float

    @property
    def name(self) -> str:
        """Also a file name."""
        return f"{self.scene}-{self.points}-{self.outliers}-{self.noise:g}"

    def problem(self, index: int, seed: int) -> Problem:
        """The problem of that index; the same seed gives the same one."""
        entropy = [seed, index, SCENES.index(self.scene), self.points, self.outliers]
        rng = np.random.default_rng([*entropy, round(10 * self.noise)])
        focal, centre = _FOCAL[self.scene], (WIDTH / 2, HEIGHT / 2)
        pixels = rng.uniform(0, [WIDTH, HEIGHT], size=(self.points, 2))
        rays = np.concatenate([(pixels - centre) / focal, np.ones((self.points, 1))], axis=1)
        if self.scene == "planar":
            normal = np.array([*rng.uniform(-0.7, 0.7, 2), 1.0])
            depth = 3.0 / (rays @ normal)
        else:
            depth = rng.uniform(1.0, 5.0, self.points)
        pose = np.eye(4)
        pose[:3, :3] = Rotation.random(random_state=rng).as_matrix()
        pose[:3, 3] = rng.normal(size=3)
        world = (rays * depth[:, None] - pose[:3, 3]) @ pose[:3, :3]
        pixels = pixels + self.noise * rng.normal(size=pixels.shape)
        wrong = rng.permutation(self.points)[: round(self.points * self.outliers / 100)]
        pixels[wrong] = rng.uniform(0, [WIDTH, HEIGHT], size=(len(wrong), 2))
        return Problem(pixels, world, focal, centre, pose)


def grid() -> list[Cell]:
    """All noise levels for general scenes, 1 px for the others."""
    return [
        Cell(scene, points, outliers, noise)
        for scene in SCENES
        for points in (250, 1000, 4000)
        for outliers in (10, 30, 60, 80, 90)
        for noise in ((0.5, 1.0, 2.0) if scene == "general" else (1.0,))
    ]


def real_problems(data_root: Path, gap: int, ratio: float) -> Iterator[Problem]:
    """SIFT matches between frames of 7-Scenes redkitchen, `gap` frames apart.

    Points of the earlier frame get their place from its depth image; the later frame's pose is
    asked for. The truth is the SfM reference.

    Args:
        data_root: folder with 7scenes/.
        gap: frames between the two images.
        ratio: a match's distance over that to the second nearest, at most; 1 keeps all.
    """
    source = open_sequence(SEQUENCE, data_root, **with_sfm_poses(data_root))
    sift = Sift(image_size=None, max_features=2000)
    for index in REAL_FRAMES:
        if index + gap >= len(source):
            return
        first, second = source[index], source[index + gap]
        features = [sift.extract(frame.rgb) for frame in (first, second)]
        uv = [np.asarray(f.uv, np.float64)[np.asarray(f.mask)] for f in features]
        descriptors = [np.asarray(f.descriptors)[np.asarray(f.mask)] for f in features]
        depth = [_read(f.depth, pixels) for f, pixels in zip((first, second), uv, strict=True)]
        known = depth[0] > 0.0
        a, b = mutual_matches(descriptors[0][known], descriptors[1], ratio)
        camera = first.camera
        centre = (float(camera.cx), float(camera.cy))
        local = unproject(uv[0][known][a], depth[0][known][a], camera)
        points = rigid.transform(first.world_from_camera, local)
        truth = rigid.invert(second.world_from_camera)
        yield Problem(uv[1][b], points, float(camera.fx), centre, truth, depth[1][b])


def _read(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The values (N,) of an image (H, W) at the nearest pixels (N, 2)."""
    u, v = np.round(pixels).astype(int).T
    return image[np.clip(v, 0, image.shape[0] - 1), np.clip(u, 0, image.shape[1] - 1)]


def mutual_matches(a: np.ndarray, b: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `a` and `b` that are each other's nearest, and clearly so."""
    if not len(a) or not len(b):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    similarity, every = a @ b.T, np.arange(len(a))
    nearest = similarity.argmax(axis=1)
    mutual = similarity.argmax(axis=0)[nearest] == every
    first = similarity[every, nearest]
    if len(b) > 1:  # else the nearest is the second nearest, too
        similarity[every, nearest] = -np.inf
    distances = np.sqrt(np.maximum(2.0 - 2.0 * np.stack([first, similarity.max(axis=1)]), 0.0))
    keep = np.flatnonzero(mutual & (distances[0] <= ratio * distances[1]))
    return keep, nearest[keep]
