"""SLAM whose map is a network alone: ACE-SLAM's loop (DESIGN 4.3).

Tracking is relocalization in every frame: the network gives each feature a scene coordinate,
RANSAC-Kabsch the pose, and the inlier ratio lambda is the frame's quality. Mapping alternates
between estimating the window's poses again in the present map and gradient steps on the map.

With the gradient steps that two CPU cores can take between two frames this loop does not track
well: every pose inherits the network's error of centimetres, and the next keyframe is learned from
it. On redkitchen 0-149 it drifts by 8 (HomogeneousMLP) to 19 cm (TriMLP). `--head tri_mlp` and
`--head homogeneous_mlp` therefore choose `distillation`; this loop is for machines that
take more steps (`NetworkConfig.steps`).
"""

import dataclasses

import jax
import numpy as np

from ace_jax.data.frame import Frame
from ace_jax.features.base import FeatureExtractor, Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import unproject
from ace_jax.geometry.rigid import centre, difference, invert, nearest_view, orthonormalized
from ace_jax.localization.scene_map import SceneMap
from ace_jax.models.scene_coordinate_heads import create_head
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.networks.network_mapping import NetworkConfig, NetworkMap
from ace_jax.slam.reporting.stage_times import StageClock
from ace_jax.slam.system import SlamSystem, State, TrackedFrame

HEAD_OPTIONS = {
    "tri_mlp": {"width": 512, "layers": 1, "cells": 16},
    "homogeneous_mlp": {"width": 256, "blocks": 0},
}


def blank_features(extractor: FeatureExtractor) -> Features:
    """Masked features of the extractor's shapes, to compile with."""
    count, dim = extractor.max_features, extractor.dim
    return Features(
        uv=np.zeros((count, 2), np.float32),
        descriptors=np.zeros((count, dim), np.float32),
        scores=np.zeros(count, np.float32),
        mask=np.zeros(count, bool),
        depth=np.zeros(count, np.float32),
    )


def network_scene_map(
    network: NetworkMap,
    extractor: FeatureExtractor,
    camera: Camera,
    centres: np.ndarray,
    head_options: dict,
    feature_options: dict,
) -> SceneMap:
    """The network as a map file's content; centres (K, 3) are the keyframes', world, metres."""
    return SceneMap(
        head=network.head_name,
        head_options=head_options,
        variables=network.variables(),
        features=extractor.name,
        feature_options=feature_options,
        feature_checksum=extractor.weights_checksum,
        feature_dim=extractor.dim,
        camera=camera,
        mean=centres.mean(0) if len(centres) else np.zeros(3),
    )


def untrained(
    head: str,
    head_options: dict,
    extractor: FeatureExtractor,
    camera: Camera,
    config: NetworkConfig | None,
    seed: int,
) -> NetworkMap:
    """A network that has seen nothing yet; the arguments are those of `NetworkSlam`."""
    return NetworkMap(
        head,
        create_head(head, **head_options),
        extractor.dim,
        extractor.max_features,
        camera,
        config or NetworkConfig(),
        jax.random.key(seed),
    )


@dataclasses.dataclass
class _Keyframe:
    """A pose that trajectories hang on, its quality lambda, and points to look at."""

    camera_from_world: np.ndarray
    ratio: float
    points: np.ndarray  # (M, 3) camera axes, metres
    colours: np.ndarray  # (M, 3) uint8

    @property
    def centre(self) -> np.ndarray:
        return centre(self.camera_from_world)


