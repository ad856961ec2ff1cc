"""Image retrieval for large maps: a query attends to landmarks of the most similar images only.

A place is a mapping image: the landmarks that it sees, and a signature of its features. Signatures
are aggregated residuals to a few visual words (VLAD: Jegou et al., CVPR 2010; each word of unit
length: Arandjelovic and Zisserman, CVPR 2013), of which the principal components are kept. The cost
of a query hardly depends on the size of the map then, and rooms that are not in view do not take
part in the attention.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.errors import UserError
from ace_jax.localization.landmarks import Landmarks
from ace_jax.models.landmark_attention import EMPTY
from ace_jax.precision import full_precision
from ace_jax.programs import program

HEAD_ROWS = 8192  # landmarks that a query attends to; a map with fewer in its head has no places
WORDS, COMPONENTS = 64, 8
_MOST = 64  # places that are looked at for them
_SAMPLE = 20_000  # features that the words are learned from
_ROUNDS = 6  # of k-means
_TINY = 1e-6


@flax.struct.dataclass
class Places:
    """P places of a map with M landmarks.

    Attributes:
        words: (W, D) unit descriptors.
        axes: (D, C) principal components of the residuals.
        mean: (W * C,) of the signatures.
        signatures: (P, W * C) unit length, without the mean.
        landmarks: (P, L) int32 rows of the map's landmarks that each sees; M beyond their number.
    """

    words: jax.Array
    axes: jax.Array
    mean: jax.Array
    signatures: jax.Array
    landmarks: jax.Array


@full_precision
def signature(
    words: jax.Array, axes: jax.Array, descriptors: jax.Array, mask: jax.Array
) -> jax.Array:
    """(W * C,) the signature of features (N, D), its mean not yet subtracted."""
    similarity = descriptors @ words.T
    index = jnp.arange(words.shape[0])
    best = similarity.max(axis=1, keepdims=True)
    word = jnp.where(similarity >= best, index, words.shape[0] - 1).min(axis=1)
    weight = ((word[:, None] == index) & mask[:, None]).astype(jnp.float32)
    # Summed before they are projected: sum of (f - word) over the features of a word.
    residuals = weight.T @ descriptors - weight.sum(axis=0)[:, None] * words
    projected = residuals @ axes
    length = jnp.linalg.norm(projected, axis=1, keepdims=True)
    return (projected / jnp.maximum(length, _TINY)).ravel()


_signature = program(signature)


@full_precision
def nearest_places(places: Places, descriptors: jax.Array, mask: jax.Array) -> jax.Array:
    """(K,) int32 the places that look most like an image with features (N, D), the best first."""
    own = signature(places.words, places.axes, descriptors, mask) - places.mean
    alike = places.signatures @ own
    return jax.lax.top_k(alike, min(_MOST, len(alike)))[1].astype(jnp.int32)


def landmarks_near(
    places: Places, found: jax.Array, rows: int, in_head: int, landmarks: int
) -> jax.Array:
    """The landmarks of the best places, as many places as have room in the head.

    Args:
        places: of the map.
        found: (K,) see `nearest_places`.
        rows: landmarks of the head that there is room for; static.
        in_head: landmarks of the head, the first of the map; static.
        landmarks: landmarks of the map; static.

    Returns:
        (K,) int32 which landmarks these places see, in order and so the head's first, `landmarks`
        beyond their number. K is twice `rows`, or all landmarks: a place sees hardly more than half
        of its landmarks outside of the head.
    """
    last = len(found)
    rank = jnp.full(landmarks, last, jnp.int32)
    rank = rank.at[places.landmarks[found]].min(
        jnp.arange(last, dtype=jnp.int32)[:, None], mode="drop"
    )
    of_head = rank[:in_head]
    together = jnp.cumsum(jnp.zeros(last, jnp.int32).at[of_head].add(1, mode="drop"))
    used = jnp.maximum(jnp.sum(together <= rows), 1)
    size = min(2 * rows, landmarks)
    return jnp.nonzero(rank < used, size=size, fill_value=landmarks)[0].astype(jnp.int32)


def rows_of(variables: Mapping[str, Any], chosen: jax.Array) -> dict[str, Any]:
    """Variables of a landmark-attention head with these rows (R,); a row too large holds none."""
    params = dict(variables["params"])
    for name, empty in (("descriptors", 0.0), ("points", 0.0), ("bias", EMPTY)):
        params[name] = params[name].at[chosen].get(mode="fill", fill_value=empty)
    return {**variables, "params": params}


def words_of(descriptors: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Visual words (W, D) of images' descriptors (N, D), and the axes (D, C) of their residuals."""
    rng = np.random.default_rng(0)
    share = max(_SAMPLE // len(descriptors), 1)
    sample = np.concatenate(
        [d[rng.permutation(len(d))[:share]].astype(np.float32) for d in descriptors]
    )
    sample = sample[rng.permutation(len(sample))[:_SAMPLE]]
    words = sample[rng.permutation(len(sample))[:WORDS]]
    for _ in range(_ROUNDS):
        member = np.eye(len(words), dtype=np.float32)[(sample @ words.T).argmax(axis=1)]
        total = member.T @ sample
        length = np.linalg.norm(total, axis=1, keepdims=True)
        words = np.where(length > _TINY, total / np.maximum(length, _TINY), words)
    residuals = sample - words[(sample @ words.T).argmax(axis=1)]
    _, axes = np.linalg.eigh(residuals.T @ residuals)
    return words, axes[:, -COMPONENTS:].astype(np.float32)


def place_arrays(
    descriptors: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    shown: Sequence[np.ndarray],
    known: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Places as arrays of a map file.

    Args:
        descriptors: of each place's features (N, D).
        masks: of each (N,) bool.
        shown: of each (N,) the row of the landmark that each feature shows, negative for none.
        known: arrays of an earlier map, whose words stay and whose places come first; their
            landmarks are rows of the new map. None: there are none.

    Returns:
        Words, axes, signatures (P, W * C) with their mean, landmarks of all places in a row, and
        where those of each place end.
    """
    if known is None:
        step = -(-len(masks) // 1000)
        words, axes = words_of(
            [np.asarray(d)[m] for d, m in zip(descriptors[::step], masks[::step], strict=True)]
        )
    else:
        words, axes = known["place_words"], known["place_axes"]
    signatures = [
        np.asarray(_signature(words, axes, np.asarray(d, np.float32), mask))
        for d, mask in zip(descriptors, masks, strict=True)
    ]
    rows = [np.unique(row[row >= 0]).astype(np.int32) for row in shown]
    ends = np.cumsum([len(r) for r in rows])
    if known is not None:
        old = known["place_landmarks"]
        signatures = [*known["place_signatures"], *signatures]
        rows = [old, *rows]
        ends = np.concatenate([known["place_ends"], len(old) + ends])
    return {
        "place_words": words,
        "place_axes": axes,
        "place_signatures": np.stack(signatures).astype(np.float16),
        "place_landmarks": np.concatenate(rows).astype(np.int32),
        "place_ends": ends.astype(np.int32),
    }


def moved_places(extra: Mapping[str, np.ndarray], moved: np.ndarray) -> dict[str, np.ndarray]:
    """The places of a map whose landmarks (M,) are now these rows, negative where they are gone."""
    arrays = part_of(extra)
    rows = moved[arrays["place_landmarks"]]
    before = np.concatenate([[0], np.cumsum(rows >= 0)])
    return arrays | {
        "place_landmarks": rows[rows >= 0].astype(np.int32),
        "place_ends": before[arrays["place_ends"].astype(int)].astype(np.int32),
    }


def part_of(extra: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a map that are its places; none if it has none."""
    return {name: array for name, array in extra.items() if name.startswith("place_")}


def groups_of(landmarks: Landmarks, most: int = 512) -> list[np.ndarray]:
    """Landmarks of which no images are known, in groups as an image sees them: rows of each.

    They are halved until they are few, along the widest axis of where they are and where they were
    seen from.
    """
    points = np.asarray(landmarks.points)
    seen_from = np.asarray(landmarks.viewpoints)
    where = np.concatenate([points, np.where(np.isfinite(seen_from), seen_from, points)], axis=1)
    groups, waiting = [], [np.arange(len(points))]
    while waiting:
        rows = waiting.pop()
        if len(rows) <= most:
            groups.append(rows)
            continue
        order = rows[np.argsort(where[rows, np.ptp(where[rows], axis=0).argmax()], kind="stable")]
        waiting += [order[: len(order) // 2], order[len(order) // 2 :]]
    return groups


def _check(extra: Mapping[str, np.ndarray], landmarks: int) -> None:
    words, axes, signatures, rows, ends = (
        extra[f"place_{name}"] for name in ("words", "axes", "signatures", "landmarks", "ends")
    )
    size = words.shape[0] * axes.shape[1]
    if axes.shape[0] != words.shape[1] or signatures.shape != (len(ends), size):
        raise ValueError("their shapes do not fit")
    if not all(np.isfinite(array).all() for array in (words, axes, signatures)):
        raise ValueError("they are not finite")
    if (np.diff(ends, prepend=0) < 0).any() or ends[-1] != len(rows):
        raise ValueError("their ends are wrong")
    if len(rows) and (rows.min() < 0 or rows.max() >= landmarks):
        raise ValueError("they show landmarks that are not there")


def places_of(extra: Mapping[str, np.ndarray], landmarks: int) -> Places | None:
    """The places in a map's `extra` arrays, on the host; None if it has none that are whole.

    Args:
        extra: of the map.
        landmarks: so many landmarks has the map.

    Raises:
        UserError: they do not fit each other or the map.
    """
    if "place_ends" not in extra:
        return None
    try:
        _check(extra, landmarks)
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(f"the map's places are damaged ({error}); map again") from error
    ends, rows = extra["place_ends"].astype(int), extra["place_landmarks"].astype(np.int32)
    starts = np.concatenate([[0], ends[:-1]])
    listed = np.full((len(ends), max(int((ends - starts).max()), 1)), landmarks, np.int32)
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        listed[place, : end - start] = rows[start:end]
    signatures = extra["place_signatures"].astype(np.float32)
    mean = signatures.mean(axis=0)
    signatures = signatures - mean
    length = np.linalg.norm(signatures, axis=1, keepdims=True)
    return Places(
        words=extra["place_words"].astype(np.float32),
        axes=extra["place_axes"].astype(np.float32),
        mean=mean,
        signatures=signatures / np.maximum(length, _TINY),
        landmarks=listed,
    )
