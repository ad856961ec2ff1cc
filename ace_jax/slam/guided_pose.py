"""Pose from guided matching: landmarks around a prediction, then motion-only optimisation."""

import dataclasses

import jax
import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.camera import MIN_DEPTH, Camera
from ace_jax.slam.matching import NO_MATCH, LandmarkBlock, MatchGates, guided_match
from ace_jax.slam.pose_optimization import CHI2_PIXEL, NoiseModel, optimize_pose


@dataclasses.dataclass
class GuidedPose:
    """Pose of a camera among known landmarks, from N features.

    Attributes:
        camera_from_world: (4, 4) float32.
        matches: (N,) index into the landmark block, -1 where there is none or it is an outlier.
        num_matches: before outliers were removed.
        num_inliers: after that.
    """

    camera_from_world: np.ndarray
    matches: np.ndarray
    num_matches: int
    num_inliers: int


DRAGGED = 1.3  # times the cost of proven landmarks that others may add before they are ignored

_optimize_pose = jax.jit(optimize_pose)


def match_and_optimize(
    block: LandmarkBlock,
    features: Features,
    camera_from_world: np.ndarray,
    camera: Camera,
    gates: MatchGates,
    noise: NoiseModel,
    proven: np.ndarray | None = None,
    min_proven: int = 0,
) -> GuidedPose:
    """Guided matching from a predicted pose, then motion-only optimisation.

    Args:
        block: P landmarks.
        features: N features.
        camera_from_world: (4, 4) predicted pose.
        camera: intrinsics.
        gates: what a match must satisfy.
        noise: standard deviations.
        proven: (P,) bool, landmarks that several keyframes have seen in one place; None: all are
            alike.
        min_proven: if so many of them are matched and the others drag the pose away from them,
            they alone move it: what is new may belong to someone who walks.
    """
    matches = guided_match(block, features, camera_from_world, camera, gates)
    found = matches >= 0
    points = block.points[np.maximum(matches, 0)]
    start = np.asarray(camera_from_world, np.float32)

    def optimized(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pose, and which matches agree with it."""
        observed = points, features.uv, features.depth, found
        return tuple(map(np.asarray, _optimize_pose(start, *observed, camera, noise, votes)))

    def cost(pose: np.ndarray, of: np.ndarray) -> float:
        squared = np.square(pixel_errors(points[of], features.uv[of], pose, camera))
        return float(np.sum(np.minimum(squared, CHI2_PIXEL * noise.pixel_sigma**2)))

    pose, inliers = optimized(found)
    votes = found if proven is None else found & proven[np.maximum(matches, 0)]
    if min_proven <= votes.sum() < found.sum():
        alone, agreeing = optimized(votes)
        if cost(pose, votes) > DRAGGED * cost(alone, votes):
            pose, inliers = alone, agreeing
    return GuidedPose(
        camera_from_world=pose,
        matches=np.where(inliers, matches, NO_MATCH),
        num_matches=int(found.sum()),
        num_inliers=int(inliers.sum()),
    )


def pixel_errors(
    points: np.ndarray, uv: np.ndarray, camera_from_world: np.ndarray, camera: Camera
) -> np.ndarray:
    """(N,) distances of features (N, 2) from the projections of points (N, 3), pixels."""
    x, y, z = camera_from_world[:3, :3] @ points.T + camera_from_world[:3, 3:]
    z = np.maximum(z, MIN_DEPTH)
    return np.hypot(
        camera.fx * x / z + camera.cx - uv[:, 0], camera.fy * y / z + camera.cy - uv[:, 1]
    )
