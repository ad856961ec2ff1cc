"""Guided matching: landmarks are projected with a pose and compared with the features nearby."""

import functools

import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.features.base import Features
from ace_jax.geometry.camera import MIN_DEPTH, Camera, project

NO_MATCH = -1


@flax.struct.dataclass
class LandmarkBlock:
    """Landmarks in a block of fixed size P.

    Attributes:
        points: (P, 3) metres, world.
        descriptors: (S, P, D) appearances, unit length or zero where there are fewer than S.
        view_directions: (P, 3) mean unit direction from the landmark to the cameras that saw it.
        distances: (P,) metres, mean distance of those cameras.
        mask: (P,) bool.
    """

    points: jax.Array
    descriptors: jax.Array
    view_directions: jax.Array
    distances: jax.Array
    mask: jax.Array


@flax.struct.dataclass
class MatchGates:
    """What a match must satisfy; see `SlamConfig` for the meaning and the units."""

    radius: jax.Array | float
    min_cosine: float
    match_ratio: float
    cos_max_view_angle: float
    max_scale_change: float


def visible(
    block: LandmarkBlock, camera_from_world: jax.Array, camera: Camera, gates: MatchGates
) -> tuple[jax.Array, jax.Array]:
    """Projections (P, 2) and whether each landmark can be seen (P,) from a (4, 4) pose."""
    rotation, translation = camera_from_world[:3, :3], camera_from_world[:3, 3]
    in_camera = block.points @ rotation.T + translation
    uv = project(in_camera, camera)
    centre = -rotation.T @ translation
    to_camera = centre - block.points
    distance = jnp.linalg.norm(to_camera, axis=-1)
    cosine = jnp.sum(to_camera * block.view_directions, -1) / jnp.maximum(distance, 1e-6)
    ratio = distance / jnp.maximum(block.distances, 1e-6)
    seen = (
        block.mask
        & (in_camera[:, 2] > MIN_DEPTH)
        & (uv[:, 0] >= 0)
        & (uv[:, 0] <= camera.width - 1)
        & (uv[:, 1] >= 0)
        & (uv[:, 1] <= camera.height - 1)
        & (cosine > gates.cos_max_view_angle)
        & (ratio < gates.max_scale_change)
        & (ratio > 1 / gates.max_scale_change)
    )
    return uv, seen


def guided_match(
    block: LandmarkBlock,
    features: Features,
    camera_from_world: jax.Array,
    camera: Camera,
    gates: MatchGates,
) -> jax.Array:
    """One-to-one matches of features to landmarks near their projections.

    A pair is kept if each is the other's most similar candidate within the radius, and the
    landmark's second-best feature is clearly worse.

    Args:
        block: P landmarks.
        features: N features.
        camera_from_world: (4, 4) predicted pose.
        camera: intrinsics of the image that `features.uv` refers to.
        gates: thresholds.

    Returns:
        (N,) int32 landmark of each feature, -1 where there is none.
    """
    uv, seen = visible(block, camera_from_world, camera, gates)
    appearances, size, dim = block.descriptors.shape
    similarities = (block.descriptors.reshape(-1, dim) @ features.descriptors.T).reshape(
        appearances, size, -1
    )
    # Not `.max(0)`: XLA's CPU reduction over a leading axis is five times slower than this chain.
    similarity = functools.reduce(jnp.maximum, [similarities[i] for i in range(appearances)])
    du = uv[:, None, 0] - features.uv[None, :, 0]
    dv = uv[:, None, 1] - features.uv[None, :, 1]
    near = (du * du + dv * dv < gates.radius**2) & seen[:, None] & features.mask[None, :]
    # Five reductions read the scores: without the barrier XLA computes them five times over.
    score = jax.lax.optimization_barrier(jnp.where(near, similarity, -1.0))

    best = jnp.max(score, axis=1)
    # argmax over a big matrix is slow on CPU; the least index that reaches the maximum is not.
    best_feature = _first_at_least(score, best[:, None], axis=1)
    others = jnp.where(jnp.arange(score.shape[1])[None, :] == best_feature[:, None], -1.0, score)
    second = jnp.max(others, axis=1)
    feature_best = jnp.max(score, axis=0)

    distance = jnp.sqrt(jnp.maximum(2 - 2 * best, 0.0))
    second_distance = jnp.sqrt(jnp.maximum(2 - 2 * second, 0.0))
    good = (
        (best > gates.min_cosine)
        & (best >= feature_best[best_feature])
        & (distance < gates.match_ratio * second_distance)
    )
    target = jnp.where(good, best_feature, features.mask.shape[0])
    matches = jnp.full(features.mask.shape, NO_MATCH, jnp.int32)
    return matches.at[target].set(jnp.arange(target.shape[0], dtype=jnp.int32), mode="drop")


def _first_at_least(values: jax.Array, threshold: jax.Array, axis: int) -> jax.Array:
    """Least index along `axis` whose value reaches the threshold."""
    index = jax.lax.broadcasted_iota(jnp.int32, values.shape, axis)
    found = jnp.min(jnp.where(values >= threshold, index, values.shape[axis]), axis=axis)
    return jnp.minimum(found, values.shape[axis] - 1)
