"""Association of two lists of times, as the TUM benchmark's tool does it."""

import numpy as np

MAX_DIFFERENCE = 0.02  # seconds; the TUM benchmark's own default


def associate(
    first: np.ndarray, second: np.ndarray, max_difference: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs times one-to-one, the closest pairs first.

    Args:
        first: (N,) seconds, in any order.
        second: (M,) seconds, in any order.
        max_difference: seconds; pairs further apart are not made.

    Returns:
        Indices into `first` and into `second`, both (K,), ordered by the time in `first`.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    order = np.argsort(second, kind="stable")
    ordered = second[order]
    begin = np.searchsorted(ordered, first - max_difference, side="left")
    end = np.searchsorted(ordered, first + max_difference, side="right")
    count = np.maximum(end - begin, 0)
    i = np.repeat(np.arange(len(first)), count)
    offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    j = order[np.repeat(begin, count) + offset]
    closest = np.argsort(np.abs(first[i] - second[j]), kind="stable")
    free_first, free_second = np.ones(len(first), bool), np.ones(len(second), bool)
    pairs = []
    for a, b in zip(i[closest].tolist(), j[closest].tolist(), strict=True):
        if free_first[a] and free_second[b]:
            free_first[a] = free_second[b] = False
            pairs.append((a, b))
    matched = np.array(pairs, int).reshape(-1, 2)
    matched = matched[np.argsort(first[matched[:, 0]], kind="stable")]
    return matched[:, 0], matched[:, 1]
