"""Pose from guided matching: landmarks around a prediction, then motion-only optimisation."""

import dataclasses

import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry import rigid
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import project
from ace_jax.geometry.pose_refinement import refine_pose_with_gating
from ace_jax.geometry.reprojection import CHI2_PIXEL, NoiseModel
from ace_jax.geometry.rigid_motions import MOST_MOTIONS, most_common_motion, surface
from ace_jax.localization.guided_matching import NO_MATCH, guided_match
from ace_jax.localization.landmarks import Landmarks, MatchGates
from ace_jax.programs import program
from ace_jax.slam.config import MovingConfig


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


_refine_pose = program(refine_pose_with_gating)


def match_and_optimize(
    block: Landmarks,
    features: Features,
    camera_from_world: np.ndarray,
    camera: Camera,
    gates: MatchGates,
    noise: NoiseModel,
    well_observed: np.ndarray | None = None,
    moving: MovingConfig = MovingConfig(),  # noqa: B008 - frozen
    several_motions: bool = False,
) -> GuidedPose:
    """Guided matching from a predicted pose, then motion-only optimisation.

    Matches may follow several motions, of people who walk through the picture. A second pose is
    fitted to the outliers of the first, and the pose that explains the larger surface in square
    metres is the camera's: the static scene is larger than the people in front of it.

    Args:
        block: P landmarks.
        features: N features.
        camera_from_world: (4, 4) predicted pose.
        camera: intrinsics.
        gates: what a match must satisfy.
        noise: standard deviations.
        well_observed: (P,) bool, landmarks that several keyframes observe; None: not used.
        moving: constants. If enough well-observed landmarks are matched, they alone determine the
            pose where the others would drag it away: new landmarks may lie on a walking person.
        several_motions: whether other motions than the first pose's are looked for.
    """
    matches = guided_match(block, features, camera_from_world, camera, gates)
    found = matches >= 0
    points = block.points[np.maximum(matches, 0)]
    start = np.asarray(camera_from_world, np.float32)

    def explained_by(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return optimized(start, points, features, found, votes, camera, noise)

    def area(pose: np.ndarray, of: np.ndarray) -> float:
        return surface(points[of], features.uv[of], pose, camera)

    def cost(pose: np.ndarray, of: np.ndarray) -> float:
        squared = np.square(pixel_errors(points[of], features.uv[of], pose, camera))
        return float(np.sum(np.minimum(squared, CHI2_PIXEL * noise.pixel_sigma**2)))

    pose, inliers = explained_by(found)
    left, rivals = found & ~inliers, max(moving.min_rivals, moving.min_rival_share * found.sum())
    for _ in range(MOST_MOTIONS if several_motions else 0):
        if left.sum() < rivals:
            break
        others = [explained_by(left)]
        motion = most_common_motion(points, features.uv, features.depth, left, camera)
        if motion is not None:
            others.append(optimized(motion[0], points, features, found, motion[1], camera, noise))
        rival, agreeing = max(others, key=lambda other: area(*other))
        if area(rival, agreeing) > area(pose, inliers):
            pose, inliers = rival, agreeing
        left &= ~agreeing
    votes = found if well_observed is None else found & well_observed[np.maximum(matches, 0)]
    if moving.min_well_observed <= votes.sum() < found.sum():
        alone, agreeing = explained_by(votes)
        if cost(pose, votes) > moving.max_drag * cost(alone, votes):
            pose, inliers = alone, agreeing
    return GuidedPose(
        camera_from_world=pose,
        matches=np.where(inliers, matches, NO_MATCH),
        num_matches=int(found.sum()),
        num_inliers=int(inliers.sum()),
    )


def optimized(
    start: np.ndarray,
    points: np.ndarray,
    features: Features,
    found: np.ndarray,
    votes: np.ndarray,
    camera: Camera,
    noise: NoiseModel,
) -> tuple[np.ndarray, np.ndarray]:
    """Pose (4, 4) that N features have among their landmarks, and which agree with it (N,).

    Args:
        start: (4, 4) camera_from_world.
        points: (N, 3) landmark of each feature, world, metres.
        features: N features.
        found: (N,) bool, those that have a landmark,
        votes: (N,) bool, and those of them that may move the pose.
        camera: intrinsics.
        noise: standard deviations.
    """
    observed = points, features.uv, features.depth, found
    return tuple(map(np.asarray, _refine_pose(start, *observed, camera, noise, votes)))


def pixel_errors(
    points: np.ndarray, uv: np.ndarray, camera_from_world: np.ndarray, camera: Camera
) -> np.ndarray:
    """(N,) distances of features (N, 2) from the projections of points (N, 3), pixels."""
    expected = project(rigid.transform(camera_from_world, points), camera)
    return np.hypot(*(expected - uv).T)
