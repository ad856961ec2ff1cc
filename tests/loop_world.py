"""A light world for loop closing: landmarks with descriptors, no images, and a camera that drifts.

What the tracker would do is imitated: a feature continues a landmark of the keyframes that share
enough with the last one, and makes a new landmark where there is none.
"""

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import project, unproject_to_world
from ace_jax.geometry.pose_graph import exp
from ace_jax.geometry.rigid import invert, transform
from ace_jax.slam.mapping.keyframes import NO_LANDMARK, Keyframe
from ace_jax.slam.mapping.landmark_map import LandmarkMap

CAMERA = Camera(262.0, 262.0, 159.5, 119.5, 320, 240)
FEATURES = 192
DIM = 32
CAPACITY = 16384
NEIGHBOURS = 15  # shared landmarks
BLANK = Features(
    uv=np.zeros((FEATURES, 2), np.float32),
    descriptors=np.zeros((FEATURES, DIM), np.float32),
    scores=np.zeros(FEATURES, np.float32),
    mask=np.zeros(FEATURES, bool),
    depth=np.zeros(FEATURES, np.float32),
)


@dataclasses.dataclass
class Scene:
    """What there is to see: points (L, 3) on walls, their normals (L, 3), descriptors (L, D)."""

    points: np.ndarray
    normals: np.ndarray
    descriptors: np.ndarray

    def __add__(self, other: "Scene") -> "Scene":
        return Scene(
            np.concatenate([self.points, other.points]),
            np.concatenate([self.normals, other.normals]),
            np.concatenate([self.descriptors, other.descriptors]),
        )


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def looking(centre: np.ndarray, yaw: float) -> np.ndarray:
    """(4, 4) camera_from_world of an upright camera; yaw 0 looks along +z, pi/2 along +x."""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("y", yaw).as_matrix().T
    pose[:3, 3] = -pose[:3, :3] @ centre
    return pose


def outward(angle: float) -> np.ndarray:
    return np.array([np.sin(angle), 0.0 * angle, np.cos(angle)])


def ring_scene(radius: float = 5.0, density: float = 70.0, seed: int = 0) -> Scene:
    """A round wall with bulges, seen from inside; `density` landmarks a square metre."""
    rng = np.random.default_rng(seed)
    count = int(density * 2 * np.pi * radius * 2.4)
    angle, height = rng.uniform(0, 2 * np.pi, count), rng.uniform(-1.2, 1.2, count)
    bulge = 0.25 * np.sin(9 * angle) * np.cos(2 * height) + 0.15 * np.cos(23 * angle + height)
    away = outward(angle).T
    points = (radius + bulge)[:, None] * away
    points[:, 1] = height
    return Scene(points, -away, unit(rng.normal(size=(count, DIM))))


def ring_path(count: int, turns: float, radius: float = 3.0) -> np.ndarray:
    """(count, 4, 4) camera_from_world of a walk round the ring, looking at the wall."""
    poses = []
    for angle in np.linspace(0, 2 * np.pi * turns, count):
        wobble = 0.1 * np.sin(7.3 * angle)
        height = 0.1 * np.sin(5 * angle)
        centre = np.array([0.0, height, 0.0]) + (radius + wobble) * outward(angle)
        poses.append(looking(centre, angle + wobble))
    return np.stack(poses)


