"""From pairs of images to what a step learns from: neighbourhoods of keypoints, and their matches.

Keypoints are detected in both images, as they are when the descriptor is used, so that it learns to
bear how imprecisely they are placed, and to tell them from those that have no partner.
"""

import dataclasses
from typing import Any

import flax.struct
import jax
import numpy as np

from ace_jax.encoder.augmentation import Dial, augment
from ace_jax.encoder.pairs import Locate, Pair, PairSource
from ace_jax.features import blobs, root_sift
from ace_jax.features.extractor import luminance
from ace_jax.features.neighbourhood import neighbourhoods
from ace_jax.models.patch_descriptor import PatchDescriptor
from ace_jax.programs import program

_FAR = 1e6  # pixels


@flax.struct.dataclass
class Batch:
    """B pairs with N keypoints in each image.

    Attributes:
        first: (B, N, ...) neighbourhoods in the first images.
        second: (B, N, ...) in the second.
        masks: (B, 2, N) bool, False for padding.
        partner: (B, N) int32 keypoint of the second image that is the same point, or -1.
        doubtful: (B, N, N) bool: a keypoint of the second image that lies where the first's may be,
            and is not its partner; neither right nor wrong.
    """

    first: Any
    second: Any
    masks: Any
    partner: Any
    doubtful: Any


@dataclasses.dataclass(frozen=True)
class Keypoints:
    """Of one image.

    Attributes:
        uv: (N, 2) pixels.
        mask: (N,) bool, False for padding.
        inputs: (N, ...) neighbourhoods.
        control: (N, 128) RootSIFT descriptors, None where they are not needed.
    """

    uv: np.ndarray
    mask: np.ndarray
    inputs: np.ndarray
    control: np.ndarray | None = None


def keypoints(
    image: np.ndarray, module: PatchDescriptor, count: int, control: bool = False
) -> Keypoints:
    """The strongest blobs of an image (H, W, 3) uint8, sides multiples of 8."""
    uv, mask, inputs, sift = _seen(image, module=module, count=count, control=control)
    return Keypoints(
        np.asarray(uv, np.float64), np.asarray(mask), np.asarray(inputs),
        np.asarray(sift) if control else None,
    )  # fmt: skip


@program(static_argnames=("module", "count", "control"))
def _seen(
    image: jax.Array, *, module: PatchDescriptor, count: int, control: bool
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    grey = luminance(image)
    uv, scores = blobs.detect(grey, count, 0.5)
    angle = root_sift.orientations(grey, uv) if module.oriented else None
    sift = root_sift.describe(root_sift.pooled_directions(grey), uv, angle) if control else uv
    return uv, scores > 0, neighbourhoods(module, grey, uv), sift


def partners(
    one: Keypoints, two: Keypoints, locate: Locate, within: float, doubt: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which keypoints of two images are the same.

    Args:
        one: of the first image.
        two: of the second.
        locate: see `pairs.Pair`.
        within: pixels up to which the nearest keypoint is the same.
        doubt: pixels up to which another one is neither right nor wrong.

    Returns:
        (N,) int32 partner or -1, and (N, N) bool doubtful, see `Batch`.
    """
    there, known = locate(one.uv)
    known &= one.mask
    distance = np.linalg.norm(there[:, None] - two.uv[None], axis=-1)
    distance = np.where(known[:, None] & two.mask[None], distance, _FAR)
    forward, backward = distance.argmin(axis=1), distance.argmin(axis=0)
    rows = np.arange(len(one.uv))
    good = (distance[rows, forward] < within) & (backward[forward] == rows)
    partner = np.where(good, forward, -1).astype(np.int32)
    doubtful = distance < doubt
    doubtful[rows[good], forward[good]] = False
    return partner, doubtful


class Batches:
    """Batches by step: the same step gives the same batch, in every process and run."""

    def __init__(
        self,
        source: PairSource,
        module: PatchDescriptor,
        dial: Dial,
        size: tuple[int, int],
        pairs: int,
        points: int,
        within: float,
        doubt: float,
        seed: int,
    ) -> None:
        """Makes batches.

        Args:
            source: of the pairs.
            module: whose inputs are wanted.
            dial: of the augmentation.
            size: working (width, height), multiples of 8.
            pairs: B.
            points: N.
            within: see `partners`.
            doubt: see `partners`.
            seed: of the augmentation.
        """
        self._source, self._module, self._dial, self._size = source, module, dial, size
        self._pairs, self._points, self._within, self._doubt = pairs, points, within, doubt
        self._seed = seed

    def load(self, step: int) -> Batch:
        """The batch of a step; may be called from a thread."""
        return stack([self._row(step * self._pairs + i) for i in range(self._pairs)])

    def _row(self, number: int) -> Batch:
        rng = np.random.default_rng([self._seed, 4, number])
        pair = augment(self._source.pair(number), self._dial, self._size, rng)
        return row(pair, self._module, self._points, self._within, self._doubt)


def row(pair: Pair, module: PatchDescriptor, points: int, within: float, doubt: float) -> Batch:
    """One pair of a batch, without the leading axis."""
    one, two = (keypoints(image, module, points) for image in (pair.first, pair.second))
    partner, doubtful = partners(one, two, pair.locate, within, doubt)
    return Batch(one.inputs, two.inputs, np.stack([one.mask, two.mask]), partner, doubtful)


def stack(rows: list[Batch]) -> Batch:
    """Rows to a batch."""
    return jax.tree.map(lambda *parts: np.stack(parts), *rows)
