"""Robust camera pose from 2D-3D correspondences: RANSAC over P3P, then refinement.

Hypotheses come in chunks under `lax.while_loop`, so that easy problems stop after the first and
hard ones get thousands. A chunk is scored on a small random subset of the points (preemption:
Nister, "Preemptive RANSAC for live structure and motion estimation", ICCV 2003) by the MSAC score
(Torr and Zisserman, CVIU 2000); a new best one is refined on all points (local optimisation: Chum
et al., "Locally optimized RANSAC", DAGM 2003), so that nothing is left to do at the end.
"""

import jax
import jax.numpy as jnp

from ace_jax.geometry import ransac, robust_loss, se3
from ace_jax.geometry import small_linalg as la
from ace_jax.geometry.camera import MIN_DEPTH, Camera
from ace_jax.geometry.p3p import p3p_components
from ace_jax.geometry.pose_refinement import (
    Observations,
    covariance_from_information,
    refine_pose,
)
from ace_jax.geometry.pose_result import PoseResult

MIN_INLIERS = 5
_CHUNK = 128  # minimal samples a chunk, each with up to four poses
_SUBSET = 256  # points that score a chunk's hypotheses
_REFINEMENT_STEPS = 8
# Tukey's loss ends at this many thresholds. With a threshold of 2 to 4 sigmas it keeps 91 to 99 %
# of the efficiency of least squares, where cutting at the threshold keeps 74 to 99 %.
_LOSS_SCALE = 2.0


