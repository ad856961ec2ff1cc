"""Landmark selection under a budget: every mapping image keeps enough of those that it sees.

The total number of landmarks does not show how well a place is covered. The criterion is how many
landmarks each mapping image sees. All images share one order of landmarks, the best first,
and each image has a claim to its own first ones. Images of the same place claim the same landmarks,
so that more images cost hardly more room, and another place costs as much as the first.
"""

import numpy as np


def claims(seen: np.ndarray, priority: np.ndarray) -> np.ndarray:
    """How early any image asks for each landmark.

    Args:
        seen: (I, K) int, the landmarks that each of I images sees, each once; negative: none.
        priority: (M,) the higher, the earlier in all images' lists; equal ones by row.

    Returns:
        (M,) int64: the landmark's best place, counted from 0, in the lists of the images that see
        it, each sorted by priority; M for a landmark that no image sees. Every image with k
        landmarks or more sees at least k of those whose claim is below k.
    """
    count = len(priority)
    place = np.empty(count, np.int64)
    place[np.argsort(-priority, kind="stable")] = np.arange(count)
    best = np.full(count, count, np.int64)
    for rows in seen:
        rows = rows[rows >= 0]
        rows = rows[np.argsort(place[rows])]
        best[rows] = np.minimum(best[rows], np.arange(len(rows)))
    return best


def admitted(claim: np.ndarray, sure: np.ndarray, per_image: int, room: int) -> np.ndarray:
    """(M,) bool: the sure landmarks, and the others that an image needs or that find room.

    Args:
        claim: see `claims`.
        sure: (M,) bool, those that are kept in any case.
        per_image: an image needs its first so many.
        room: landmarks for which there is room in any case.
    """
    free, waiting = room - int(sure.sum()), np.sort(claim[~sure])
    share = per_image
    if 0 < free <= len(waiting):
        share = max(share, int(waiting[free - 1]))
    elif free > len(waiting):
        share = len(claim) + 1
    return sure | (claim < share)


def how_many(claim: np.ndarray, per_image: int, least: int, most: int) -> int:
    """Landmarks to keep: `per_image` for every image, not fewer than `least` or more than `most`.

    Args:
        claim: see `claims`.
        per_image: landmarks that each image is to see; images that have fewer see all of theirs.
        least: room that is there in any case.
        most: room that there is at most.
    """
    return min(max(int((claim < per_image).sum()), min(least, len(claim))), most)
