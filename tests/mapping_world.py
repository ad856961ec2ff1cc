"""A world of labelled points for the mapping tests: no rendering, no network, exact truth.

An image of it carries only the number of its view and its focal length; the extractor knows what
that view shows.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import jax.numpy as jnp
import ml_collections
import numpy as np

from ace_jax.data.frame import BadFrame, Frame
from ace_jax.features import registry
from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.localization.relocalizer import Relocalizer
from ace_jax.localization.scene_map import SceneMap
from ace_jax.localization.settings import Settings
from ace_jax.mapping.config import with_changes


def camera(focal: float, width: int = 640, height: int = 480) -> Camera:
    """A camera of the world: its principal point is the middle of the image."""
    return Camera(focal, focal, width / 2, height / 2, width, height)


CAMERA = camera(525.0)
FEATURES = 192
DIM = 32


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(4, 4) world_from_camera at `eye` with z towards `target`, y roughly down."""
    z = (target - eye) / np.linalg.norm(target - eye)
    x = np.cross([0.0, 1.0, 0.0], z)
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([x, np.cross(z, x), z], axis=1)
    pose[:3, 3] = eye
    return pose


_APART = 12.0  # metres between the rooms
SECOND_ROOM = 50  # views from this number on show another part of the world


class World:
    """Two rooms of points with descriptors, and views of them along an arc in each.

    Attributes:
        points: (P, 3) metres, in front of the arc.
        descriptors: (P, DIM) unit length.
    """

    def __init__(self, seed: int = 0, points: int = 1000):
        rng = np.random.default_rng(seed)
        self.points = rng.uniform([-2.0, -1.2, 1.5], [2.0, 1.2, 4.0], (points, 3))
        self.points[points // 2 :, 0] += _APART
        descriptors = rng.normal(size=(points, DIM))
        self.descriptors = descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)
        self.seed = seed

    def pose(self, view: float) -> np.ndarray:
        """(4, 4) world_from_camera; views a unit apart are about 7 cm apart."""
        room = view >= SECOND_ROOM
        phase = 0.11 * (view - SECOND_ROOM * room)
        eye = np.array([0.7 * np.sin(phase), 0.2 * np.sin(1.7 * phase), -0.3 * np.cos(phase)])
        shift = np.array([_APART * room, 0.0, 0.0])
        return look_at(eye + shift, np.array([0.3 * np.sin(0.6 * phase), 0.0, 3.0]) + shift)

    def observe(
        self,
        view: float,
        camera: Camera = CAMERA,
        pixel_noise: float = 0.4,
        descriptor_noise: float = 0.05,
    ):
        """Index of the points, uv (n, 2), depth (n,) and descriptors (n, DIM) in a view."""
        rng = np.random.default_rng([self.seed, round(1000 * view)])
        camera_from_world = np.linalg.inv(self.pose(view))
        point = self.points @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
        size = np.array([camera.width, camera.height])
        uv = point[:, :2] / point[:, 2:] * camera.fx + size / 2
        inside = (uv > 8).all(axis=1) & (uv < size - 8).all(axis=1) & (point[:, 2] > 0.3)
        index = rng.permutation(np.flatnonzero(inside))[:FEATURES]
        noisy = self.descriptors[index] + descriptor_noise * rng.normal(size=(len(index), DIM))
        noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
        uv = uv[index] + pixel_noise * rng.normal(size=(len(index), 2))
        return index, uv, point[index, 2], noisy

    def image(self, view: float, camera: Camera = CAMERA) -> np.ndarray:
        """(H, W, 3) uint8 that names the view, the world and the focal length, in hundredths."""
        rgb = np.zeros((camera.height, camera.width, 3), np.uint8)
        number, focal = round(100 * view), round(100 * camera.fx)
        rgb[0, 0] = number // 256, number % 256, self.seed
        rgb[0, 1] = focal // 65536, focal // 256 % 256, focal % 256
        return rgb

    def depth(self, view: float, camera: Camera = CAMERA) -> np.ndarray:
        """(H, W) metres, known around the features."""
        _, uv, z, _ = self.observe(view, camera)
        image = np.zeros((camera.height, camera.width), np.float32)
        for (u, v), value in zip(np.rint(uv).astype(int), z, strict=True):
            image[v - 2 : v + 3, u - 2 : u + 3] = value
        return image


