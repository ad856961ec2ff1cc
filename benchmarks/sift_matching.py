"""SIFT matched against every mapping image, and PoseLib: the strongest simple peer.

2048 RootSIFT features of the query at full resolution against those of every mapping image, one by
one (ratio 0.8, mutual), points from the depth camera or triangulated over all pairs of images,
PoseLib's LO-RANSAC (5 px, Cauchy loss of 1.25 px).
"""

import time
from collections.abc import Sequence

import numpy as np
import poselib
from pose_problems import mutual_matches

from ace_jax.data.depth_at_features import sample_depth
from ace_jax.data.frame import Frame
from ace_jax.features.sift import Sift
from ace_jax.geometry.host_camera import project, rays, unproject_to_world
from ace_jax.geometry.rigid import invert, transform

FEATURES = 2048
RATIO = 0.8
THRESHOLD = 5.0  # pixels


class SiftMatching:
    """A map of posed images; asked for the poses of others.

    Attributes:
        bytes: of the map: one a number of the descriptor, as SIFT is stored, and three floats.
    """

    def __init__(self, mapping: Sequence[Frame]) -> None:
        """Takes in the mapping images, which have depth, all or none."""
        self._sift = Sift(image_size=None, max_features=FEATURES)
        found = [self._features(frame) for frame in mapping]
        if mapping[0].depth is None:
            points = triangulated(mapping, found)
        else:
            points = []
            for frame, (uv, _) in zip(mapping, found, strict=True):
                depth = sample_depth(frame.depth, uv)
                camera_from_world = invert(frame.world_from_camera)
                world = unproject_to_world(uv, depth, frame.camera, camera_from_world)
                points.append((world, depth > 0))
        self._images = [
            (descriptors[known], world[known])
            for (_, descriptors), (world, known) in zip(found, points, strict=True)
        ]
        self.bytes = sum(len(d) * (d.shape[1] + 12) for d, _ in self._images)

    def _features(self, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        features = self._sift.extract(frame.rgb)
        mask = np.asarray(features.mask)
        return np.asarray(features.uv)[mask], np.asarray(features.descriptors)[mask]

    def __call__(self, query: Frame) -> tuple[np.ndarray | None, dict[str, float], int]:
        """world_from_camera (4, 4) or None, milliseconds of each stage, inliers."""
        start = time.perf_counter()
        uv, descriptors = self._features(query)
        extracted = time.perf_counter()
        pairs = [mutual_matches(descriptors, theirs, RATIO) for theirs, _ in self._images]
        pixels = np.concatenate([uv[mine] for mine, _ in pairs])
        points = np.concatenate(
            [world[its] for (_, world), (_, its) in zip(self._images, pairs, strict=True)]
        )
        matched = time.perf_counter()
        pose, inliers = None, 0
        if len(pixels) >= 5:
            c = query.camera
            pinhole = {
                "model": "PINHOLE",
                "width": c.width,
                "height": c.height,
                "params": [float(x) for x in c.intrinsics],
            }
            found, info = poselib.estimate_absolute_pose(
                pixels.astype(np.float64),
                points.astype(np.float64),
                pinhole,
                {"max_reproj_error": THRESHOLD, "min_iterations": 1000},
                {"loss_type": "CAUCHY", "loss_scale": 1.25},
            )
            inliers = int(np.sum(info["inliers"]))
            if inliers >= 5:
                pose = invert(np.concatenate([found.Rt, [[0.0, 0.0, 0.0, 1.0]]]))
        laps = 1e3 * np.diff([start, extracted, matched, time.perf_counter()])
        return pose, dict(zip(("features", "head", "solver"), laps, strict=True)), inliers


def triangulated(
    frames: Sequence[Frame], found: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """World points (N, 3) of each image's features by matching all pairs, and which are known.

    The point nearest to all rays; a view that is more than 4 pixels off leaves, three times over.
    """
    count, poses = len(frames), [invert(f.world_from_camera) for f in frames]
    seen = [np.full((len(uv), count), -1) for uv, _ in found]
    for i in range(count):
        for j in range(i):
            mine, its = mutual_matches(found[i][1], found[j][1], RATIO)
            seen[i][mine, j], seen[j][its, i] = its, mine
    result = []
    for i in range(count):
        seen[i][:, i] = np.arange(len(seen[i]))
        rows, pixels = seen[i], np.zeros((len(seen[i]), count, 2))
        directions, centres = np.zeros((len(rows), count, 3)), np.zeros((count, 3))
        for j, frame in enumerate(frames):
            pixels[:, j] = found[j][0][rows[:, j]]
            ray = rays(pixels[:, j], frame.camera) @ frame.world_from_camera[:3, :3].T
            directions[:, j] = ray / np.linalg.norm(ray, axis=1, keepdims=True)
            centres[j] = frame.world_from_camera[:3, 3]
        used = rows >= 0
        for _ in range(3):
            across = np.eye(3) - directions[..., :, None] * directions[..., None, :]
            across = across * used[..., None, None]
            normal = across.sum(axis=1) + 1e-9 * np.eye(3)
            right = np.einsum("njab,jb->na", across, centres)
            points = np.linalg.solve(normal, right[..., None])[..., 0]
            for j, frame in enumerate(frames):
                inside = transform(poses[j], points)
                error = np.linalg.norm(project(inside, frame.camera) - pixels[:, j], axis=1)
                good = (error < 4.0 * float(frame.camera.pixel_scale)) & (inside[:, 2] > 0)
                used[:, j] &= good
        cosine = np.einsum("njc,nc->nj", directions, directions[:, i])
        parallax = np.where(used, cosine, 1.0).min(axis=1) < np.cos(np.deg2rad(1.5))
        result.append((points, used[:, i] & (used.sum(axis=1) >= 2) & parallax))
    return result