class Recording:
    """Feeds a `LandmarkMap` with keyframes of a scene whose poses drift.

    Args:
        scene: what there is.
        drift: (6,) twist (metres, radians) by which each keyframe is further off.
        seed: of noise.
        share: probability that a landmark in view is detected.
    """

    def __init__(self, scene: Scene, drift=(0.0,) * 6, seed: int = 0, share: float = 0.6):
        self.scene = scene
        self.drift = np.asarray(drift, float)
        self.share = share
        self.landmark_map = LandmarkMap(CAPACITY, DIM, 4)
        self.truth: list[np.ndarray] = []
        self.ids: list[np.ndarray] = []
        self._rng = np.random.default_rng(seed)

    def add(self, camera_from_world: np.ndarray) -> int:
        """One more keyframe at a true pose; returns its number."""
        estimate = camera_from_world
        if self.truth:
            moved = camera_from_world @ invert(self.truth[-1])
            last = self.landmark_map.keyframes[self.landmark_map.keyframes.newest].camera_from_world
            estimate = exp(self.drift[None])[0] @ moved @ last
        ids, uv, depth, descriptors = self._observe(camera_from_world)
        slot_of = self._local_slots()
        mask = ids >= 0
        slots = np.where(mask, slot_of[ids], NO_LANDMARK).astype(np.int32)
        keyframe = Keyframe(len(self.truth), estimate, uv, descriptors, depth, mask, 1.0)
        number = self.landmark_map.add_keyframe(keyframe, slots)
        self.truth.append(camera_from_world)
        self.ids.append(ids)
        new = np.flatnonzero(mask & (slots < 0))
        points = unproject_to_world(uv[new], depth[new], CAMERA, estimate)
        self.landmark_map.create(
            number, new, points.astype(np.float32), np.zeros((len(new), 3), np.uint8)
        )
        self.landmark_map.cull(number)
        return number

    def error(self) -> float:
        """RMSE of the keyframes' centres, metres; the first pose is exact."""
        found = np.stack([k.centre for k in self.landmark_map.keyframes.values()])
        true = invert(np.stack(self.truth))[:, :3, 3]
        return float(np.sqrt(np.mean(np.sum((found - true) ** 2, 1))))

    def _observe(self, pose: np.ndarray):
        rng, scene = self._rng, self.scene
        in_camera = transform(pose, scene.points)
        z = in_camera[:, 2]
        u, v = project(in_camera, CAMERA).T
        towards = invert(pose)[:3, 3] - scene.points
        seen = (
            (in_camera[:, 2] > 0.3)
            & (in_camera[:, 2] < 4.0)
            & (np.abs(u - CAMERA.cx) < 155)
            & (np.abs(v - CAMERA.cy) < 115)
            & (np.sum(towards * scene.normals, 1) > 0.3 * np.linalg.norm(towards, axis=1))
        )
        seen = np.flatnonzero(seen & (rng.uniform(size=len(u)) < self.share))
        seen = rng.permutation(seen)[:FEATURES]
        count = len(seen)
        ids = np.full(FEATURES, -1)
        ids[:count] = seen
        uv = np.zeros((FEATURES, 2), np.float32)
        uv[:count] = np.stack([u, v], 1)[seen] + rng.normal(scale=0.5, size=(count, 2))
        depth = np.zeros(FEATURES, np.float32)
        depth[:count] = 1 / (1 / z[seen] + rng.normal(scale=0.003, size=count))
        descriptors = np.zeros((FEATURES, DIM), np.float32)
        noise = 0.35 * unit(rng.normal(size=(count, DIM)))
        descriptors[:count] = unit(scene.descriptors[seen] + noise)
        return ids, uv, depth, descriptors

    def _local_slots(self) -> np.ndarray:
        """(L,) slot of each landmark that the tracker would find, -1 for the others."""
        slot_of = np.full(len(self.scene.points), NO_LANDMARK)
        if self.truth:
            shared = self.landmark_map.covisibility(
                self.landmark_map.landmarks_of(self.landmark_map.keyframes.newest)
            )
            for number in np.flatnonzero(shared >= NEIGHBOURS):
                slots = self.landmark_map.landmarks_of(number)
                known = slots >= 0
                slot_of[self.ids[number][known]] = slots[known]
        return slot_of


def room_scene(
    place: np.ndarray, changed: float, seed: int, half: float = 1.6, density: float = 60.0
) -> Scene:
    """A square room round `place`: four walls of tiles, each an object of its own.

    All rooms have the same tiles, but for a share `changed` of them, which `seed` draws: there hang
    other things, nearer to the camera or farther from it.
    """
    tile = 0.8
    per_side = round(2 * half / tile)
    swapped = np.random.default_rng([seed, 1]).uniform(size=(4, per_side, 3)) < changed
    points, normals, descriptors = [], [], []
    for side, column, row in np.ndindex(4, per_side, 3):
        own = seed if swapped[side, column, row] else 0
        rng = np.random.default_rng([own, side, column, row])
        count = int(density * tile**2)
        along = -half + tile * (column + rng.uniform(size=count))
        height = -1.2 + tile * (row + rng.uniform(size=count))
        out = half - (rng.uniform(0.2, 0.5) if own else 0.0) + 0.05 * np.sin(5 * along)
        turn = Rotation.from_euler("y", side * np.pi / 2).as_matrix()
        points.append(np.stack([along, height, out], 1) @ turn.T + place)
        normals.append(np.tile(turn @ [0.0, 0.0, -1.0], (count, 1)))
        descriptors.append(unit(rng.normal(size=(count, DIM))))
    return Scene(np.concatenate(points), np.concatenate(normals), np.concatenate(descriptors))


def look_around(place: np.ndarray, count: int = 14, start: float = 0.0) -> np.ndarray:
    """(count, 4, 4) camera_from_world of a turn on the spot, a little beside `place`."""
    yaws = start + np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([looking(place + 0.15 * outward(3 * yaw), yaw) for yaw in yaws])
