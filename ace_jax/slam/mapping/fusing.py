"""Data association of keyframes and landmarks, by guided matching and chi-square tests."""

import jax
import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.reprojection import NoiseModel, inverse_of, residuals_of
from ace_jax.localization.guided_matching import NO_MATCH, guided_match
from ace_jax.localization.landmarks import Landmarks, MatchGates
from ace_jax.programs import program
from ace_jax.slam.config import SlamConfig


@program
def _explained(poses, points, uv, depth, camera, noise, max_chi2) -> jax.Array:
    """(B, N) bool: which points (B, N, 3) agree with what B keyframes saw of them."""

    def one(pose, points, uv, depth):
        residuals = residuals_of(pose, points.T, uv.T, inverse_of(depth), camera, noise)
        return residuals.in_front & (residuals.joint < max_chi2)

    return jax.vmap(one)(poses, points, uv, depth)


def match_into(
    block: Landmarks,
    features: Features,
    poses: np.ndarray,
    camera: Camera,
    gates: MatchGates,
    noise: NoiseModel,
    max_chi2: float = SlamConfig.fuse_chi2,
) -> np.ndarray:
    """Landmarks of one block matched into B keyframes.

    Args:
        block: P landmarks.
        features: of the keyframes, each array with a leading axis B.
        poses: (B, 4, 4) camera_from_world.
        camera: intrinsics.
        gates: of guided matching.
        noise: standard deviations.
        max_chi2: of pixels and inverse depth, in units of their noise.

    Returns:
        (B, N) index into the block, -1 where there is none.
    """
    matches = np.stack(
        [
            guided_match(block, jax.tree.map(lambda x, b=b: x[b], features), pose, camera, gates)
            for b, pose in enumerate(poses)
        ]
    )
    points = block.points[np.maximum(matches, 0)]
    seen = features.uv, features.depth, camera, noise
    explained = np.asarray(_explained(poses, points, *seen, max_chi2))
    return np.where(explained, matches, NO_MATCH)
