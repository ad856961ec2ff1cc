"""Robust camera pose from 2D-3D correspondences: RANSAC over P3P, then refinement."""

import jax
import jax.numpy as jnp

from ace_jax.geometry import ransac, se3
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
_CHUNK = 128
_SUBSET = 256


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
    confidence: float = 0.9999,
    max_hypotheses: int = 8192,
) -> PoseResult:
    """The camera pose that most 2D-3D correspondences agree with.

    Args:
        points_2d: (N, 2) pixels of an ideal pinhole camera (undistort them first).
        points_3d: (N, 3) points in the world, metres.
        camera: intrinsics.
        key: PRNG key; the same key gives the same result.
        mask: (N,) bool, False for padding. Non-finite points are masked in any case.
        weights: (N,) relative confidence (inverse variance up to scale): guides the sampling and
            weighs the refinement. Default 1.
        initial_pose: (4, 4) camera_from_world tried as one more hypothesis, or None.
        depth: (N,) z-depth in metres of the pixels, 0 or not finite where unknown; used in the
            refinement. Or None.
        threshold: largest reprojection error of an inlier, pixels.
        inverse_depth_sigma: noise of 1 / depth, 1/m.
        confidence: probability of having drawn an outlier-free sample, at which to stop.
        max_hypotheses: samples at most (static).

    Returns:
        `PoseResult`.
    """
    (points_2d, points_3d), valid, weights = ransac.valid_points(
        (points_2d, points_3d), mask, weights
    )
    inverse_depth = None
    if depth is not None:
        known = jnp.isfinite(depth) & (depth > 0.0)
        inverse_depth = jnp.where(known, 1.0 / jnp.where(known, depth, 1.0), 0.0)
    count = points_2d.shape[0]
    x = (points_2d[:, 0] - camera.cx) / camera.fx
    y = (points_2d[:, 1] - camera.cy) / camera.fy
    norm = jax.lax.rsqrt(1.0 + x * x + y * y)
    bearing_columns = (x * norm, y * norm, norm)
    columns = tuple(points_3d.T)
    observations = Observations(points_3d.T, points_2d.T, weights, inverse_depth)
    subset_key, key = jax.random.split(key)
    if count > _SUBSET:
        subset, _ = ransac.sample_minimal_sets(subset_key, valid.astype(weights.dtype), _SUBSET, 1)
        subset = subset[0]
    else:
        subset = jnp.arange(count)
    subset_columns = (*(c[subset] for c in columns), x[subset], y[subset], valid[subset])

    def score(pose: jax.Array) -> jax.Array:
        ratio = _squared_ratio(pose, points_2d, points_3d, camera, threshold)
        return jnp.sum(jnp.where(valid, jnp.maximum(1.0 - ratio, 0.0), 0.0))

    def local_optimisation(pose: jax.Array) -> tuple[jax.Array, jax.Array]:
        refined = refine_pose(
            pose,
            observations,
            camera,
            pixel_sigma=threshold / 3.0,
            inverse_depth_sigma=inverse_depth_sigma,
            robust_scale=1.0,
            num_steps=5,
        ).camera_from_world
        before, after = score(pose), score(refined)
        better = after > before
        return jnp.where(better, refined, pose), jnp.where(better, after, before)

    def draw(state: tuple) -> tuple:
        chunk, pose, best = state
        indices, distinct = ransac.sample_minimal_sets(
            jax.random.fold_in(key, chunk), weights, _CHUNK, 3
        )
        rotation, translation, good = p3p_components(
            tuple(tuple(c[i] for c in bearing_columns) for i in indices),
            tuple(tuple(c[i] for c in columns) for i in indices),
        )
        rows = tuple((*row, t) for row, t in zip(rotation, translation, strict=True))
        votes = _votes(rows, subset_columns, camera, threshold)
        votes = jnp.where(good & distinct, votes, -1.0).reshape(-1)
        winner = jnp.argmax(votes)
        candidate = jnp.stack([jnp.stack([c.reshape(-1)[winner] for c in row]) for row in rows])
        candidate = jnp.concatenate([candidate, jnp.array([[0.0, 0.0, 0.0, 1.0]], candidate.dtype)])
        candidate, value = local_optimisation(candidate)
        better = (votes[winner] > 0.0) & (value > best)
        return chunk + 1, jnp.where(better, candidate, pose), jnp.where(better, value, best)

    total = jnp.sum(valid)

    def unfinished(state: tuple) -> jax.Array:
        chunk, _, best = state
        ratio = best / jnp.maximum(total, 1)
        miss = jnp.log1p(-jnp.clip(ratio**3, 1e-7, 1.0 - 1e-7))
        needed = jnp.log(1.0 - confidence) / miss
        return (chunk * _CHUNK < max_hypotheses) & (chunk * _CHUNK < needed)

    identity = jnp.eye(4, dtype=points_3d.dtype)
    state = (jnp.int32(0), identity, jnp.zeros((), points_3d.dtype))
    if initial_pose is not None:
        finite = jnp.all(jnp.isfinite(initial_pose))
        state = (jnp.int32(0), *local_optimisation(jnp.where(finite, initial_pose, identity)))
    chunks, pose, best = jax.lax.while_loop(unfinished, draw, state)

    for _ in range(2):
        inliers = valid & (_squared_ratio(pose, points_2d, points_3d, camera, threshold) < 1.0)
        refined = refine_pose(
            pose,
            observations.replace(weights=jnp.where(inliers, weights, 0.0)),
            camera,
            pixel_sigma=threshold / 3.0,
            inverse_depth_sigma=inverse_depth_sigma,
            num_steps=4,
        )
        pose = refined.camera_from_world
    ratio = _squared_ratio(pose, points_2d, points_3d, camera, threshold)
    inliers = valid & (ratio < 1.0)
    num_inliers = jnp.sum(inliers, dtype=jnp.int32)
    dof = jnp.maximum(2.0 * num_inliers - 6.0, 1.0)
    variance = 9.0 * jnp.sum(jnp.where(inliers, weights * ratio, 0.0)) / dof
    covariance, definite = covariance_from_information(refined.information)
    success = refined.success & definite & (best > 0.0) & (num_inliers >= MIN_INLIERS)
    return PoseResult(
        camera_from_world=jnp.where(success, pose, identity),
        inliers=inliers & success,
        num_inliers=jnp.where(success, num_inliers, 0),
        covariance=jnp.where(success, variance * covariance, 0.0),
        success=success,
        num_hypotheses=chunks * _CHUNK,
    )


