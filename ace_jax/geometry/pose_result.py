"""Result of a robust pose solver: the pose, its inliers, covariance and success."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.geometry import ransac
from ace_jax.geometry.implicit import Cost, attach_gradient
from ace_jax.geometry.pose_refinement import covariance_from_information


@flax.struct.dataclass
class PoseResult:
    """A pose with what supports it. Always finite; look at `success` before using it.

    Attributes:
        camera_from_world: (4, 4) float32, rotation on SO(3), metres; the identity if nothing was
            found.
        inliers: (N,) bool, correspondences within the threshold; never a masked or non-finite one.
        num_inliers: () int32.
        covariance: (6, 6) of the tangent (v, omega) in metres and radians, where
            true camera_from_world = exp(tangent) @ camera_from_world. Zero without success.
        success: () bool.
        num_hypotheses: () int32, minimal samples that were solved.
    """

    camera_from_world: jax.Array
    inliers: jax.Array
    num_inliers: jax.Array
    covariance: jax.Array
    success: jax.Array
    num_hypotheses: jax.Array


def conclude(
    best: ransac.Consensus,
    sampler: ransac.Sampler,
    squared_ratio: jax.Array,
    weights: jax.Array,
    valid: jax.Array,
    cost: Cost,
    data: Any,
    *,
    residuals: int,
    min_inliers: int,
    chance: jax.Array,
) -> PoseResult:
    """Counts the inliers of the best pose, and judges whether they are enough.

    Args:
        best: of `ransac.search`.
        sampler: that it drew from.
        squared_ratio: (N,) squared residuals at the best pose over the squared threshold.
        weights: (N,) of the points.
        valid: (N,) bool, the points that may vote.
        cost: that the pose minimises, of the pose and `data`; gives the gradient.
        data: see `cost`.
        residuals: how many numbers a point gives.
        min_inliers: with fewer there is no success.
        chance: () with which a point agrees with a wrong pose.
    """
    inliers = valid & (squared_ratio < 1.0)
    num_inliers = jnp.sum(inliers, dtype=jnp.int32)
    # Residuals are in units of the threshold: their variance scales the covariance.
    freedom = jnp.maximum(float(residuals) * num_inliers - 6.0, 1.0)
    variance = jnp.sum(jnp.where(inliers, weights * squared_ratio, 0.0)) / freedom
    covariance, definite = covariance_from_information(best.information)
    success = definite & (best.score > 0.0) & (num_inliers >= min_inliers)
    success = success & ransac.is_significant(num_inliers, sampler.count, chance, best.num_samples)
    pose = jnp.where(success, best.pose, jnp.eye(4, dtype=best.pose.dtype))
    return PoseResult(
        camera_from_world=attach_gradient(cost, pose, success, data),
        inliers=inliers & success,
        num_inliers=jnp.where(success, num_inliers, 0),
        covariance=jnp.where(success, variance * covariance, 0.0),
        success=success,
        num_hypotheses=best.num_samples,
    )
