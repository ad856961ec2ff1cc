"""Guided matching: features matched with landmarks near the landmarks' projections from a pose.

There is no global search, so that similar descriptors in different places are not confused, and
every landmark in view is used. There are two implementations: on the host, k-d trees find the
neighbours of few features among some thousand landmarks around a tracked camera; on the device,
blocks of landmarks are compared with all features, within a compiled program.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.localization.landmarks import Landmarks, MatchGates, visible
from ace_jax.precision import full_precision

NO_MATCH = -1
_FAR = -2.0  # similarity of a feature outside the search radius: below every cosine
_MOST_CELLS = 256  # along a side, of the grid that `neighbours` sorts points into
_BLOCK = 128  # landmarks at once: their similarities stay in the cache (measured on CPUs)
_BAND = 128  # features at once, likewise


def neighbours(
    uv: np.ndarray, mask: np.ndarray, other_uv: np.ndarray, other_mask: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of points (N, 2) and others (M, 2), both unmasked, at most `radius` apart.

    The others are sorted into cells at least as wide as the radius; a point looks into nine of
    them, three of a row at once. K-d trees find the same pairs, in twice the time.

    Returns:
        Their indices.
    """
    index, other = np.flatnonzero(mask), np.flatnonzero(other_mask)
    if len(index) == 0 or len(other) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    points, others = uv[index].astype(np.float64), other_uv[other].astype(np.float64)
    low, high = others.min(axis=0), others.max(axis=0)
    size = max(radius, float((high - low).max()) / _MOST_CELLS, 1e-6)
    cells = np.floor((points - low) / size).astype(np.int64)
    their_cells = np.floor((others - low) / size).astype(np.int64)
    # Numbered row by row, with an empty column at each end; a point far outside looks into one.
    columns, rows = their_cells.max(axis=0) + 3
    cells = np.clip(cells, -1, (columns - 2, rows - 2))
    their_number = (their_cells[:, 1] + 1) * columns + their_cells[:, 0] + 1
    order = np.argsort(their_number, kind="stable")
    before = np.concatenate([[0], np.cumsum(np.bincount(their_number, minlength=columns * rows))])
    number = ((cells[:, 1, None] + np.arange(3)) * columns + cells[:, 0, None]).ravel()
    first, last = (before[np.clip(at, 0, columns * rows)] for at in (number, number + 3))
    count = last - first
    start = np.cumsum(count) - count
    j = order[np.arange(count.sum()) + np.repeat(first - start, count)]
    i = np.repeat(np.repeat(np.arange(len(points)), 3), count)
    apart = points[i] - others[j]
    near = apart[:, 0] ** 2 + apart[:, 1] ** 2 <= radius * radius
    return index[i[near]], other[j[near]]


def guided_match(
    landmarks: Landmarks,
    features: Features,
    camera_from_world: np.ndarray,
    camera: Camera,
    gates: MatchGates,
) -> np.ndarray:
    """One-to-one matches of features to landmarks near their projections.

    A pair is kept if each is the other's most similar candidate within the radius, and the
    landmark's second-best feature is clearly worse.

    Args:
        landmarks: M landmarks; a landmark is as similar as the best of its appearances.
        features: N features.
        camera_from_world: (4, 4) predicted pose.
        camera: intrinsics of the image that `features.uv` refers to.
        gates: thresholds.

    Returns:
        (N,) int32 landmark of each feature, -1 where there is none.
    """
    matches = np.full(len(features.mask), NO_MATCH, np.int32)
    uv, seen = visible(landmarks, camera_from_world, camera, gates)
    landmark, feature = neighbours(uv, seen, features.uv, features.mask, float(gates.radius))
    if len(landmark) == 0:
        return matches
    theirs, appearances = features.descriptors[feature], np.swapaxes(landmarks.descriptors, 0, 1)
    similarity = np.einsum("pd,pd->p", appearances[0, landmark], theirs)
    for appearance in appearances[1:]:
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


def _geometry_of(landmarks: Landmarks, rows: jax.Array) -> Landmarks:
    """Landmarks of these rows (K,), empty for a row too large; their descriptors stay where they
    are."""
    arrays = {
        name: getattr(landmarks, name).at[rows].get(mode="fill", fill_value=0)
        for name in ("points", "view_directions", "distances", "views")
    }
    return landmarks.replace(**arrays)


