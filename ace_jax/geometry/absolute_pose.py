"""Robust camera pose from 2D-3D correspondences: RANSAC over P3P with refinement."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ace_jax.geometry import ransac, robust_loss
from ace_jax.geometry import small_linalg as la
from ace_jax.geometry.camera import MIN_DEPTH, Camera
from ace_jax.geometry.p3p import p3p_components
from ace_jax.geometry.pose_refinement import pose_cost, refine_pose
from ace_jax.geometry.pose_result import PoseResult, conclude
from ace_jax.geometry.reprojection import DEFAULT_NOISE, NoiseModel, Observations, inverse_of

MIN_INLIERS = 5  # theory: three determine the pose, a fourth its root, a fifth confirms
_REFINEMENT_STEPS = 10  # numerics: at most
# Theory: Tukey's loss ends at this many thresholds. With a threshold of 2 to 4 sigmas it keeps 91
# to 99 % of the efficiency of least squares, where cutting at the threshold keeps 74 to 99 %.
_LOSS_SCALE = 2.0
# Likewise, one after the other, before the last refinement: a consensus found from three points may
# be half of the larger one beside it, to which a narrow loss does not reach (graduated
# non-convexity: Blake and Zisserman 1987; Yang et al., RA-L 2020).
_WIDER_SCALES = (8.0, 4.0)


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
    inverse_depth_sigma: float | jax.Array = DEFAULT_NOISE.inverse_depth_sigma,
    confidence: float | jax.Array = 0.9999,
    max_hypotheses: int | jax.Array = 20_000,
) -> PoseResult:
    """The camera pose that most 2D-3D correspondences agree with.

    Call it under `jax.jit`. Differentiable: the pose's gradient with respect to points, depth,
    weights and camera is that of the optimum on the inliers.

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
        `PoseResult`. Success means at least 5 inliers, more than chance explains, that determine
        all six degrees of freedom.
    """
    camera = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), camera)
    (points_2d, points_3d), valid, inlier_weights = ransac.valid_points(
        (points_2d, points_3d), mask, weights
    )
    inverse_depth = None if depth is None else inverse_of(jnp.asarray(depth, jnp.float32))
    # The noise's scale is the threshold, about three sigmas; only ratios matter to the refinement.
    observations = Observations(points_3d.T, points_2d.T, inlier_weights, inverse_depth)
    noise = NoiseModel(threshold, 3.0 * inverse_depth_sigma)
    data = (observations, camera, noise, _LOSS_SCALE)
    # The search is not differentiable; `conclude` restores the derivative at its end.
    constants = jax.lax.stop_gradient(data)
    observations, camera, noise, _ = constants
    threshold = noise.pixel_sigma
    sampler = ransac.make_sampler(key, valid, None if weights is None else observations.weights)
    subset = ransac.draw_subset(sampler)
    voters = jax.tree.map(lambda array: array[..., subset.indices], observations)
    table = jnp.concatenate([_bearings(observations.points_2d, camera), observations.points_3d])

    def propose(indices: jax.Array) -> tuple[la.Matrix, jax.Array]:
        x, y, z, *world = jnp.take(table, indices, axis=1)
        rotation, translation, valid = p3p_components(
            tuple(zip(x, y, z, strict=True)), tuple(zip(*world, strict=True))
        )
        return tuple((*row, t) for row, t in zip(rotation, translation, strict=True)), valid

    def refine(pose: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        result = refine_pose(pose, *constants, robust_loss.tukey, _REFINEMENT_STEPS)
        return result.camera_from_world, result.information, result.success

    best = ransac.search(
        sampler,
        propose,
        lambda rows: _squared_ratio(rows, voters, camera, threshold),
        refine,
        subset,
        confidence,
        max_hypotheses,
        initial_pose,
    )
    best = _widened(best, refine, constants, valid)
    ratio = _squared_ratio(la.unstack_matrix(best.pose[:3]), observations, camera, threshold)
    return conclude(
        best,
        sampler,
        ratio,
        observations.weights,
        valid,
        lambda pose, data: pose_cost(pose, *data, robust_loss.tukey),
        data,
        residuals=2,
        min_inliers=MIN_INLIERS,
        chance=jnp.pi * jnp.asarray(threshold) ** 2 / (camera.width * camera.height),
    )


def _widened(
    best: ransac.Consensus,
    refine: Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]],
    data: tuple[Observations, Camera, NoiseModel, float],
    valid: jax.Array,
) -> ransac.Consensus:
    """The consensus, or the one that wider losses lead to from it, if more of all points agree."""
    observations, camera, noise, _ = data
    pose = best.pose
    for scale in _WIDER_SCALES:
        pose = refine_pose(
            pose, observations, camera, noise, scale, robust_loss.tukey, _REFINEMENT_STEPS
        ).camera_from_world
    pose, information, success = refine(pose)

    def score(pose: jax.Array) -> jax.Array:
        rows = la.unstack_matrix(pose[:3])
        ratio = _squared_ratio(rows, observations, camera, noise.pixel_sigma)
        return jnp.sum(jnp.where(valid, jnp.maximum(1.0 - ratio, 0.0), 0.0))

    better = success & (best.score > 0.0) & (score(pose) > score(best.pose))
    return best.replace(
        pose=jnp.where(better, pose, best.pose),
        information=jnp.where(better, information, best.information),
    )


def _bearings(pixels: jax.Array, camera: Camera) -> jax.Array:
    """Unit vectors (3, N) of pixels (2, N)."""
    x, y = camera.normalised(*pixels)
    scale = jax.lax.rsqrt(1.0 + x * x + y * y)
    return jnp.stack([x * scale, y * scale, scale])


def _squared_ratio(
    rows: la.Matrix, observations: Observations, camera: Camera, threshold: float | jax.Array
) -> jax.Array:
    """Squared reprojection errors over the squared threshold; infinite behind the camera.

    Args:
        rows: 3x4 components (*K) of camera_from_world.
        observations: S points.
        camera: intrinsics.
        threshold: pixels.

    Returns:
        (*K, S).
    """
    points = tuple(observations.points_3d)
    u, v = camera.normalised(*observations.points_2d)
    x, y, z = (
        la.dot(tuple(c[..., None] for c in row[:3]), points) + row[3][..., None] for row in rows
    )
    du, dv = camera.fx * (x - u * z), camera.fy * (y - v * z)
    in_front = z > MIN_DEPTH
    ratio = (du * du + dv * dv) / (jnp.where(in_front, z, 1.0) * threshold) ** 2
    return jnp.where(in_front, ratio, jnp.inf)
