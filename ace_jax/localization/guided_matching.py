"""Guided matching: landmarks are projected with a pose and compared with the features nearby.

On the host: only neighbours are compared, found by k-d trees. A dense table of similarities
has a thousand times as many, and on a CPU it was the greater part of tracking.
"""

import flax.struct
import jax
import numpy as np
from scipy.spatial import cKDTree

from ace_jax.features.base import Features
from ace_jax.geometry import rigid
from ace_jax.geometry.camera import MIN_DEPTH, Camera
from ace_jax.geometry.host_camera import project

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
    block: LandmarkBlock, camera_from_world: np.ndarray, camera: Camera, gates: MatchGates
) -> tuple[np.ndarray, np.ndarray]:
    """Projections (P, 2) and whether each landmark can be seen (P,) from a (4, 4) pose.

    The projection of a landmark that cannot be seen may be anywhere; it is finite.
    """
    in_camera = rigid.transform(camera_from_world, block.points)
    uv = project(in_camera, camera)
    u, v = uv.T
    to_camera = rigid.centre(camera_from_world) - block.points
    distance = np.sqrt(np.einsum("pi,pi->p", to_camera, to_camera))
    cosine = np.einsum("pi,pi->p", to_camera, block.view_directions) / np.maximum(distance, 1e-6)
    ratio = distance / np.maximum(block.distances, 1e-6)
    seen = (
        block.mask
        & (in_camera[:, 2] > MIN_DEPTH)
        & (u >= 0)
        & (u <= camera.width - 1)
        & (v >= 0)
        & (v <= camera.height - 1)
        & (cosine > gates.cos_max_view_angle)
        & (ratio < gates.max_scale_change)
        & (ratio > 1 / gates.max_scale_change)
    )
    return np.where(np.isfinite(uv), uv, 0.0), seen


def neighbours(
    uv: np.ndarray, mask: np.ndarray, other_uv: np.ndarray, other_mask: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of points (N, 2) and others (M, 2), both unmasked, at most `radius` apart.

    Returns:
        Their indices.
    """
    index, other = np.flatnonzero(mask), np.flatnonzero(other_mask)
    if len(index) == 0 or len(other) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    pairs = cKDTree(uv[index]).sparse_distance_matrix(
        cKDTree(other_uv[other]), radius, output_type="ndarray"
    )
    return index[pairs["i"]], other[pairs["j"]]


def guided_match(
    block: LandmarkBlock,
    features: Features,
    camera_from_world: np.ndarray,
    camera: Camera,
    gates: MatchGates,
) -> np.ndarray:
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
    matches = np.full(len(features.mask), NO_MATCH, np.int32)
    uv, seen = visible(block, camera_from_world, camera, gates)
    landmark, feature = neighbours(uv, seen, features.uv, features.mask, float(gates.radius))
    if len(landmark) == 0:
        return matches
    theirs = features.descriptors[feature]
    similarity = np.einsum("pd,pd->p", block.descriptors[0, landmark], theirs)
    for appearance in block.descriptors[1:]:
        similarity = np.maximum(similarity, np.einsum("pd,pd->p", appearance[landmark], theirs))

    order = np.lexsort((feature, -similarity, landmark))
    landmark, feature, similarity = landmark[order], feature[order], similarity[order]
    first = np.flatnonzero(np.diff(landmark, prepend=-1))
    count = np.diff(first, append=len(landmark))
    second = similarity[np.minimum(first + 1, len(landmark) - 1)]
    second = np.where(count > 1, second, -1.0)
    of_feature = np.full(len(features.mask), -1.0, np.float32)
    np.maximum.at(of_feature, feature, similarity)
    landmark, feature, best = landmark[first], feature[first], similarity[first]
    distance, second_distance = (np.sqrt(np.maximum(2 - 2 * s, 0.0)) for s in (best, second))
    good = (
        (best > gates.min_cosine)
        & (best >= of_feature[feature])
        & (distance < gates.match_ratio * second_distance)
    )
    matches[feature[good]] = landmark[good]
    return matches