def _squared_ratio(
    pose: jax.Array,
    points_2d: jax.Array,
    points_3d: jax.Array,
    camera: Camera,
    threshold: float | jax.Array,
) -> jax.Array:
    """Squared reprojection errors over the squared threshold (N,); infinite behind the camera."""
    moved = se3.transform(pose, points_3d)
    in_front = moved[:, 2] > MIN_DEPTH
    inverse = 1.0 / jnp.where(in_front, moved[:, 2], 1.0)
    du = camera.fx * moved[:, 0] * inverse + camera.cx - points_2d[:, 0]
    dv = camera.fy * moved[:, 1] * inverse + camera.cy - points_2d[:, 1]
    return jnp.where(in_front, (du * du + dv * dv) / threshold**2, jnp.inf)


def _votes(
    rows: la.Matrix, columns: tuple[jax.Array, ...], camera: Camera, threshold: float | jax.Array
) -> jax.Array:
    """MSAC votes of hypotheses, rows of components (K, H), over S points: (K, H)."""
    px, py, pz, u, v, valid = columns
    x, y, z = (
        r0[..., None] * px + r1[..., None] * py + r2[..., None] * pz + t[..., None]
        for r0, r1, r2, t in rows
    )
    du, dv = camera.fx * (x - u * z), camera.fy * (y - v * z)
    in_front = (z > MIN_DEPTH) & valid
    ratio = (du * du + dv * dv) / (jnp.where(in_front, z, 1.0) * threshold) ** 2
    return jnp.sum(jnp.where(in_front, jnp.maximum(1.0 - ratio, 0.0), 0.0), axis=-1)