class NetworkSlam(SlamSystem):
    """SLAM with a network as its only map.

    Args:
        camera: intrinsics of the frames.
        extractor: features.
        head: "tri_mlp" or "homogeneous_mlp".
        config: constants of the loop (depth, keyframes).
        network: constants of the network.
        seed: of every random draw.
        head_options: sizes of the head; default `HEAD_OPTIONS`.
        feature_options: how `extractor` was made, noted in the map.
    """

    min_ratio = 0.15  # lambda below which a frame counts as lost
    min_ratio_lost = 0.25  # lambda that it takes to be found again

    def __init__(
        self,
        camera: Camera,
        extractor: FeatureExtractor,
        head: str = "tri_mlp",
        config: SlamConfig | None = None,
        network: NetworkConfig | None = None,
        seed: int = 0,
        head_options: dict | None = None,
        feature_options: dict | None = None,
    ):
        self.config = config or SlamConfig()
        super().__init__(camera, extractor, self.config.max_depth)
        self._head_options = dict(head_options or HEAD_OPTIONS[head])
        self._feature_options = dict(feature_options or {})
        self.network = untrained(head, self._head_options, extractor, camera, network, seed)
        self._key = jax.random.key(seed)
        self.keyframes: list[_Keyframe] = []
        self._pose: np.ndarray | None = None
        self._velocity = np.eye(4)
        self._frames_since_keyframe = 0
        self.network.warm_up(blank_features(extractor))

    def _locate(self, frame: Frame, features: Features, clock: StageClock) -> TrackedFrame:
        if not self.keyframes:
            return self._start(frame, features, clock)
        key = jax.random.fold_in(self._key, frame.index)
        prior = self._velocity @ self._pose if self.state is State.TRACKING else None
        _, result, ratio = self.network.locate(features, prior, key)
        found, ratio = bool(result.success), float(ratio)
        clock.lap("tracking")
        needed = self.min_ratio if self.state is State.TRACKING else self.min_ratio_lost
        if not found or ratio < needed or int(result.num_inliers) < self.config.min_inliers:
            self.state = State.LOST
            return TrackedFrame(frame.index, frame.timestamp, None)
        pose = orthonormalized(np.asarray(result.camera_from_world))
        self._velocity = np.eye(4)
        if self.state is State.TRACKING:
            self._velocity = pose @ invert(self._pose)
        self.state = State.TRACKING
        self._frames_since_keyframe += 1
        self._pose = pose
        self.network.hold(features, pose)
        if self._needs_keyframe(pose, ratio):
            self._insert_keyframe(frame, features, pose, ratio)
        self._map(frame.index)
        clock.lap("mapping")
        reference = self._nearest(pose)
        anchor = self.keyframes[reference].camera_from_world
        return TrackedFrame(frame.index, frame.timestamp, pose, reference, pose @ invert(anchor))

    def _start(self, frame: Frame, features: Features, clock: StageClock) -> TrackedFrame:
        if int(np.sum(features.depth > 0)) < 3 * self.config.min_inliers:
            return TrackedFrame(frame.index, frame.timestamp, None)
        pose = np.eye(4)
        self.network.start(features)
        self.network.hold(features, pose)
        self._insert_keyframe(frame, features, pose, 1.0)
        places = self.network.window(self._ratios(), frame.index)
        self.network.train_on(places, self.network.config.first_steps, frame.index)
        clock.lap("mapping")
        self._pose = pose
        self.state = State.TRACKING
        return TrackedFrame(frame.index, frame.timestamp, pose, 0, np.eye(4))

    def _ratios(self) -> np.ndarray:
        return np.array([self.keyframes[k].ratio for k in self.network.keyframe_at])

    def _map(self, frame_index: int) -> None:
        """One round of the alternation: poses of the window (at a keyframe), then the network."""
        network = self.network
        places = network.window(self._ratios(), frame_index)
        if self._frames_since_keyframe == 0:
            self._relocate(places, frame_index)
        network.train_on(places, network.config.steps, frame_index)

    def _relocate(self, places: np.ndarray, frame_index: int) -> None:
        network = self.network
        poses, ratios, success = map(np.asarray, network.relocate(places, frame_index))
        for place, pose, ratio, found in zip(places, poses, ratios, success, strict=True):
            if place == network.config.capacity or network.keyframe_at[place] == 0:
                continue  # the current frame was located just now; the first is the world
            keyframe = self.keyframes[network.keyframe_at[place]]
            keyframe.ratio = float(ratio)
            if found and ratio > self.min_ratio_lost:
                keyframe.camera_from_world = orthonormalized(pose)
                network.camera_from_world[place] = pose

    def _nearest(self, pose: np.ndarray) -> int:
        """The keyframe whose view (position and direction) is closest to a pose."""
        return nearest_view(np.stack([k.camera_from_world for k in self.keyframes]), pose)

    def _needs_keyframe(self, pose: np.ndarray, ratio: float) -> bool:
        config = self.config
        if self._frames_since_keyframe < config.keyframe_min_gap:
            return False
        near = self.keyframes[self._nearest(pose)]
        apart, angle = difference(pose, near.camera_from_world)
        return (
            apart > config.keyframe_translation
            or angle > config.keyframe_rotation
            or ratio < config.keyframe_overlap
        )

    def _insert_keyframe(
        self, frame: Frame, features: Features, pose: np.ndarray, ratio: float
    ) -> None:
        known = features.depth > 0
        uv = features.uv[known]
        points = unproject(uv, features.depth[known], self.camera)
        height, width = frame.rgb.shape[:2]
        column, row = np.clip(np.rint(uv).astype(int), 0, [width - 1, height - 1]).T
        self.network.add(features, pose, len(self.keyframes))
        self.keyframes.append(_Keyframe(pose, ratio, points, frame.rgb[row, column]))
        self._frames_since_keyframe = 0

    def reference_pose(self, number: int) -> np.ndarray:
        """(4, 4) camera_from_world of a keyframe, as corrected so far."""
        return self.keyframes[number].camera_from_world

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """The keyframes' points (M, 3) world, metres, and their colours (M, 3) uint8."""
        landmark_map = [
            (k.points - k.camera_from_world[:3, 3]) @ k.camera_from_world[:3, :3]
            for k in self.keyframes
        ]
        if not landmark_map:
            return np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
        return np.concatenate(landmark_map), np.concatenate([k.colours for k in self.keyframes])

    def scene_map(self) -> SceneMap:
        """The network."""
        centres = np.array([k.centre for k in self.keyframes]).reshape(-1, 3)
        return network_scene_map(
            self.network,
            self.extractor,
            self.camera,
            centres,
            self._head_options,
            self._feature_options,
        )
