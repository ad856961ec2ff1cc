"""Geometric verification of loop candidates."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import unproject
from ace_jax.geometry.pose_result import PoseResult
from ace_jax.geometry.ransac_kabsch import depth_threshold, rigid_motion
from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.localization.guided_matching import neighbours
from ace_jax.localization.landmarks import Landmarks, MatchGates, visible
from ace_jax.models.landmark_attention import EMPTY, nearest
from ace_jax.programs import program
from ace_jax.slam.config import LoopConfig
from ace_jax.slam.tracking.guided_pose import match_and_optimize


@dataclasses.dataclass
class Examination:
    """What a keyframe shows of a block of P landmarks, seen from its best pose.

    Attributes:
        camera_from_world: (4, 4).
        matches: (N,) landmark of each feature, -1 where there is none.
        expected: (C,) landmarks that should be in view, by cell of the image.
        found: (C,) those of them that were matched.
        agreeing: landmarks with a depth beside them that fits.
        contradicted: landmarks with depths beside them of which none fits.
    """

    camera_from_world: np.ndarray
    matches: np.ndarray
    expected: np.ndarray
    found: np.ndarray
    agreeing: int
    contradicted: int

    @property
    def inliers(self) -> int:
        """Matched landmarks."""
        return int(np.sum(self.matches >= 0))

    def is_contradicted(self, limit: float) -> bool:
        """Whether more than a share of the landmarks with a depth beside them has another one."""
        return self.contradicted > limit * (self.agreeing + self.contradicted)


@program
def match_mutually(
    queries: jax.Array,
    query_mask: jax.Array,
    keys: jax.Array,
    key_mask: jax.Array,
    min_cosine: float,
) -> jax.Array:
    """(N,) index of the key that is a query's best and vice versa, -1 where there is none."""
    index, similarity = nearest(queries, keys, jnp.where(key_mask, 0.0, EMPTY))
    back, _ = nearest(keys, queries, jnp.where(query_mask, 0.0, EMPTY))
    mutual = back[index] == jnp.arange(queries.shape[0])
    return jnp.where(query_mask & mutual & (similarity > min_cosine), index, -1)


def align(
    block: Landmarks,
    features: Features,
    camera: Camera,
    noise: NoiseModel,
    min_cosine: float,
    seed: np.uint32,
    number: np.int32,
    config: LoopConfig,
) -> PoseResult:
    """Pose of features among landmarks without a prior: mutual matches, then RANSAC-Kabsch."""
    _, appearances, dim = block.descriptors.shape
    match = np.asarray(
        match_mutually(
            features.descriptors,
            features.mask & (features.depth > 0),
            block.descriptors.reshape(-1, dim),
            np.repeat(block.mask, appearances),
            min_cosine,
        )
    )
    limit = depth_threshold(features.depth, noise.inverse_depth_sigma, floor=config.align_floor)
    return rigid_motion(
        block.points[np.maximum(match, 0) // appearances],
        unproject(features.uv, features.depth, camera).astype(np.float32),
        match >= 0,
        limit.astype(np.float32),
        seed,
        number,
        config.hypotheses,
    )


def examine(
    block: Landmarks,
    features: Features,
    camera_from_world: np.ndarray,
    camera: Camera,
    gates: MatchGates,
    radii: np.ndarray,
    noise: NoiseModel,
    near_radius: float,
    config: LoopConfig,
) -> Examination:
    """Guided matching from a predicted pose, and the evidence for and against the candidate."""
    pose = np.asarray(camera_from_world, np.float32)
    for radius in radii:
        step = match_and_optimize(
            block, features, pose, camera, gates.replace(radius=radius), noise
        )
        pose = step.camera_from_world
    matches = step.matches
    found = np.zeros(len(block.mask), bool)
    found[matches[matches >= 0]] = True

    columns, rows = config.cells
    uv, seen = visible(block, pose, camera, gates)
    column = np.clip(uv[:, 0] / camera.width * columns, 0, columns - 1).astype(int)
    row = np.clip(uv[:, 1] / camera.height * rows, 0, rows - 1).astype(int)
    cell, cells = row * columns + column, columns * rows

    inverse_z = 1.0 / np.maximum(block.points @ pose[2, :3] + pose[2, 3], 1e-3)
    measured = features.mask & (features.depth > 0)
    landmark, feature = neighbours(uv, seen, features.uv, measured, near_radius)
    sigmas = np.abs(1.0 / features.depth[feature] - inverse_z[landmark]) / noise.inverse_depth_sigma
    agrees, differs = found.copy(), np.zeros(len(found), bool)
    agrees[landmark[sigmas < config.agreeing_sigmas]] = True
    differs[landmark[sigmas > config.differing_sigmas]] = True
    return Examination(
        camera_from_world=pose,
        matches=matches,
        expected=np.bincount(cell[seen], minlength=cells),
        found=np.bincount(cell[seen & found], minlength=cells),
        agreeing=int(agrees.sum()),
        contradicted=int((differs & ~agrees).sum()),
    )


def support(seen: Examination) -> float:
    """Share of the expected landmarks that were found."""
    return float(seen.found.sum()) / max(float(seen.expected.sum()), 1.0)


def holes(seen: Examination, config: LoopConfig) -> float:
    """Share of the cells with enough expected landmarks whose support is far below the image's.

    Chance thins matches out everywhere; another object empties a region.
    """
    counted = seen.expected >= config.hole_landmarks
    empty = seen.found < config.hole_share * support(seen) * seen.expected
    return float(np.sum(counted & empty)) / max(float(np.sum(counted)), 1.0)
