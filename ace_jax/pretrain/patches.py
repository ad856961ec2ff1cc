"""Training patches of a scene: features with ground-truth coordinates, cached on disk.

A patch is what the extractor describes: the surroundings of a keypoint at its sub-pixel position,
or a cell of a dense encoder. The first P that have depth are taken, in the order in which
relocalization takes them, too (`features.selection`): the strongest keypoints, cells that are all
equal from all over the image.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import flax.struct
import numpy as np
from absl import logging

from ace_jax.data.depth_at_features import interpolated_depth
from ace_jax.data.frame import Frame
from ace_jax.errors import UserError
from ace_jax.features.base import FeatureExtractor
from ace_jax.features.selection import by_reliability
from ace_jax.geometry.host_camera import unproject
from ace_jax.geometry.rigid import invert, transform
from ace_jax.pretrain.scenes import SceneSource, Views, identity_of
from ace_jax.weights import safetensors_io

VERSION = 2  # part of the cache's key
THUMBNAIL = (80, 60)  # width, height
_TURN_METRES = 1.0  # a radian between two viewing directions counts like so many metres


@flax.struct.dataclass
class ScenePatches:
    """I images of one scene with P patches each; a leading axis of scenes where stacked.

    Images are in the order of `scenes.ROLES`. The origin is the mean mapping camera centre.

    Attributes:
        features: (I, P, D) float16.
        uv: (I, P, 2) float32 pixels.
        xyz: (I, P, 3) float32 true coordinates, metres.
        mask: (I, P) bool, False for padding.
        camera_from_world: (I, 4, 4) float32.
        intrinsics: (I, 4) float32 fx, fy, cx, cy in pixels.
        nearness: (I, J) int32: the rank of each of the J mapping images by the distance of its
            viewpoint; 0 is the nearest (the image itself, if it is a mapping image).
    """

    features: Any
    uv: Any
    xyz: Any
    mask: Any
    camera_from_world: Any
    intrinsics: Any
    nearness: Any


class PatchCache:
    """Scenes' patches, by source and number; rendered or read only the first time."""

    def __init__(
        self,
        extractor: FeatureExtractor,
        options: Mapping[str, Any],
        views: Views,
        per_image: int,
        folder: Path | str,
    ):
        """Opens the cache.

        Args:
            extractor: gives the features.
            options: with which it was created.
            views: images of a scene.
            per_image: P.
            folder: of the cache; created when it is first written to.
        """
        self.dim, self._extractor, self._options = extractor.dim, extractor, dict(options)
        self.views, self.per_image = views, per_image
        self._folder = Path(folder)

    def load(self, source: SceneSource, number: int) -> ScenePatches:
        """The patches of a scene.

        Raises:
            UserError: the source cannot give the images, or the cache cannot be written.
        """
        path = self._path(source, number)
        if path.is_file():
            try:
                return _from_arrays(safetensors_io.read(path)[0])
            except (UserError, KeyError):
                logging.warning("%s is damaged; the scene is made again", path)
        return self._make(source, number, path)

    def thumbnails(self, source: SceneSource, number: int) -> np.ndarray:
        """Small images (I, 60, 80, 3) uint8 of a scene, for people."""
        self.load(source, number)
        return safetensors_io.read(self._path(source, number))[0]["thumbnails"]

    def _path(self, source: SceneSource, number: int) -> Path:
        key = identity_of(
            version=VERSION,
            encoder=[self._extractor.name, self._extractor.weights_checksum, self._options],
            views=[self.views.mapping, self.views.held_out, self.views.query],
            patches=self.per_image,
            source=source.identity,
        )
        seed = source.seed(number) if hasattr(source, "seed") else number
        return self._folder / key / f"{source.name}-{seed}.safetensors"

    def _make(self, source: SceneSource, number: int, path: Path) -> ScenePatches:
        frames = source.images(number, self.views)
        arrays = arrays_of(frames, self.views, self._extractor, self.per_image)
        safetensors_io.write(path, arrays, {"source": source.name, "number": str(number)})
        return _from_arrays(arrays)


def _from_arrays(arrays: dict[str, np.ndarray]) -> ScenePatches:
    return ScenePatches(**{name: arrays[name] for name in ScenePatches.__dataclass_fields__})


def patches_of(
    frames: list[Frame], views: Views, extractor: FeatureExtractor, per_image: int
) -> ScenePatches:
    """The patches of posed RGB-D frames, in the order of `scenes.ROLES`; nothing is kept."""
    return _from_arrays(arrays_of(frames, views, extractor, per_image))


def arrays_of(
    frames: list[Frame], views: Views, extractor: FeatureExtractor, per_image: int
) -> dict[str, np.ndarray]:
    """The fields of `ScenePatches` by name, and thumbnails (I, 60, 80, 3)."""
    poses = np.stack([frame.world_from_camera for frame in frames])
    origin = poses[: views.mapping, :3, 3].mean(axis=0)
    poses[:, :3, 3] -= origin
    count, dim = len(frames), extractor.dim
    arrays: dict[str, np.ndarray] = {
        "features": np.zeros((count, per_image, dim), np.float16),
        "uv": np.zeros((count, per_image, 2), np.float32),
        "xyz": np.zeros((count, per_image, 3), np.float32),
        "mask": np.zeros((count, per_image), bool),
        "camera_from_world": invert(poses).astype(np.float32),
        "intrinsics": np.zeros((count, 4), np.float32),
        "nearness": viewpoint_ranks(poses, views.mapping),
        "thumbnails": np.zeros((count, THUMBNAIL[1], THUMBNAIL[0], 3), np.uint8),
    }
    for i, frame in enumerate(frames):
        found = extractor.extract(frame.rgb)
        uv, descriptors = np.asarray(found.uv), np.asarray(found.descriptors)
        depth = interpolated_depth(frame.depth, uv)
        usable = np.asarray(found.mask) & (depth > 0)
        order = np.asarray(by_reliability(found.scores, found.uv, usable))
        rows = order[: min(int(usable.sum()), per_image)]
        camera, pose = frame.camera, poses[i]
        n = len(rows)
        arrays["features"][i, :n] = descriptors[rows]
        arrays["uv"][i, :n] = uv[rows]
        arrays["xyz"][i, :n] = transform(pose, unproject(uv[rows], depth[rows], camera))
        arrays["mask"][i, :n] = True
        arrays["intrinsics"][i] = camera.intrinsics
        arrays["thumbnails"][i] = cv2.resize(frame.rgb, THUMBNAIL, interpolation=cv2.INTER_AREA)
    return arrays


def in_widths(uv: Any, intrinsics: Any) -> Any:
    """Pixels (..., 2) over the image's width, which the principal point near its middle tells."""
    return uv / (2.0 * intrinsics[..., None, 2:3] + 1.0)


def viewpoint_ranks(world_from_camera: np.ndarray, mapping: int) -> np.ndarray:
    """Ranks (I, J) of the first J = `mapping` images by their viewpoints' distance from each image.

    Args:
        world_from_camera: (I, 4, 4).
        mapping: J.
    """
    centres, forward = world_from_camera[:, :3, 3], world_from_camera[:, :3, 2]
    apart = np.linalg.norm(centres[:, None] - centres[None, :mapping], axis=-1)
    turn = np.arccos(np.clip(forward @ forward[:mapping].T, -1.0, 1.0))
    order = np.argsort(apart + _TURN_METRES * turn, axis=1, kind="stable")
    return np.argsort(order, axis=1, kind="stable").astype(np.int32)
