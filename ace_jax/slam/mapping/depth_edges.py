"""Relative-pose edges between keyframes, from the registration of their depth images.

Shared landmarks constrain the relative pose of two keyframes; the registration of their depth
images constrains it again, from whole surfaces. How reliable that is depends on the sensor.
Rendered depth is exact; a Kinect's has a smooth systematic error of centimetres, so that its
registration looks more precise than it is, and the error is alike for many pairs, so that it does
not average out. So the information of all registrations is divided by the normalized disagreement
between registrations and landmarks.
"""

import collections
from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ace_jax.geometry.plane_registration import Registration
from ace_jax.geometry.relative_poses import RelativePoses
from ace_jax.slam.config import RegistrationConfig

DEGREES_OF_FREEDOM = 6


class _Edge(NamedTuple):
    """A registration, and how far such ones were trusted when it was made."""

    other_from_camera: np.ndarray
    information: np.ndarray
    trust: float


class DepthEdges:
    """Registrations of pairs of keyframes.

    Attributes:
        unlearned: keyframes, each with the others that it was registered to, that the depth's
            calibration was not learned from yet.
    """

    def __init__(self, config: RegistrationConfig = RegistrationConfig()) -> None:  # noqa: B008
        self._trust_after = config.trust_after
        self.unlearned: list[tuple[int, list[int]]] = []
        self._edges: dict[tuple[int, int], _Edge] = {}
        self._untried: list[tuple[int, int]] = []  # made before there was any trust
        self._disagreement: collections.deque[float] = collections.deque(maxlen=config.memory)

    def __len__(self) -> int:
        return len(self._edges)

    def add(self, number: int, others: Sequence[int], found: Registration) -> None:
        """Notes how a keyframe was registered to others.

        Args:
            number: of the keyframe.
            others: numbers of B keyframes.
            found: of B pairs or more; the rest is padding.
        """
        self.unlearned.append((number, list(others)))
        for row, other in enumerate(others):
            if not found.success[row]:
                continue
            move = np.asarray(found.move[row], np.float64)
            information = np.asarray(found.information[row], np.float64)
            self._disagreement.append(float(move @ information @ move) / DEGREES_OF_FREEDOM)
            self._edges[number, other] = _Edge(found.other_from_camera[row], information, 0.0)
            self._untried.append((number, other))
        if len(self._disagreement) >= self._trust_after:
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

    def content(self, place: Mapping[int, int]) -> dict[str, np.ndarray]:
        """The edges as arrays, as `adopt` takes them.

        Args:
            place: for each keyframe's number the one that it has there; edges of others are left
                out.
        """
        edges = [
            ((place[a], place[b]), edge, (a, b) in self._untried)
            for (a, b), edge in self._edges.items()
            if a in place and b in place
        ]
        unlearned = [
            (place[number], place[other])
            for number, others in self.unlearned
            if all(n in place for n in (number, *others))
            for other in others
        ]
        return {
            "pairs": np.array([pair for pair, _, _ in edges], np.int64).reshape(-1, 2),
            "poses": np.array([e.other_from_camera for _, e, _ in edges]).reshape(-1, 4, 4),
            "information": np.array([e.information for _, e, _ in edges]).reshape(-1, 6, 6),
            "trust": np.array([e.trust for _, e, _ in edges], np.float64),
            "untried": np.array([untried for _, _, untried in edges], bool),
            "disagreement": np.array(self._disagreement, np.float64),
            "unlearned": np.array(unlearned, np.int64).reshape(-1, 2),
        }

    def adopt(self, content: Mapping[str, np.ndarray], first: int, count: int) -> None:
        """Takes over the edges of another map, as newer ones than those that are here.

        Args:
            content: what `content` returned there, its keyframes counted from 0.
            first: the number that keyframe 0 has here; the others follow.
            count: how many there are.

        Raises:
            ValueError: arrays of wrong shapes, not finite, or of keyframes that are not there.
            KeyError: one is missing.
        """
        edges = len(content["pairs"])
        shapes = {
            "pairs": (edges, 2), "poses": (edges, 4, 4), "information": (edges, 6, 6),
            "trust": (edges,), "untried": (edges,),
            "disagreement": (content["disagreement"].size,),
            "unlearned": (len(content["unlearned"]), 2),
        }  # fmt: skip
        for name, shape in shapes.items():
            values = content[name]
            if values.shape != shape or not np.isfinite(values).all():
                raise ValueError(f"{name} of the registrations is not {shape} finite numbers")
        numbers = np.concatenate([content["pairs"], content["unlearned"]])
        if numbers.dtype.kind not in "iu" or np.any((numbers < 0) | (numbers >= count)):
            raise ValueError("registrations of keyframes that are not there")
        for i, (number, other) in enumerate((content["pairs"] + first).tolist()):
            self._edges[number, other] = _Edge(
                np.asarray(content["poses"][i], np.float32),
                np.asarray(content["information"][i], np.float64),
                float(content["trust"][i]),
            )
            if content["untried"][i]:
                self._untried.append((number, other))
        self._disagreement.extend(content["disagreement"].tolist())
        unlearned: dict[int, list[int]] = {}
        for number, other in (content["unlearned"] + first).tolist():
            unlearned.setdefault(number, []).append(other)
        self.unlearned.extend(unlearned.items())

    @property
    def trust(self) -> float:
        """Factor on the information, 0 to 1.

        The inverse square of the disagreement (the median of squared errors in units of the
        claimed covariance), so that a sensor whose registrations are off by a few of their standard
        deviations has no say.
        """
        if len(self._disagreement) < self._trust_after:
            return 0.0
        return min(float(np.median(self._disagreement)) ** -2, 1.0)

    def within(
        self, window: np.ndarray, rows: np.ndarray, num_free: int, capacity: int
    ) -> RelativePoses:
        """The edges in a window, the newest first.

        Args:
            window: (W,) numbers of keyframes.
            rows: (W,) the row of each in bundle adjustment.
            num_free: rows below may move; edges between the others are left out.
            capacity: edges that fit; fewer are padded, more are left out.
        """
        row_of = dict(zip(window.tolist(), rows.tolist(), strict=True))
        first, second = np.zeros((2, capacity), np.int32)
        poses = np.tile(np.eye(4, dtype=np.float32), (capacity, 1, 1))
        information = np.zeros((capacity, 6, 6), np.float32)
        place, trust = 0, self.trust
        for (number, other), edge in reversed(self._edges.items()):
            if place == capacity:
                break
            i, j = row_of.get(number), row_of.get(other)
            if i is None or j is None or min(i, j) >= num_free:
                continue
            first[place], second[place] = i, j
            poses[place] = edge.other_from_camera
            information[place] = min(edge.trust, trust) * edge.information
            place += 1
        return RelativePoses(first, second, poses, information)
