"""Blob keypoints described by a small network that `python -m ace_jax.encoder` trains."""

import functools
from pathlib import Path
from typing import Any

import jax

from ace_jax.features import blobs
from ace_jax.features.base import Features
from ace_jax.features.blob_features import at_levels
from ace_jax.features.extractor import NetworkExtractor, luminance, sparse_features
from ace_jax.features.neighbourhood import describe
from ace_jax.models.patch_descriptor import PatchDescriptor
from ace_jax.weights import store

FILE = "descriptor.safetensors"


class LearnedBlobs(NetworkExtractor):
    """Blobs with a learned descriptor, the strongest first.

    What the network sees (histograms or windows, upright or turned) is in its file.

    Args:
        weights_dir: folder with `descriptor.safetensors`, or the file.
        image_size: (width, height); larger images are reduced to this area. None: as given.
        max_features: fixed count N of the result.
        threshold: smallest contrast of a blob, grey levels of 255.
        sigma: size of the blobs, pixels of the working size.
        levels: see `blob_features.Blobs`.
        level_ratio: the same.

    Raises:
        UserError: there is no such file, or it is of another model.
    """

    name = "learned_blobs"
    family = "patch_descriptor"
    multiple = 8
    module: PatchDescriptor

    def __init__(
        self,
        weights_dir: Path | str | None = None,
        image_size: tuple[int, int] | None = (320, 240),
        max_features: int = 600,
        threshold: float = 0.5,
        sigma: float = blobs.SIGMA,
        levels: int = 1,
        level_ratio: float = 2.0,
    ) -> None:
        path = store.find(
            (FILE,),
            weights_dir,
            "train them by `python -m ace_jax.encoder --config cpu --workdir DIR` and pass "
            f"--weights_dir DIR/{FILE}",
        )
        super().__init__("descriptor", path, image_size)
        self.max_features, self.dim = max_features, self.module.dim
        self._options: dict[str, Any] = {
            "count": max_features,
            "threshold": threshold,
            "sigma": sigma,
        }
        self._levels = levels, level_ratio

    def features_of(self, params: Any, image: jax.Array, scale: jax.Array) -> Features:
        """See `NetworkExtractor`."""
        detect = functools.partial(blobs.detect, **self._options)
        described = functools.partial(describe, self.module, params)
        return sparse_features(
            *at_levels(luminance(image), *self._levels, detect, described), scale
        )