def estimate_absolute_pose(
    points_2d: jax.Array,
    points_3d: jax.Array,
    camera: Camera,
    key: jax.Array,
    mask: jax.Array | None = None,
    weights: jax.Array | None = None,
    initial_pose: jax.Array | None = None,
    depth: jax.Array | None = None,
    threshold: float | jax.Array = 4.0,
    inverse_depth_sigma: float | jax.Array = 0.0375,
    confidence: float | jax.Array = 0.9999,
    max_hypotheses: int | jax.Array = 10_000,
) -> PoseResult:
    """The camera pose that most 2D-3D correspondences agree with.

    Args:
        points_2d: (N, 2) pixels of an ideal pinhole camera (`distortion.undistort` first).
        points_3d: (N, 3) points in the world, metres.
        camera: intrinsics.
        key: PRNG key; the same key gives the same result.
        mask: (N,) bool, False for padding. Non-finite points are masked in any case.
        weights: (N,) relative confidence (inverse variance up to scale): guides the sampling and
            weighs the refinement. Default 1.
        initial_pose: (4, 4) camera_from_world tried as one more hypothesis, or None.
        depth: (N,) z-depth in metres of the pixels, 0 or not finite where unknown: takes part in
            the refinement. Or None.
        threshold: largest reprojection error of an inlier, pixels; about three sigmas.
        inverse_depth_sigma: standard deviation of 1 / depth, 1/m.
        confidence: probability of having drawn an outlier-free sample, at which to stop.
        max_hypotheses: minimal samples at most.

    Returns:
        `PoseResult`.
    """
    (points_2d, points_3d), valid, least_squares_weights = ransac.valid_points(
        (points_2d, points_3d), mask, weights
    )
    pixels, points = points_2d.T, points_3d.T
    x = (pixels[0] - camera.cx) / camera.fx
    y = (pixels[1] - camera.cy) / camera.fy
    norm = jax.lax.rsqrt(1.0 + x * x + y * y)
    table = jnp.stack([x * norm, y * norm, norm, *points])
    inverse_depth = None
    if depth is not None:
        known = jnp.isfinite(depth) & (depth > 0.0)
        inverse_depth = jnp.where(known, 1.0 / jnp.where(known, depth, 1.0), 0.0)
    observations = Observations(points, pixels, least_squares_weights, inverse_depth)
    sampler = ransac.make_sampler(key, valid, None if weights is None else least_squares_weights)
    if valid.shape[0] > _SUBSET:
        indices, subset_valid = ransac.draw_subset(sampler, _SUBSET)
        subset = jax.tree.map(lambda a: a[..., indices], observations)
        subset = subset.replace(weights=jnp.where(subset_valid, subset.weights, 0.0))
    else:
        subset, subset_valid = observations, valid
    subset_count = jnp.maximum(jnp.sum(subset_valid), 1)

    def score(rows: la.Matrix) -> jax.Array:
        return _msac_score(rows, subset, subset_valid, camera, threshold)

    def refine(pose: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        refined = refine_pose(
            pose,
            observations,
            camera,
            pixel_sigma=threshold,
            inverse_depth_sigma=3.0 * inverse_depth_sigma,
            loss=robust_loss.tukey,
            loss_scale=_LOSS_SCALE,
            num_steps=_REFINEMENT_STEPS,
        )
        found = score(la.unstack_matrix(refined.camera_from_world[:3]))
        return (
            refined.camera_from_world,
            refined.information,
            jnp.where(refined.success, found, 0.0),
        )

    def draw_chunk(state: tuple) -> tuple:
        chunk, best = state
        indices, distinct = ransac.draw_minimal_sets(sampler, chunk, _CHUNK, 3)
        bearings_x, bearings_y, bearings_z, *world = jnp.take(table, indices, axis=1)
        rotation, translation, good = p3p_components(
            tuple(zip(bearings_x, bearings_y, bearings_z, strict=True)),
            tuple(zip(*world, strict=True)),
        )
        rows = tuple((*row, t) for row, t in zip(rotation, translation, strict=True))
        scores = jnp.where(good & distinct, score(rows), 0.0).reshape(-1)
        winner = jnp.argmax(scores)
        pose = jnp.stack([jnp.stack([c.reshape(-1)[winner] for c in row]) for row in rows])
        rotation = se3.orthonormalise(se3.orthonormalise(pose[:, :3]))
        pose = se3.from_rotation_translation(rotation, pose[:, 3])
        winning_score = scores[winner]
        if initial_pose is not None:
            use_prior = (chunk == 0) & prior_finite & (prior_score >= winning_score)
            pose = jnp.where(use_prior, prior, pose)
            winning_score = jnp.where(use_prior, prior_score, winning_score)
        # Most chunks bring nothing better: the refinement is skipped (not under vmap).
        candidate = jax.lax.cond(
            winning_score > best[2],
            refine,
            lambda pose: (pose, jnp.zeros_like(best[1]), jnp.zeros_like(best[2])),
            pose,
        )
        better = candidate[2] > best[2]
        return chunk + 1, jax.tree.map(
            lambda new, old: jnp.where(better, new, old), candidate, best
        )

    def unfinished(state: tuple) -> jax.Array:
        chunk, (_, _, best_score) = state
        drawn = chunk * _CHUNK
        needed = ransac.required_samples(best_score / subset_count, confidence, 3)
        return (drawn == 0) | ((drawn < max_hypotheses) & (drawn < needed))

    identity = jnp.eye(4, dtype=points.dtype)
    if initial_pose is not None:
        prior_finite = jnp.all(jnp.isfinite(initial_pose))
        prior = jnp.where(prior_finite, initial_pose.astype(points.dtype), identity)
        prior_score = score(la.unstack_matrix(prior[:3]))
    best = (identity, jnp.zeros((6, 6), points.dtype), jnp.zeros((), points.dtype))
    chunks, (pose, information, best_score) = jax.lax.while_loop(
        unfinished, draw_chunk, (jnp.int32(0), best)
    )

    ratio = _squared_ratio(pose, observations, camera, threshold)
    inliers = valid & (ratio < 1.0)
    num_inliers = jnp.sum(inliers, dtype=jnp.int32)
    # Residuals are in units of the threshold: their variance scales the covariance.
    freedom = jnp.maximum(2.0 * num_inliers - 6.0, 1.0)
    variance = jnp.sum(jnp.where(inliers, least_squares_weights * ratio, 0.0)) / freedom
    covariance, definite = covariance_from_information(information)
    success = definite & (best_score > 0.0) & (num_inliers >= MIN_INLIERS)
    return PoseResult(
        camera_from_world=jnp.where(success, pose, identity),
        inliers=inliers & success,
        num_inliers=jnp.where(success, num_inliers, 0),
        covariance=jnp.where(success, variance * covariance, 0.0),
        success=success,
        num_hypotheses=chunks * _CHUNK,
    )


def _squared_ratio(
    pose: jax.Array, observations: Observations, camera: Camera, threshold: float | jax.Array
) -> jax.Array:
    """Squared reprojection errors over the squared threshold (N,); infinite behind the camera."""
    x, y, z = (
        la.dot(tuple(pose[i, :3]), tuple(observations.points_3d)) + pose[i, 3] for i in range(3)
    )
    in_front = z > MIN_DEPTH
    inverse = 1.0 / jnp.where(in_front, z, 1.0)
    du = camera.fx * x * inverse + camera.cx - observations.points_2d[0]
    dv = camera.fy * y * inverse + camera.cy - observations.points_2d[1]
    return jnp.where(in_front, (du * du + dv * dv) / threshold**2, jnp.inf)


def _msac_score(
    rows: la.Matrix,
    observations: Observations,
    valid: jax.Array,
    camera: Camera,
    threshold: float | jax.Array,
) -> jax.Array:
    """Sum over S points of max(1 - (error / threshold)^2, 0) for poses of any batch shape K.

    Args:
        rows: 3x4 components (*K) of camera_from_world.
        observations: S points.
        valid: (S,) who votes.
        camera: intrinsics.
        threshold: pixels.

    Returns:
        Scores (*K).
    """
    points = tuple(observations.points_3d)
    u = (observations.points_2d[0] - camera.cx) / camera.fx
    v = (observations.points_2d[1] - camera.cy) / camera.fy
    x, y, z = (
        la.dot(tuple(c[..., None] for c in row[:3]), points) + row[3][..., None] for row in rows
    )
    du, dv = camera.fx * (x - u * z), camera.fy * (y - v * z)
    votes = valid & (z > MIN_DEPTH)
    ratio = (du * du + dv * dv) / (jnp.where(votes, z, 1.0) * threshold) ** 2
    return jnp.sum(jnp.where(votes, jnp.maximum(1.0 - ratio, 0.0), 0.0), axis=-1)
