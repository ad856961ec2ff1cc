"""Brute-force SIFT: what everybody has, as the peer of landmark attention in posed RGB-D images.

Each feature of the query is matched with every mapping image by itself (ratio of 0.8 and mutual
nearest neighbour), all matches together give the pose (PoseLib, LO-RANSAC and refinement).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import poselib
from pose_problems import mutual_matches

from ace_jax.data.depth_at_features import interpolated_depth
from ace_jax.data.frame import Frame
from ace_jax.features.sift import Sift
from ace_jax.geometry.host_camera import unproject
from ace_jax.geometry.rigid import invert, transform

FEATURES = 2000
RATIO = 0.8
THRESHOLD = 4.0  # pixels of an image 640 wide
_CONFIDENCE = 0.9999
_MAX_SAMPLES = 20_000


@dataclasses.dataclass(frozen=True)
class _Seen:
    uv: np.ndarray
    descriptors: np.ndarray
    xyz: np.ndarray


class BruteForce:
    """A map of images with depth and poses; asked for the poses of others."""

    def __init__(self, mapping: Sequence[Frame]):
        """Takes in the mapping images."""
        self._sift = Sift(image_size=None, max_features=FEATURES)
        self._images = [self._seen(frame) for frame in mapping]

    def _seen(self, frame: Frame) -> _Seen:
        found = self._sift.extract(frame.rgb)
        uv, descriptors = np.asarray(found.uv), np.asarray(found.descriptors)
        depth = interpolated_depth(frame.depth, uv)
        rows = np.flatnonzero(np.asarray(found.mask) & (depth > 0))
        points = unproject(uv[rows], depth[rows], frame.camera)
        return _Seen(uv[rows], descriptors[rows], transform(frame.world_from_camera, points))

    def pose(self, query: Frame) -> np.ndarray | None:
        """world_from_camera (4, 4) of an image; None without a pose."""
        found = self._sift.extract(query.rgb)
        mask = np.asarray(found.mask)
        uv, descriptors = np.asarray(found.uv)[mask], np.asarray(found.descriptors)[mask]
        pairs = [mutual_matches(descriptors, image.descriptors, RATIO) for image in self._images]
        pixels = np.concatenate([uv[mine] for mine, _ in pairs])
        points = np.concatenate(
            [image.xyz[theirs] for image, (_, theirs) in zip(self._images, pairs, strict=True)]
        )
        if len(pixels) < 4:
            return None
        camera = query.camera
        description = {
            "model": "PINHOLE",
            "width": camera.width,
            "height": camera.height,
            "params": [float(x) for x in camera.intrinsics],
        }
        options = {
            "max_reproj_error": THRESHOLD * camera.width / 640.0,
            "success_prob": _CONFIDENCE,
            "max_iterations": _MAX_SAMPLES,
            "seed": 0,
        }
        found_pose, _ = poselib.estimate_absolute_pose(
            pixels.astype(np.float64), points.astype(np.float64), description, options, {}
        )
        return invert(np.concatenate([found_pose.Rt, [[0.0, 0.0, 0.0, 1.0]]]))
