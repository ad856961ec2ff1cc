"""Validation: right matches under named conditions, beside RootSIFT at the same keypoints."""

import dataclasses
from typing import Any

import jax
import numpy as np

from ace_jax.encoder.augmentation import STILL, Dial, augment
from ace_jax.encoder.batches import Keypoints, keypoints
from ace_jax.encoder.pairs import Locate, Pair, PairSource, still
from ace_jax.models.patch_descriptor import PatchDescriptor
from ace_jax.programs import program

RIGHT = 3.0  # pixels within which a match is right
_MOVED = dataclasses.replace(STILL, shift=10.0, perspective=2e-4, fixed=True)
# Each image with itself under one change; `other view` is two images of a scene, in its lights.
CONDITIONS: dict[str, Dial] = {
    "moved": _MOVED,
    "roll 30": dataclasses.replace(_MOVED, roll=30.0),
    "scale 1.5": dataclasses.replace(_MOVED, scale=1.5),
    "blur": dataclasses.replace(_MOVED, motion=9.0),
    "noise": dataclasses.replace(_MOVED, noise=15.0),
    "light": dataclasses.replace(_MOVED, falloff=1.4, gamma=0.35),
    "other view": STILL,
}


@dataclasses.dataclass(frozen=True)
class Matches:
    """Of one pair of images.

    Attributes:
        right: matches within `RIGHT` of the truth.
        count: matches whose point the second image shows.
        one: (M, 2) pixels of the matches in the first image.
        two: (M, 2) in the second.
        good: (M,) bool, the right ones.
    """

    right: int
    count: int
    one: np.ndarray
    two: np.ndarray
    good: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A pair with what is known of it before any training."""

    condition: str
    pair: Pair
    one: Keypoints
    two: Keypoints
    control: Matches


class Validator:
    """Judges a network by fixed pairs."""

    def __init__(
        self,
        module: PatchDescriptor,
        source: PairSource,
        pairs: int,
        size: tuple[int, int],
        points: int,
    ) -> None:
        """Makes `pairs` pairs of each condition, and matches them by RootSIFT.

        Upright RootSIFT for a network that sees upright neighbourhoods, else oriented.
        """
        self._module = module
        self.asked: list[_Asked] = []
        for number, (condition, dial) in enumerate(CONDITIONS.items()):
            for index in range(pairs):
                found = source.pair(index * 8)  # eight are of one scene, see `pairs`
                pair = found if condition == "other view" else still(found.first)
                rng = np.random.default_rng([number, index])
                pair = augment(pair, dial, size, rng)
                one, two = (
                    keypoints(image, module, points, control=True)
                    for image in (pair.first, pair.second)
                )
                assert one.control is not None
                assert two.control is not None
                control = matches(one, two, one.control, two.control, pair.locate)
                self.asked.append(_Asked(condition, pair, one, two, control))

    def __call__(self, params: Any) -> dict[str, dict[str, float]]:
        """See `summary`, of a network's parameters."""
        return summary([(each.condition, self.answer(params, each)) for each in self.asked])

    def control(self) -> dict[str, dict[str, float]]:
        """The same of RootSIFT."""
        return summary([(each.condition, each.control) for each in self.asked])

    def answer(self, params: Any, asked: _Asked) -> Matches:
        """The network's matches of a pair."""
        one, two = (
            np.asarray(_describe(params, each.inputs, module=self._module))
            for each in (asked.one, asked.two)
        )
        return matches(asked.one, asked.two, one, two, asked.pair.locate)


def summary(found: list[tuple[str, Matches]]) -> dict[str, dict[str, float]]:
    """By condition: `right` matches of a pair, their `share` in per cent of all."""
    result = {}
    for condition in CONDITIONS:
        of_it = [each for name, each in found if name == condition]
        right, count = (sum(getattr(each, n) for each in of_it) for n in ("right", "count"))
        result[condition] = {
            "right": right / max(len(of_it), 1),
            "share": 100.0 * right / max(count, 1),
        }
    return result


def score(figures: dict[str, dict[str, float]], control: dict[str, dict[str, float]]) -> float:
    """Right matches beside the control's, 1 for as many: the geometric mean over conditions."""
    ratios = [
        (figures[name]["right"] + 1.0) / (control[name]["right"] + 1.0) for name in CONDITIONS
    ]
    return float(np.exp(np.mean(np.log(ratios))))


def matches(
    one: Keypoints, two: Keypoints, first: np.ndarray, second: np.ndarray, locate: Locate
) -> Matches:
    """Mutual nearest neighbours among descriptors (N, D) of two images."""
    rows, columns = np.flatnonzero(one.mask), np.flatnonzero(two.mask)
    if not len(rows) or not len(columns):
        nothing = np.zeros((0, 2))
        return Matches(0, 0, nothing, nothing, np.zeros(0, bool))
    cosine = first[rows] @ second[columns].T
    forward, backward = cosine.argmax(axis=1), cosine.argmax(axis=0)
    there, known = locate(one.uv[rows])
    mutual = known & (backward[forward] == np.arange(len(rows)))
    uv, uv2 = one.uv[rows][mutual], two.uv[columns[forward[mutual]]]
    good = np.linalg.norm(there[mutual] - uv2, axis=1) < RIGHT
    return Matches(int(good.sum()), len(uv), uv, uv2, good)


@program(static_argnames="module")
def _describe(params: Any, inputs: jax.Array, *, module: PatchDescriptor) -> jax.Array:
    return module.apply({"params": params}, inputs)
