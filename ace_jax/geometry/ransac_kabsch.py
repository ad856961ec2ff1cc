"""Robust rigid alignment of two matched point sets: RANSAC over triads, then weighted Kabsch."""

import jax
import jax.numpy as jnp

from ace_jax.geometry import ransac, se3
from ace_jax.geometry import small_linalg as la
from ace_jax.geometry.kabsch import kabsch, kabsch_minimal
from ace_jax.geometry.pose_result import PoseResult

_REFINEMENT_STEPS = 6
MIN_INLIERS = 4


def estimate_rigid_transform(
    points_a: jax.Array,
    points_b: jax.Array,
    key: jax.Array,
    mask: jax.Array | None = None,
    weights: jax.Array | None = None,
    threshold: float | jax.Array = 0.05,
    num_hypotheses: int = 512,
    initial_pose: jax.Array | None = None,
) -> PoseResult:
    """The rigid motion b_from_a that most correspondences agree with.

    Args:
        points_a: (N, 3) points in frame a (the world), metres.
        points_b: (N, 3) the same points in frame b (the camera), metres.
        key: PRNG key; the same key gives the same result.
        mask: (N,) bool, False for padding. Non-finite points are masked in any case.
        weights: (N,) relative confidence (inverse variance up to scale): guides the sampling and
            weighs the refinement. Default 1.
        threshold: largest distance of an inlier, metres; a scalar or (N,), for noise that grows
            with distance.
        num_hypotheses: minimal samples (static).
        initial_pose: (4, 4) b_from_a tried as one more hypothesis, or None.

    Returns:
        `PoseResult`, `camera_from_world` holding b_from_a.
    """
    confidence = weights
    (points_a, points_b), valid, weights = ransac.valid_points((points_a, points_b), mask, weights)
    threshold = jnp.broadcast_to(jnp.asarray(threshold, points_a.dtype), valid.shape)
    sampler = ransac.make_sampler(key, valid, None if confidence is None else weights)
    indices, distinct = ransac.draw_minimal_sets(sampler, jnp.int32(0), num_hypotheses, 3)
    columns_a, columns_b = points_a.T, points_b.T
    triads_a = tuple(tuple(c[i] for c in columns_a) for i in indices)
    triads_b = tuple(tuple(c[i] for c in columns_b) for i in indices)
    rotation, translation, solved = kabsch_minimal(triads_a, triads_b)
    hypotheses = se3.from_rotation_translation(
        la.stack_matrix(rotation), jnp.stack(translation, axis=-1)
    )
    usable = distinct & solved
    if initial_pose is not None:
        finite = jnp.all(jnp.isfinite(initial_pose))
        initial_pose = jnp.where(finite, initial_pose, jnp.eye(4, dtype=points_a.dtype))
        hypotheses = jnp.concatenate([initial_pose[None], hypotheses])
        usable = jnp.concatenate([finite[None], usable])

    def score(b_from_a: jax.Array) -> jax.Array:
        """MSAC score (H,) of hypotheses (H, 4, 4)."""
        ratio = _squared_ratio(b_from_a, points_a, points_b, threshold)
        return jnp.sum(jnp.where(valid, jnp.maximum(1.0 - ratio, 0.0), 0.0), axis=-1)

    scores = jnp.where(usable, score(hypotheses), -1.0)
    best = jnp.argmax(scores)
    pose, best_score = hypotheses[best], scores[best]

    def refine(_: int, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        pose, best_score = state
        ratio = _squared_ratio(pose, points_a, points_b, threshold)
        # Geman-McClure weights around the threshold: smooth, and outliers fade out.
        robust = jnp.where(valid & (ratio < 4.0), weights / (1.0 + ratio) ** 2, 0.0)
        candidate, success = kabsch(points_a, points_b, robust)
        candidate_score = score(candidate)
        better = success & (candidate_score > best_score)
        return jnp.where(better, candidate, pose), jnp.where(better, candidate_score, best_score)

    pose, _ = jax.lax.fori_loop(0, _REFINEMENT_STEPS, refine, (pose, best_score))
    ratio = _squared_ratio(pose, points_a, points_b, threshold)
    inliers = valid & (ratio < 1.0)
    final, success = kabsch(points_a, points_b, jnp.where(inliers, weights, 0.0))
    better = success & (score(final) >= score(pose))
    pose = jnp.where(better, final, pose)
    ratio = _squared_ratio(pose, points_a, points_b, threshold)
    inliers = valid & (ratio < 1.0)
    num_inliers = jnp.sum(inliers, dtype=jnp.int32)
    covariance, definite = _covariance(pose, points_a, points_b, jnp.where(inliers, weights, 0.0))
    success = success & (best_score > 0.0) & (num_inliers >= MIN_INLIERS) & definite
    return PoseResult(
        camera_from_world=jnp.where(success, pose, jnp.eye(4, dtype=pose.dtype)),
        inliers=inliers & success,
        num_inliers=jnp.where(success, num_inliers, 0),
        covariance=jnp.where(success, covariance, 0.0),
        success=success,
        num_hypotheses=jnp.asarray(num_hypotheses, jnp.int32),
    )


def _squared_ratio(
    b_from_a: jax.Array, points_a: jax.Array, points_b: jax.Array, threshold: jax.Array
) -> jax.Array:
    """Squared distances over squared thresholds (..., N) of motions (..., 4, 4)."""
    residual = se3.transform(b_from_a, points_a) - points_b
    return jnp.sum(residual**2, axis=-1) / threshold**2


def _covariance(
    b_from_a: jax.Array, points_a: jax.Array, points_b: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Covariance (6, 6) of the left tangent, from the residuals of the inliers; and definite."""
    moved = se3.transform(b_from_a, points_a)
    total = jnp.sum(weights)
    count = jnp.sum(weights > 0.0)
    residual = moved - points_b
    dof = jnp.maximum(3.0 * count - 6.0, 1.0)
    variance = jnp.sum(weights[:, None] * residual**2) / dof
    # d moved / d (v, omega) = [I, -[moved]x]
    first = jnp.einsum("n,ni->i", weights, moved)
    second = jnp.einsum("n,ni,nj->ij", weights, moved, moved)
    zero = jnp.zeros_like(total)
    hat = jnp.stack(
        [
            jnp.stack([zero, -first[2], first[1]]),
            jnp.stack([first[2], zero, -first[0]]),
            jnp.stack([-first[1], first[0], zero]),
        ]
    )
    eye = jnp.eye(3, dtype=moved.dtype)
    hessian = jnp.block([[total * eye, -hat], [hat, jnp.trace(second) * eye - second]])
    factor, definite = la.cholesky(la.unstack_matrix(hessian), 1e-6)
    columns = tuple(la.cholesky_solve(factor, tuple(row)) for row in jnp.eye(6, dtype=moved.dtype))
    return variance * la.stack_matrix(columns), definite