@full_precision
def guided_match_on_device(
    landmarks: Landmarks,
    features: Features,
    camera_from_world: jax.Array,
    camera: Camera,
    gates: MatchGates,
    most: int | None = None,
    established_first: bool = False,
    among: jax.Array | None = None,
) -> jax.Array:
    """One-to-one matches of features to landmarks near their projections, inside a program.

    Each landmark takes its most similar feature within the radius; of several landmarks that take
    one feature the most similar one has it.

    Args:
        landmarks: M landmarks, descriptors of any length.
        features: N features.
        camera_from_world: (4, 4) predicted pose.
        camera: intrinsics.
        gates: thresholds; `match_ratio` is not used.
        most: so many landmarks in view are compared at most, those of the first rows; static.
        established_first: landmarks found in two images or more come before the others where
            several take one feature: while landmarks are made, what one image saw else takes
            features away from the landmark that it should have been. Static.
        among: (K,) int32 rows of the landmarks that take part, M for none: a query in a large map
            looks at few of them. None: all.

    Returns:
        (N,) int32 landmark of each feature, -1 where there is none.
    """
    candidates = landmarks if among is None else _geometry_of(landmarks, among)
    expected, seen = visible(candidates, camera_from_world, camera, gates)
    count = min(len(seen), most or len(seen))
    rows = jnp.nonzero(seen, size=count, fill_value=0)[0].astype(jnp.int32)
    total = jnp.minimum(seen.sum(), count)  # the rest takes no time
    # Both sorted from top to bottom, a block of landmarks meets the features of a band. Unseen
    # landmarks and masked features are infinitely low: they are in no band.
    place = jnp.where((jnp.arange(count) < total)[:, None], expected[rows], jnp.inf)
    downwards = jnp.argsort(place[:, 1])
    rows, place = rows[downwards], place[downwards]
    rows = rows if among is None else among[rows]
    theirs = jnp.where(features.mask[:, None], features.uv, jnp.inf)
    column = jnp.argsort(theirs[:, 1]).astype(jnp.int32)
    theirs, table = theirs[column], features.descriptors[column]
    _, appearances, dim = landmarks.descriptors.shape
    band = min(_BAND, column.size)

    padding = -count % _BLOCK
    padded_rows = jnp.pad(rows, (0, padding))
    place = jnp.pad(place, ((0, padding), (0, 0)), constant_values=jnp.inf)

    def block(index: jax.Array, answer: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        start = index * _BLOCK
        known = landmarks.descriptors[jax.lax.dynamic_slice_in_dim(padded_rows, start, _BLOCK)]
        known = known / jnp.maximum(jnp.linalg.norm(known, axis=-1, keepdims=True), 1e-6)
        known = known.reshape(-1, dim)
        at = jax.lax.dynamic_slice_in_dim(place, start, _BLOCK)
        lowest = jnp.where(jnp.isfinite(at[:, 1]), at[:, 1], -jnp.inf).max()
        first = jnp.sum(theirs[:, 1] < at[0, 1] - gates.radius)
        last = jnp.sum(theirs[:, 1] <= lowest + gates.radius)

        def compare(step: jax.Array, found: tuple[jax.Array, jax.Array]) -> tuple:
            best, feature = found
            begin = jnp.minimum(first + step * band, column.size - band)
            uv = jax.lax.dynamic_slice_in_dim(theirs, begin, band)
            du = at[:, 0, None] - uv[None, :, 0]
            dv = at[:, 1, None] - uv[None, :, 1]
            near = du * du + dv * dv < gates.radius**2
            similarity = known @ jax.lax.dynamic_slice_in_dim(table, begin, band).T
            similarity = similarity.reshape(_BLOCK, appearances, -1).max(axis=1)
            similarity = jnp.where(near, similarity, _FAR)
            most_similar = similarity.max(axis=1)
            # XLA's argmax is slow on CPUs.
            index = jnp.arange(band, dtype=jnp.int32)
            its = jnp.where(similarity >= most_similar[:, None], index, band - 1).min(axis=1)
            better = most_similar > best
            return jnp.maximum(best, most_similar), jnp.where(better, begin + its, feature)

        nothing = jnp.full(_BLOCK, _FAR), jnp.zeros(_BLOCK, jnp.int32)
        found = jax.lax.fori_loop(0, (last - first + band - 1) // band, compare, nothing)
        return tuple(
            jax.lax.dynamic_update_slice_in_dim(old, new, start, 0)
            for old, new in zip(answer, found, strict=True)
        )

    nothing = jnp.full(count + padding, _FAR), jnp.zeros(count + padding, jnp.int32)
    answer = jax.lax.fori_loop(0, (total + _BLOCK - 1) // _BLOCK, block, nothing)
    best, feature = (x[:count] for x in answer)
    feature = column[feature]
    matched = best > gates.min_cosine
    # Cosines differ by 2 at most.
    rank = best + 2.0 * (landmarks.views[rows] > 1) if established_first else best
    rank = jnp.where(matched, rank, _FAR)
    rival = jnp.full(column.size, _FAR).at[feature].max(rank)
    found = matched & (rank >= rival[feature])
    matches = jnp.full(column.size, NO_MATCH, jnp.int32)
    return matches.at[jnp.where(found, feature, column.size)].set(rows, mode="drop")
