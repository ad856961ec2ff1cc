"""Pose without a motion prior: landmark attention gives scene coordinates, RANSAC the pose."""

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.absolute_pose import estimate_absolute_pose
from ace_jax.geometry.camera import Camera, unproject
from ace_jax.geometry.pose_result import PoseResult
from ace_jax.geometry.ransac_kabsch import rigid_motion
from ace_jax.models.landmark_attention import EMPTY, attend
from ace_jax.programs import program
from ace_jax.slam.config import SlamConfig


@program(static_argnames="config")
def _correspondences(
    descriptors: jax.Array,
    points: jax.Array,
    valid: jax.Array,
    features: Features,
    camera: Camera,
    tau: float,
    config: SlamConfig,
) -> tuple[jax.Array, ...]:
    """Scene coordinates of N features by landmark attention, and what RANSAC asks beside.

    Returns:
        (N, 3) world, (N, 3) in the camera's axes, both metres; (N,) the features with a certain
        coordinate, (N,) those of them with depth, and (N,) largest distances of inliers, metres.
    """
    bias = jnp.where(valid, 0.0, EMPTY)
    predicted = attend(features.descriptors, descriptors, points, tau, bias=bias)
    certain = features.mask & (predicted.scale < config.max_spread)
    # Depth noise grows with the square of the distance, and so does the inlier threshold.
    least, growth = config.kabsch_threshold
    threshold = least + growth * features.depth**2
    observed = unproject(features.uv, features.depth, camera)
    return predicted.xyz, observed, certain, certain & (features.depth > 0), threshold


@program(static_argnames="config")
def _pose_of_pixels(
    uv: jax.Array,
    xyz: jax.Array,
    mask: jax.Array,
    camera: Camera,
    seed: np.uint32,
    draw: np.int32,
    config: SlamConfig,
) -> PoseResult:
    return estimate_absolute_pose(
        uv,
        xyz,
        camera,
        jax.random.fold_in(jax.random.key(seed), draw),
        mask=mask,
        threshold=config.pnp_threshold * camera.pixel_scale,
        max_hypotheses=2 * config.hypotheses,
    )


def relocalize(
    descriptors: jax.Array,
    points: jax.Array,
    valid: jax.Array,
    features: Features,
    camera: Camera,
    seed: np.uint32,
    draw: np.int32,
    tau: float,
    config: SlamConfig,
    colour_only: bool = False,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Pose without any prior: landmark attention, then RANSAC-Kabsch.

    Args:
        descriptors: (M, D) one appearance for each landmark.
        points: (M, 3) world, metres.
        valid: (M,) bool.
        features: N features with depth.
        camera: intrinsics.
        seed: of RANSAC,
        draw: and the number of this draw.
        tau: inverse temperature of the attention.
        config: constants of relocalization.
        colour_only: RANSAC-PnP on pixels instead, for features without depth.

    Returns:
        (4, 4) camera_from_world, number of inliers, success.
    """
    xyz, observed, certain, with_depth, threshold = _correspondences(
        descriptors, points, valid, features, camera, tau, config
    )
    if colour_only:
        found = _pose_of_pixels(features.uv, xyz, certain, camera, seed, draw, config)
    else:
        found = rigid_motion(xyz, observed, with_depth, threshold, seed, draw, config.hypotheses)
    return found.camera_from_world, found.num_inliers, found.success
