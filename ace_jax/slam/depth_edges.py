"""Keyframes tied to each other by their depth images.

Landmarks say where keyframes lie to each other; registering their depth images says it once more,
from whole surfaces. How far that is to be believed depends on the sensor. A rendered image is
exact; a Kinect's is bent by centimetres, smoothly, so that its registration looks precise and is
not, and bent alike for many pairs, so that they do not average out. So the information of all
registrations is scaled down by how far they differ from the landmarks, in units of what they claim.
"""

import collections
from collections.abc import Container, Sequence
from typing import NamedTuple

import numpy as np

from ace_jax.slam.depth_registration import Registration
from ace_jax.slam.relative_poses import RelativePoses

MEMORY = 40  # registrations over which their disagreement with the landmarks is taken
TRUST_AFTER = 6  # registrations
DEGREES_OF_FREEDOM = 6


class _Edge(NamedTuple):
    """A registration, and how far such ones were trusted when it was made."""

    other_from_camera: np.ndarray
    information: np.ndarray
    trust: float


class DepthEdges:
    """Registrations of pairs of keyframes.

    Args:
        capacity: edges of one window; more are left out.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._edges: dict[tuple[int, int], _Edge] = {}
        self._untried: list[tuple[int, int]] = []  # made before there was any trust
        self._disagreement: collections.deque[float] = collections.deque(maxlen=MEMORY)

    def __len__(self) -> int:
        return len(self._edges)

    def add(self, number: int, others: Sequence[int], found: Registration) -> None:
        """Notes how a keyframe was registered to others.

        Args:
            number: of the keyframe.
            others: numbers of B keyframes.
            found: of B pairs or more; the rest is padding.
        """
        for row, other in enumerate(others):
            if not found.success[row]:
                continue
            move = np.asarray(found.move[row], np.float64)
            information = np.asarray(found.information[row], np.float64)
            self._disagreement.append(float(move @ information @ move) / DEGREES_OF_FREEDOM)
            self._edges[number, other] = _Edge(found.other_from_camera[row], information, 0.0)
            self._untried.append((number, other))
        if len(self._disagreement) >= TRUST_AFTER:
            # A sensor that is understood better later did not see better before.
            for pair in self._untried:
                self._edges[pair] = self._edges[pair]._replace(trust=self.trust)
            self._untried.clear()

    def keep(self, numbers: Container[int]) -> None:
        """Drops the edges of all other keyframes."""
        self._edges = {
            pair: edge for pair, edge in self._edges.items() if all(n in numbers for n in pair)
        }
        self._untried = [pair for pair in self._untried if pair in self._edges]

    @property
    def trust(self) -> float:
        """Factor on the information, 0 to 1.

        The inverse square of the disagreement (the median of squared errors in units of the
        claimed covariance), so that a sensor whose registrations are off by a few of their standard
        deviations has no say.
        """
        if len(self._disagreement) < TRUST_AFTER:
            return 0.0
        return min(float(np.median(self._disagreement)) ** -2, 1.0)

    def within(self, window: np.ndarray, rows: np.ndarray, num_free: int) -> RelativePoses:
        """The edges in a window, the newest first, padded to the capacity.

        Args:
            window: (W,) numbers of keyframes.
            rows: (W,) the row of each in bundle adjustment.
            num_free: rows below may move; edges between others tell nothing.
        """
        row_of = dict(zip(window.tolist(), rows.tolist(), strict=True))
        first, second = np.zeros((2, self._capacity), np.int32)
        poses = np.tile(np.eye(4, dtype=np.float32), (self._capacity, 1, 1))
        information = np.zeros((self._capacity, 6, 6), np.float32)
        place, trust = 0, self.trust
        for (number, other), edge in reversed(self._edges.items()):
            if place == self._capacity:
                break
            i, j = row_of.get(number), row_of.get(other)
            if i is None or j is None or min(i, j) >= num_free:
                continue
            first[place], second[place] = i, j
            poses[place] = edge.other_from_camera
            information[place] = min(edge.trust, trust) * edge.information
            place += 1
        return RelativePoses(first, second, poses, information)
