"""Guided search: landmarks looked up among the features of an image whose pose is about known.

A landmark is projected into the image and compared with the features around that place. That
needs no global search, tells apart what looks alike in different places, and uses every landmark
in view: it builds and refines landmarks while mapping, and refines poses while relocalizing.
"""

import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.geometry import se3
from ace_jax.geometry.camera import MIN_DEPTH, Camera, project
from ace_jax.precision import full_precision

_FAR = -2.0  # similarity of a feature outside the search radius: below every cosine
_BLOCK = 128  # landmarks at once: their similarities stay in the cache


@flax.struct.dataclass
class Landmarks:
    """M landmarks.

    Attributes:
        descriptors: (M, D) unit length.
        points: (M, 3) world, metres.
        origins: (M, 3) camera centre that each was first seen from, world, metres; NaN if unknown.
        views: (M,) int32 number of images in which it was found; 0 for an empty row.
    """

    descriptors: jax.Array
    points: jax.Array
    origins: jax.Array
    views: jax.Array


@flax.struct.dataclass
class Sighting:
    """Which of N features shows each of M landmarks.

    Attributes:
        feature: (M,) int32, meaningful where found.
        similarity: (M,) its similarity.
        found: (M,) bool. One-to-one: no two landmarks have found the same feature.
    """

    feature: jax.Array
    similarity: jax.Array
    found: jax.Array


@full_precision
def visible(
    landmarks: Landmarks,
    camera: Camera,
    camera_from_world: jax.Array,
    max_angle_cos: float = 0.6,
    max_scale: float = 1.7,
) -> tuple[jax.Array, jax.Array]:
    """Which landmarks may be seen, and where.

    A landmark counts if it lies in the image and appears much as it did from its origin:
    direction within about 53 degrees, distance within a factor of 1.7. Beyond that, descriptors
    no longer match.

    Returns:
        (M,) bool and (M, 2) pixels.
    """
    point = se3.transform(camera_from_world, landmarks.points)
    uv = project(point, camera)
    u, v = uv.T
    inside = (point[:, 2] > MIN_DEPTH) & (u >= 0) & (u < camera.width)
    inside = inside & (v >= 0) & (v < camera.height)
    before = landmarks.points - landmarks.origins
    now = landmarks.points - se3.inverse(camera_from_world)[:3, 3]
    r0, r1 = jnp.linalg.norm(before, axis=1), jnp.linalg.norm(now, axis=1)
    alike = jnp.sum(before * now, axis=1) > max_angle_cos * r0 * r1
    alike = alike & (r1 < max_scale * r0) & (r0 < max_scale * r1)
    alike = alike | jnp.isnan(landmarks.origins[:, 0])
    return inside & alike & (landmarks.views > 0), uv


@full_precision
def search(
    descriptors: jax.Array,
    expected_uv: jax.Array,
    wanted: jax.Array,
    features: jax.Array,
    features_uv: jax.Array,
    features_mask: jax.Array,
    radius: jax.Array | float,
    min_similarity: jax.Array | float,
    rows: jax.Array | None = None,
    established: jax.Array | None = None,
) -> Sighting:
    """Matches M landmarks with N features near the places where they are expected.

    Args:
        descriptors: (M, D) of the landmarks, of any length.
        expected_uv: (M, 2) pixels.
        wanted: (M,) bool. What comes after the last one takes no time.
        features: (N, D) descriptors.
        features_uv: (N, 2) pixels.
        features_mask: (N,) bool.
        radius: search radius, pixels.
        min_similarity: least cosine.
        rows: (M,) the landmarks' rows in a larger table of `descriptors`; None: row by row.
        established: (M,) bool, landmarks that come before the others where several match one
            feature; among equals the most similar one has found it.
    """
    count = expected_uv.shape[0]
    rows = jnp.arange(count) if rows is None else rows
    last = jnp.max(jnp.where(wanted, jnp.arange(count), -1))
    # Unwanted landmarks are expected nowhere.
    place = jnp.where(wanted[:, None], expected_uv, jnp.inf)
    column = jnp.arange(features.shape[0], dtype=jnp.int32)
    # Likewise for masked features; inf - inf is NaN, which is not near either.
    features_uv = jnp.where(features_mask[:, None], features_uv, jnp.inf)
    table = features.T

    padding = -count % _BLOCK
    rows = jnp.pad(rows, (0, padding))
    place = jnp.pad(place, ((0, padding), (0, 0)), constant_values=jnp.inf)

    def block(index: jax.Array, answer: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        start = index * _BLOCK
        known = descriptors[jax.lax.dynamic_slice_in_dim(rows, start, _BLOCK)]
        known = known / jnp.maximum(jnp.linalg.norm(known, axis=1, keepdims=True), 1e-6)
        at = jax.lax.dynamic_slice_in_dim(place, start, _BLOCK)
        du = at[:, 0, None] - features_uv[None, :, 0]
        dv = at[:, 1, None] - features_uv[None, :, 1]
        near = du * du + dv * dv < radius**2
        similarity = jnp.where(near, known @ table, _FAR)
        best = similarity.max(axis=1)
        # XLA's argmax is slow on CPUs.
        first = jnp.where(similarity >= best[:, None], column, column.size).min(axis=1)
        return tuple(
            jax.lax.dynamic_update_slice_in_dim(old, new, start, 0)
            for old, new in zip(answer, (best, first), strict=True)
        )

    nothing = jnp.full(count + padding, _FAR), jnp.zeros(count + padding, jnp.int32)
    answer = jax.lax.fori_loop(0, (last + _BLOCK) // _BLOCK, block, nothing)
    best, feature = (x[:count] for x in answer)
    feature = jnp.minimum(feature, column.size - 1)
    matched = best > min_similarity
    rank = best if established is None else best + 2.0 * established  # cosines differ by 2 at most
    rank = jnp.where(matched, rank, _FAR)
    rival = jnp.full(column.size, _FAR).at[feature].max(rank)
    found = matched & (rank >= rival[feature])
    return Sighting(feature=feature, similarity=best, found=found)


def first_rows(chosen: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Indices (count,) of the first True rows, and which of them are meant."""
    index = jnp.nonzero(chosen, size=count, fill_value=0)[0]
    return index, jnp.arange(count) < chosen.sum()
