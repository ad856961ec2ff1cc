"""Robust rigid alignment of two matched point sets: RANSAC over triads with refinement."""

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.geometry import ransac, robust_loss, se3
from ace_jax.geometry import small_linalg as la
from ace_jax.geometry.kabsch import align_from, kabsch_minimal
from ace_jax.geometry.pose_result import PoseResult, conclude
from ace_jax.programs import program

MIN_INLIERS = 4  # theory: three determine the motion, a fourth confirms
_REFINEMENT_STEPS = 8  # numerics: of iterative reweighting, which converges linearly
_LOSS_SCALE = 2.0  # thresholds at which Tukey's loss ends, as for `absolute_pose`


def estimate_rigid_transform(
    points_a: jax.Array,
    points_b: jax.Array,
    key: jax.Array,
    mask: jax.Array | None = None,
    weights: jax.Array | None = None,
    initial_pose: jax.Array | None = None,
    threshold: float | jax.Array = 0.05,
    confidence: float | jax.Array = 0.9999,
    max_hypotheses: int | jax.Array = 10_000,
) -> PoseResult:
    """The rigid motion b_from_a that most correspondences agree with.

    Call it under `jax.jit`. Differentiable: the motion's gradient with respect to points and
    weights is that of the optimum on the inliers.

    Args:
        points_a: (N, 3) points in frame a (the world), metres.
        points_b: (N, 3) the same points in frame b (the camera), metres.
        key: PRNG key; the same key gives the same result.
        mask: (N,) bool, False for padding. Non-finite points are masked in any case.
        weights: (N,) relative confidence: guides the sampling and weighs the refinement.
            Default 1.
        initial_pose: (4, 4) b_from_a tried as one more hypothesis, or None.
        threshold: largest distance of an inlier, metres, about three sigmas; a scalar, or (N,)
            for noise that grows with distance (`depth_threshold`), which then also weighs the
            refinement.
        confidence: probability of having drawn an outlier-free sample, at which to stop.
        max_hypotheses: minimal samples at most.

    Returns:
        `PoseResult`, `camera_from_world` holding b_from_a. Success means at least 4 inliers, more
        than chance explains, that determine all six degrees of freedom.
    """
    (points_a, points_b), valid, inlier_weights = ransac.valid_points(
        (points_a, points_b), mask, weights
    )
    threshold = jnp.broadcast_to(jnp.asarray(threshold, points_a.dtype), valid.shape)
    data = (points_a.T, points_b.T, inlier_weights, 1.0 / threshold**2)
    # The search is not differentiable; `conclude` restores the derivative at its end.
    columns_a, columns_b, inlier_weights, precision = jax.lax.stop_gradient(data)
    sampler = ransac.make_sampler(key, valid, None if weights is None else inlier_weights)
    subset = ransac.draw_subset(sampler)
    subset_a, subset_b = columns_a[:, subset.indices], columns_b[:, subset.indices]
    subset_precision = precision[subset.indices]
    table = jnp.concatenate([columns_a, columns_b])

    def propose(indices: jax.Array) -> tuple[la.Matrix, jax.Array]:
        ax, ay, az, bx, by, bz = jnp.take(table, indices, axis=1)
        rotation, translation, success = kabsch_minimal(
            tuple(zip(ax, ay, az, strict=True)), tuple(zip(bx, by, bz, strict=True))
        )
        return tuple((*row, t) for row, t in zip(rotation, translation, strict=True)), success

    def refine(pose: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        def step(_: int, state: tuple) -> tuple:
            pose, _ = state
            ratio = _squared_ratio(la.unstack_matrix(pose), columns_a, columns_b, precision)
            _, robust = robust_loss.tukey(ratio / _LOSS_SCALE**2)
            weight = inlier_weights * robust * precision
            return align_from(pose, columns_a, columns_b, weight)

        pose, success = jax.lax.fori_loop(0, _REFINEMENT_STEPS, step, (pose[:3], jnp.asarray(True)))
        rotation = se3.orthonormalise(pose[:, :3])
        pose = se3.from_rotation_translation(rotation, pose[:, 3])
        ratio = _squared_ratio(la.unstack_matrix(pose[:3]), columns_a, columns_b, precision)
        _, robust = robust_loss.tukey(ratio / _LOSS_SCALE**2)
        return pose, _information(pose, columns_a, inlier_weights * robust * precision), success

    best = ransac.search(
        sampler,
        propose,
        lambda rows: _squared_ratio(rows, subset_a, subset_b, subset_precision),
        refine,
        subset,
        confidence,
        max_hypotheses,
        initial_pose,
    )
    ratio = _squared_ratio(la.unstack_matrix(best.pose[:3]), columns_a, columns_b, precision)
    return conclude(
        best,
        sampler,
        ratio,
        inlier_weights,
        valid,
        _cost,
        data,
        residuals=3,
        min_inliers=MIN_INLIERS,
        chance=_chance_of_agreement(columns_b, precision, valid),
    )


@program
def rigid_motion(
    points_a: jax.Array,
    points_b: jax.Array,
    mask: jax.Array,
    threshold: jax.Array,
    seed: np.uint32,
    draw: np.int32,
    max_hypotheses: int,
) -> PoseResult:
    """`estimate_rigid_transform`, compiled once for all who ask about N points.

    Args:
        points_a: (N, 3) points in frame a, metres.
        points_b: (N, 3) the same points in frame b, metres.
        mask: (N,) bool, False for padding.
        threshold: (N,) largest distances of inliers, metres.
        seed: of the sampling,
        draw: and the number of this draw.
        max_hypotheses: minimal samples at most.
    """
    key = jax.random.fold_in(jax.random.key(seed), draw)
    return estimate_rigid_transform(
        points_a, points_b, key, mask, threshold=threshold, max_hypotheses=max_hypotheses
    )


def depth_threshold(
    depth: jax.Array, inverse_depth_sigma: float | jax.Array, floor: float | jax.Array = 0.02
) -> jax.Array:
    """Inlier distances (N,) in metres for points at z-depth (N,): three sigmas and a floor.

    A constant sigma of the inverse depth, 1/m, is a sigma of depth^2 times that in metres. On the
    host for an array of NumPy.
    """
    xp = np if isinstance(depth, np.ndarray) else jnp
    return xp.maximum(3.0 * inverse_depth_sigma * depth**2, floor)


def _squared_ratio(rows: la.Matrix, a: jax.Array, b: jax.Array, precision: jax.Array) -> jax.Array:
    """Squared distances over squared thresholds (*K, N) of motions, 3x4 components (*K)."""
    residual = tuple(
        la.dot(tuple(c[..., None] for c in row[:3]), tuple(a)) + row[3][..., None] - target
        for row, target in zip(rows, b, strict=True)
    )
    return la.dot(residual, residual) * precision


def _chance_of_agreement(b: jax.Array, precision: jax.Array, valid: jax.Array) -> jax.Array:
    """Probability () that a wrong point lies within the threshold, were the points on a surface.

    Threshold^2 over twice the variance of the points: the areas of a disc and of a Gaussian.
    """
    share = valid / jnp.maximum(jnp.sum(valid), 1)
    centred = b - la.full_matmul(b, share)[:, None]
    variance = jnp.sum(share * la.dot(centred, centred))
    squared_threshold = jnp.sum(share / precision)
    return squared_threshold / jnp.maximum(2.0 * variance, 1e-12)


def _cost(pose: jax.Array, data: tuple) -> jax.Array:
    a, b, weights, precision = data
    ratio = _squared_ratio(la.unstack_matrix(pose[:3]), a, b, precision)
    rho, _ = robust_loss.tukey(ratio / _LOSS_SCALE**2)
    return jnp.sum(weights * rho)


def _information(pose: jax.Array, a: jax.Array, weights: jax.Array) -> jax.Array:
    """J^T W J (6, 6) with J = [I, -[R a + t]x]; weights in units of 1 / threshold^2."""
    moved = la.full_matmul(pose[:3, :3], a) + pose[:3, 3:]
    total = jnp.sum(weights)
    x, y, z = la.full_matmul(moved, weights)
    second = la.full_matmul(moved * weights, moved.T)
    zero = jnp.zeros_like(total)
    cross = jnp.stack([jnp.stack(r) for r in ((zero, -z, y), (z, zero, -x), (-y, x, zero))])
    identity = jnp.eye(3, dtype=moved.dtype)
    return jnp.block(
        [
            [total * identity, -cross],
            [cross, jnp.trace(second) * identity - second],
        ]
    )
