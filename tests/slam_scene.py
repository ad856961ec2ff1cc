"""A small textured room for the SLAM tests: exact poses, rendered in milliseconds by numpy."""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from data_scene import rotation

from ace_jax.data.frame import BadFrame, Frame
from ace_jax.features.sift import Sift
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import image_rays
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.sessions.session import load_session

CAMERA = Camera(262.0, 262.0, 159.5, 119.5, 320, 240)
HALF = np.array([2.0, 1.2, 1.6])  # half extents of the room, metres
TEXEL = 0.01  # metres

FEATURES = 320

# Small capacities: programs compile and run faster, and all tests share them.
CONFIG = SlamConfig(
    max_local_landmarks=FEATURES,
    max_fuse_landmarks=FEATURES,
    max_window_landmarks=1024,
    max_landmarks=4096,
)


def world_from_camera(i: int) -> np.ndarray:
    """(4, 4) pose of frame i: an arc with a little rotation about every axis."""
    phase = 0.1 * i
    pose = np.eye(4)
    pose[:3, :3] = rotation(
        np.array([0.08 * np.sin(phase), 0.35 * np.sin(0.5 * phase), 0.05 * np.sin(2 * phase)])
    )
    pose[:3, 3] = [0.4 * np.sin(phase), 0.1 * np.sin(2 * phase), -0.5 + 0.2 * np.cos(phase)]
    return pose


@functools.cache
def _texture(face: int, room: int) -> np.ndarray:
    """(H, W, 3) uint8: noise of several sizes, sharp enough for corners, smooth over a pixel."""
    rng = np.random.default_rng([face, room])
    size = round(2 * HALF.max() / TEXEL)
    image = np.zeros((size, size, 3), np.float32)
    for cells in (13, 31, 67, 120):
        noise = rng.normal(size=(cells, cells, 3)).astype(np.float32)
        image += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 45 * image, 0, 255).astype(np.uint8)


@functools.cache
def render(i: int, room: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Colour (H, W, 3) uint8 and depth (H, W) float32 metres of frame i in one of many rooms."""
    pose = world_from_camera(i)
    rays = image_rays(CAMERA) @ pose[:3, :3].T
    origin = pose[:3, 3]
    walls = np.where(rays > 0, HALF, -HALF)
    distance = (walls - origin) / np.where(np.abs(rays) < 1e-9, 1e-9, rays)
    axis = np.argmin(distance, 2)
    depth = np.min(distance, 2)  # the rays have z = 1 in the camera: this is z-depth
    points = origin + depth[..., None] * rays
    rgb = np.zeros((*depth.shape, 3), np.uint8)
    for a in range(3):
        others = [k for k in range(3) if k != a]
        x, y = ((points[..., k] + HALF[k]) / TEXEL for k in others)
        for side in range(2):
            painted = cv2.remap(
                _texture(2 * a + side, room), np.float32(x), np.float32(y), cv2.INTER_LINEAR
            )
            here = (axis == a) & ((rays[..., a] > 0) == bool(side))
            rgb[here] = painted[here]
    return rgb, depth.astype(np.float32)


class Killed(BaseException):
    """The end of a process, as far as one process can play it."""


@dataclasses.dataclass
class RoomSource:
    """A `FrameSource`.

    Attributes:
        count: number of frames.
        black: frames without light and without depth.
        foreign: frames that show another room.
        bad: frames that cannot be read.
        interrupt_at: the frame at which the user presses Ctrl-C.
        killed_at: the frame at which the process is killed.
        truth: what the source claims to know about poses: `exact`, `none` or `false`.
        order: which view each frame shows, instead of 0, 1, 2, ...
    """

    count: int = 30
    black: tuple[int, ...] = ()
    foreign: tuple[int, ...] = ()
    bad: tuple[int, ...] = ()
    interrupt_at: int | None = None
    killed_at: int | None = None
    truth: str = "exact"
    has_depth: bool = True
    order: tuple[int, ...] | None = None
    name: str = "room"
    camera: Camera = CAMERA

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Frame:
        if not 0 <= index < self.count:
            raise IndexError(index)
        if index == self.interrupt_at:
            raise KeyboardInterrupt
        if index == self.killed_at:
            raise Killed
        if index in self.bad:
            raise BadFrame(f"frame {index} is truncated")
        rgb, depth = render(self._view(index), int(index in self.foreign))
        if index in self.black:
            rgb, depth = np.zeros_like(rgb), np.zeros_like(depth)
        poses = self.poses()
        return Frame(
            index=index,
            name=self.names()[index],
            timestamp=float(self.timestamps()[index]),
            rgb=rgb,
            depth=depth if self.has_depth else None,
            camera=self.camera,
            world_from_camera=None if poses is None else poses[index],
        )

    def __iter__(self) -> Iterator[Frame]:
        return (self[i] for i in range(self.count))

    def _view(self, index: int) -> int:
        return index if self.order is None else self.order[index]

    def timestamps(self) -> np.ndarray:
        return 100.0 + np.arange(self.count) / 30

    def names(self) -> list[str]:
        return [f"{i:06d}" for i in range(self.count)]

    def poses(self) -> np.ndarray | None:
        if self.truth == "none":
            return None
        poses = np.stack([world_from_camera(self._view(i)) for i in range(self.count)])
        if self.truth == "false":
            poses = poses[::-1].copy()
            poses[:, :3, 3] *= 3.0
        return poses


def make_system(seed: int = 0, **options) -> LandmarkSlam:
    """SLAM with SIFT and small capacities; loops are closed in tests of their own."""
    options.setdefault("close_loops", False)
    options.setdefault("config", CONFIG)
    extractor = Sift(image_size=None, max_features=FEATURES)
    return LandmarkSlam(CAMERA, extractor, seed=seed, **options)


def resumed(path: Path, **options) -> LandmarkSlam:
    """SLAM that goes on from a session file."""
    _, landmark_map = load_session(path, CONFIG.max_landmarks)
    return make_system(landmark_map=landmark_map, **options)