class WorldExtractor:
    """Recognises which view of which world an image is."""

    dim = DIM
    max_features = FEATURES
    name = "world"
    weights_checksum = "world"

    def __init__(self, kind: int = 0):
        self.kind = kind

    def extract(self, rgb: np.ndarray) -> Features:
        """Features of the view; none of an image that shows no world."""
        high, low, seed = (int(x) for x in rgb[0, 0])
        uv = np.zeros((FEATURES, 2), np.float32)
        descriptors = np.zeros((FEATURES, DIM), np.float32)
        count = 0
        if rgb[0, 0].any():
            focal = rgb[0, 1].astype(int) @ [65536, 256, 1] / 100
            taken_by = camera(focal, rgb.shape[1], rgb.shape[0])
            _, found, _, known = World(seed).observe((256 * high + low) / 100, taken_by)
            count = len(found)
            uv[:count], descriptors[:count] = found, known
        mask = np.arange(FEATURES) < count
        return Features(
            uv=jnp.asarray(uv),
            descriptors=jnp.asarray(descriptors),
            scores=jnp.asarray(np.where(mask, 1.0, 0.0).astype(np.float32)),
            mask=jnp.asarray(mask),
            depth=jnp.zeros(FEATURES),
        )


def register(monkeypatch) -> None:
    """Makes the extractor known by its name."""
    monkeypatch.setitem(registry._EXTRACTORS, "world", WorldExtractor)


@dataclasses.dataclass
class WorldSource:
    """A `FrameSource` of views of a world.

    Attributes:
        views: their numbers, at least 1.
        world: what they show.
        bad: positions that cannot be read.
        posed: whether poses are known.
        camera_at: the camera of a position; None: `camera` everywhere.
    """

    views: tuple[float, ...]
    world: World = dataclasses.field(default_factory=World)
    bad: tuple[int, ...] = ()
    posed: bool = True
    has_depth: bool = False
    name: str = "world"
    camera: Camera = CAMERA
    camera_at: Callable[[int], Camera] | None = None

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> Frame:
        if index in self.bad:
            raise BadFrame(f"view {index} is truncated")
        view = self.views[index]
        taken_by = self.camera if self.camera_at is None else self.camera_at(index)
        return Frame(
            index=index,
            name=f"view-{view:g}",
            timestamp=float(index),
            rgb=self.world.image(view, taken_by),
            depth=self.world.depth(view, taken_by) if self.has_depth else None,
            camera=taken_by,
            world_from_camera=self.world.pose(view) if self.posed else None,
        )

    def __iter__(self) -> Iterator[Frame]:
        return (self[i] for i in range(len(self)) if i not in self.bad)

    def timestamps(self) -> np.ndarray:
        return np.arange(len(self), dtype=float)

    def names(self) -> list[str]:
        return [f"view-{view:g}" for view in self.views]

    def poses(self) -> np.ndarray | None:
        return np.stack([self.world.pose(view) for view in self.views]) if self.posed else None


def small_config(**changes) -> ml_collections.ConfigDict:
    """A mapping configuration for worlds."""
    small = {
        "features": {"name": "world", "options": {}},
        "landmarks": {
            "coarse": 512,
            "detail": 512,
            "capacity": 1024,
            "min_similarity": 0.7,
            "min_views": 3,
        },
    }
    return with_changes(**(small | changes))


def position_errors(
    made: SceneMap,
    views: Iterable[float],
    world: World | None = None,
    camera_at: Callable[[int], Camera] = lambda _: CAMERA,
    **settings,
) -> np.ndarray:
    """Metres between where a map finds views and where they are; infinite where it does not."""
    changes = {"max_queries": FEATURES, "threshold": 4.0} | settings
    relocalizer = Relocalizer(made, WorldExtractor(), Settings(**changes))
    world, errors = world or World(), []
    for i, view in enumerate(views):
        answer = relocalizer(world.image(view, camera_at(i)), camera_at(i))
        error = np.linalg.norm(answer.world_from_camera[:3, 3] - world.pose(view)[:3, 3])
        errors.append(error if answer.success else np.inf)
    return np.array(errors)
