"""Blob keypoints described by a small network that `python -m ace_jax.encoder` trains."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ace_jax.features import blobs
from ace_jax.features.base import Features
from ace_jax.features.blob_features import levels_of
from ace_jax.features.extractor import NetworkExtractor, luminance, sparse_features, to_image
from ace_jax.features.keypoints import top
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
        grey = luminance(image)
        found = []
        for smaller, factor in levels_of(grey, *self._levels):
            uv, scores = blobs.detect(smaller, **self._options)
            descriptors = describe(self.module, params, smaller, uv)
            found.append((to_image(uv, factor), descriptors, scores))
        uv, descriptors, scores = (jnp.concatenate(parts) for parts in zip(*found, strict=True))
        if len(found) > 1:
            scores, index = top(scores, self.max_features)
            uv, descriptors = uv[index], descriptors[index]
        return sparse_features(uv, descriptors, scores, scale)
