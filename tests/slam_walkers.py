"""A wall and someone who walks before it, as features: more of them on the person."""

import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.localization.landmarks import MatchGates

CAMERA = Camera(525.0, 525.0, 319.5, 239.5, 640, 480)
GATES = MatchGates(
    radius=np.float32(80.0),
    min_cosine=0.75,
    match_ratio=0.9,
    cos_max_view_angle=0.5,
    max_scale_change=2.0,
)
WALL, PERSON, DIM = 120, 180, 64


def descriptors(count: int = WALL + PERSON, seed: int = 0) -> np.ndarray:
    """(count, 64) unit vectors, far from each other."""
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def points(walked: float = 0.0) -> np.ndarray:
    """(N, 3) metres: first the wall, 3 to 3.6 m away, then a person at 1.6 m who walked aside."""
    rng = np.random.default_rng(1)
    wall = rng.uniform([-1.7, -1.2, 3.0], [0.4, 1.2, 3.6], (WALL, 3))
    person = rng.uniform([0.25, -0.6, 1.5], [0.75, 0.6, 1.7], (PERSON, 3))
    return np.concatenate([wall, np.add(person, [walked, 0.0, 0.0])])


def seen(world: np.ndarray, camera_from_world: np.ndarray, noise: float = 0.2) -> Features:
    """Features of points, with exact depth and keypoint noise in pixels."""
    in_camera = world @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    uv = in_camera[:, :2] / in_camera[:, 2:] * 525.0 + [319.5, 239.5]
    uv += np.random.default_rng(2).normal(0, noise, uv.shape)
    return Features(
        uv=uv.astype(np.float32),
        descriptors=descriptors(len(world)),
        scores=np.ones(len(world), np.float32),
        mask=np.ones(len(world), bool),
        depth=in_camera[:, 2].astype(np.float32),
    )


def moved(x: float) -> np.ndarray:
    """(4, 4) camera_from_world of a camera that went x metres to the right."""
    pose = np.eye(4)
    pose[0, 3] = -x
    return pose


IS_PERSON = np.arange(WALL + PERSON) >= WALL
