"""`Features`, the output of all extractors, and the `FeatureExtractor` protocol."""

import dataclasses
from typing import Protocol

import flax.struct
import jax
import numpy as np

from ace_jax.data.frame import BadFrame, Frame


@flax.struct.dataclass
class Features:
    """Features of one image, padded to a fixed count N so that nothing recompiles.

    Attributes:
        uv: (N, 2) float32 pixels of the image that was given (pixel centres at integers).
        descriptors: (N, D) float32, zero where masked. Of unit length, to be matched; the dense
            encoders (`ace`, `dinov2_...`) give the network's raw outputs, to be regressed from,
            unless asked to normalize.
        scores: (N,) float32 detector confidence, descending; zero where masked. Dense encoders know
            none and give all cells 1: `selection.by_reliability` chooses among them.
        mask: (N,) bool, False for padding.
        depth: (N,) float32 z-depth in metres, 0 where unknown (extractors leave zeros).
    """

    uv: jax.Array
    descriptors: jax.Array
    scores: jax.Array
    mask: jax.Array
    depth: jax.Array

    def without(self, some: np.ndarray) -> "Features":
        """The same with some (N,) masked and their depth unknown."""
        return dataclasses.replace(
            self, mask=self.mask & ~some, depth=np.where(some, 0.0, self.depth)
        )


class FeatureExtractor(Protocol):
    """Image to features. Frozen: the same image gives the same features.

    Attributes:
        name: the registry's name, also stored in map files.
        dim: descriptor length D.
        max_features: N.
        weights_checksum: identifies the weights; two maps are comparable only if it is equal.
    """

    name: str
    dim: int
    max_features: int
    weights_checksum: str

    def extract(self, rgb: np.ndarray) -> Features:
        """Features of an image (H, W, 3) uint8."""
        ...


def finite_features(extractor: FeatureExtractor, frame: Frame) -> Features:
    """Features of a frame.

    Raises:
        BadFrame: they are not finite: weights or a network that overflows. One such number would
            reach every pose and every landmark.
    """
    features = extractor.extract(frame.rgb)
    for name in ("uv", "descriptors"):
        if not np.isfinite(np.asarray(getattr(features, name))).all():
            raise BadFrame(f"{frame.name}: {extractor.name} gave {name} that are not finite")
    return features
