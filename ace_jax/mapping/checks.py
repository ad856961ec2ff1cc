"""Validation images: kept out of mapping, localized in the finished map, and carried along in it.

They measure a map's accuracy as soon as it is made, and whether an update has reduced it.
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ace_jax.evaluation.relocalization import pose_errors, summary
from ace_jax.features.base import FeatureExtractor, Features
from ace_jax.features.selection import by_reliability
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import invert
from ace_jax.localization.relocalizer import Relocalizer
from ace_jax.localization.scene_map import SceneMap
from ace_jax.mapping.images import MappingImage

_MIN_PARTS = 8  # at most one image in so many is kept out: the others still cover the scene
_ARRAYS = ("descriptors", "uv", "mask", "camera_from_world", "camera")


@dataclasses.dataclass(frozen=True)
class Check:
    """The most reliable features of one posed image.

    Attributes:
        descriptors: (N, D) float16.
        uv: (N, 2) float32 pixels.
        mask: (N,) bool.
        camera: intrinsics.
        camera_from_world: (4, 4) float64.
    """

    descriptors: np.ndarray
    uv: np.ndarray
    mask: np.ndarray
    camera: Camera
    camera_from_world: np.ndarray


def hold_out(frames: Sequence[int], count: int) -> tuple[list[int], list[int]]:
    """Frames to map and frames to check with, these evenly spread; none where frames are few."""
    if not count or len(frames) < _MIN_PARTS * count:
        return list(frames), []
    middles = {int((k + 0.5) * len(frames) / count) for k in range(count)}
    mapping = [frame for i, frame in enumerate(frames) if i not in middles]
    return mapping, [frames[i] for i in sorted(middles)]


def checks_of(images: Sequence[MappingImage], features: int) -> list[Check]:
    """Reduces images to so many features each, the most reliable."""
    checks = []
    for image in images:
        rows = np.asarray(by_reliability(image.scores, image.uv, image.mask))[:features]
        checks.append(
            Check(
                descriptors=image.descriptors[rows],
                uv=image.uv[rows],
                mask=image.mask[rows],
                camera=image.camera,
                camera_from_world=image.camera_from_world,
            )
        )
    return checks


def arrays_of(checks: Sequence[Check]) -> dict[str, np.ndarray]:
    """The checks as a map's `extra` arrays."""
    if not checks:
        return {}
    cameras = [
        [float(x) for x in (*c.camera.intrinsics, c.camera.width, c.camera.height)] for c in checks
    ]
    rows = max(len(check.uv) for check in checks)
    columns = {
        name: np.stack([_padded(getattr(check, name), rows) for check in checks])
        for name in ("descriptors", "uv", "mask")
    }
    columns["camera_from_world"] = np.stack([check.camera_from_world for check in checks])
    columns["camera"] = np.array(cameras)
    return {f"check_{name}": array for name, array in columns.items()}


def _padded(array: np.ndarray, rows: int) -> np.ndarray:
    """Zeros (False) below, up to so many rows."""
    return np.pad(array, [(0, rows - len(array)), *[(0, 0)] * (array.ndim - 1)])


def carried_by(scene_map: SceneMap) -> list[Check]:
    """The checks that a map carries."""
    found = [scene_map.extra.get(f"check_{name}") for name in _ARRAYS]
    if any(array is None for array in found):
        return []
    return [
        Check(
            descriptors=descriptors.astype(np.float16),
            uv=uv,
            mask=mask.astype(bool),
            camera=Camera(*(float(x) for x in camera[:4]), int(camera[4]), int(camera[5])),
            camera_from_world=pose.astype(np.float64),
        )
        for descriptors, uv, mask, pose, camera in zip(*found, strict=True)
    ]


def thinned(checks: Sequence[Check], count: int) -> list[Check]:
    """At most so many, evenly spread."""
    if len(checks) <= count:
        return list(checks)
    return [checks[i] for i in np.linspace(0, len(checks) - 1, count).round().astype(int)]


def features_of(check: Check) -> Features:
    """The check's features, to be located."""
    count = len(check.uv)
    return Features(
        uv=jnp.asarray(check.uv),
        descriptors=jnp.asarray(check.descriptors, jnp.float32),
        scores=jnp.zeros(count),
        mask=jnp.asarray(check.mask),
        depth=jnp.zeros(count),
    )


def judge(
    scene_map: SceneMap,
    extractor: FeatureExtractor,
    checks: Sequence[Check],
    weights_dir: str | None = None,
) -> dict[str, float] | None:
    """How a map answers checks: the figures of `evaluation.relocalization.summary`."""
    if not checks:
        return None
    relocalizer = Relocalizer.of(scene_map, weights_dir, extractor)
    found: list[np.ndarray | None] = []
    for check in checks:
        answer = relocalizer.locate(features_of(check), check.camera)
        found.append(answer.world_from_camera if answer.success else None)
    truth = np.stack([invert(check.camera_from_world) for check in checks])
    return summary(pose_errors(found, truth), sum(pose is not None for pose in found))
