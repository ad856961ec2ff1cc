"""A small analytic recording for the readers' tests: a camera before a textured, tilted plane."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from ace_jax.data.frame import BadFrame, Frame
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import image_rays
from ace_jax.geometry.rigid import transform

CAMERA = Camera(50.0, 52.0, 31.5, 23.5, 64, 48)
NORMAL = np.array([0.2, -0.1, -1.0]) / np.linalg.norm([0.2, -0.1, -1.0])
OFFSET = -2.0  # the plane is NORMAL . x = OFFSET, about 2 m in front of the origin


def rotation(axis_angle: np.ndarray) -> np.ndarray:
    """Rodrigues' formula, (3, 3)."""
    angle = np.linalg.norm(axis_angle)
    x, y, z = axis_angle / max(angle, 1e-12)
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def pose(i: int) -> np.ndarray:
    """world_from_camera of frame i, (4, 4)."""
    transform = np.eye(4)
    transform[:3, :3] = rotation(np.array([0.02, 0.05, 0.11]) * (i + 1))
    transform[:3, 3] = [0.03 * i, -0.02 * i, 0.01 * i]
    return transform


def plane_depth(camera: Camera, world_from_camera: np.ndarray) -> np.ndarray:
    """(H, W) float64 z-depth of the plane."""
    towards = image_rays(camera) @ world_from_camera[:3, :3].T @ NORMAL
    return (OFFSET - NORMAL @ world_from_camera[:3, 3]) / towards


def texture(camera: Camera, world_from_camera: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, a smooth function of the point that is seen."""
    depth = plane_depth(camera, world_from_camera)
    points = transform(world_from_camera, image_rays(camera) * depth[..., None])
    waves = np.sin(points[..., :1] * [3, 4, 5] + points[..., 1:2] * [4, 2, 3])
    return np.uint8(127.5 + 100 * waves)


@dataclasses.dataclass
class PlaneSource:
    """A `FrameSource`; `bad` frames cannot be read, `lost` frames have no pose."""

    count: int = 5
    bad: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    has_depth: bool = True
    first_time: float = 0.0
    period: float = 1 / 30
    name: str = "plane"
    camera: Camera = CAMERA

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Frame:
        if index < 0:
            index += self.count
        if not 0 <= index < self.count:
            raise IndexError(index)
        if index in self.bad:
            raise BadFrame(f"frame {index} is bad")
        depth = plane_depth(self.camera, pose(index)).astype(np.float32)
        depth[index % 3, 5] = 0.0
        return Frame(
            index=index,
            name=self.names()[index],
            timestamp=float(self.timestamps()[index]),
            rgb=texture(self.camera, pose(index)),
            depth=depth if self.has_depth else None,
            camera=self.camera,
            world_from_camera=None if index in self.lost else pose(index),
        )

    def __iter__(self) -> Iterator[Frame]:
        return (self[i] for i in range(self.count))

    def timestamps(self) -> np.ndarray:
        return self.first_time + self.period * np.arange(self.count)

    def names(self) -> list[str]:
        return [f"plane-{i}" for i in range(self.count)]

    def poses(self) -> np.ndarray:
        poses = np.stack([pose(i) for i in range(self.count)])
        poses[list(self.lost)] = np.nan
        return poses
