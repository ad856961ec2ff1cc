"""XFeat features: sparse keypoints, or every cell of the 1/8 grid.

Potje et al., CVPR 2024. The whole way from the uint8 image to `Features` is one jitted function.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ace_jax.errors import UserError
from ace_jax.features import blobs, keypoints
from ace_jax.features.base import Features
from ace_jax.features.extractor import NetworkExtractor, cell_centres, sparse_features, to_image
from ace_jax.geometry.interpolation import sample_bilinear
from ace_jax.models.xfeat import CELL, DESCRIPTOR_DIM, XFeatMaps


def learned_keypoints(
    maps: XFeatMaps, grey: jax.Array, count: int, threshold: float = 0.05, refine: bool = True
) -> tuple[jax.Array, jax.Array]:
    """The network's own keypoints: suppressed 5x5, scored by probability times reliability.

    Returns:
        uv (count, 2) pixels of the network's input, and scores (count,), zero for padding.
    """
    del grey
    heatmap = keypoints.cell_probabilities(maps.keypoint_logits[0])
    x, y, peak = keypoints.best_of_blocks(keypoints.local_maxima(heatmap, radius=2))
    cells = (jnp.stack([x, y], axis=-1) + 0.5) / CELL - 0.5
    reliability = sample_bilinear(maps.reliability[0, ..., None], cells)[:, 0]
    scores, index = keypoints.top(jnp.where(peak > threshold, peak * reliability, 0.0), count)
    x, y = x[index], y[index]
    if not refine:
        return jnp.stack([x, y], axis=-1).astype(jnp.float32), scores
    return keypoints.refine(heatmap, x, y), scores


def blob_keypoints(
    maps: XFeatMaps, grey: jax.Array, count: int, threshold: float = 0.5, sigma: float = blobs.SIGMA
) -> tuple[jax.Array, jax.Array]:
    """Centres of blobs in the image; the network only describes them.

    Returns:
        uv (count, 2) pixels of the network's input, and scores (count,), zero for padding.
    """
    del maps
    return blobs.detect(grey, count, threshold, sigma)


def _describe(maps: XFeatMaps, uv: jax.Array, scores: jax.Array, scale: jax.Array) -> Features:
    """Features at keypoints `uv` in pixels of the network's input."""
    sampled = sample_bilinear(keypoints.normalize(maps.descriptors[0]), (uv + 0.5) / CELL - 0.5)
    return sparse_features(uv, keypoints.normalize(sampled), scores, scale)


class _XFeat(NetworkExtractor):
    dim = DESCRIPTOR_DIM
    family = "xfeat"
    multiple = CELL
    also = ("xfeat.onnx",)

    def _maps(self, params: Any, image: jax.Array) -> tuple[XFeatMaps, jax.Array]:
        """The network's maps and the grey image (H, W) in 0..255."""
        image = image.astype(jnp.float32)
        # A sum of slices: XLA's CPU reduction over an axis of three is 10 times slower.
        grey = (image[..., 0] + image[..., 1] + image[..., 2]) / 3.0
        return self.module.apply({"params": params}, grey[None] / 255.0), grey


class XFeatSparse(_XFeat):
    """Keypoints with XFeat's descriptors, the strongest first.

    Args:
        weights_dir: folder with `xfeat.safetensors`, `xfeat.onnx` or `xfeat.pt` (or that file).
        image_size: (width, height); larger images are reduced to this area. None: as given.
        max_features: fixed count N of the result.
        detector: "learned" for the network's own keypoints, "blobs" for extrema of the difference
            of Gaussians.
        threshold: smallest keypoint probability, or smallest contrast of a blob (in grey levels of
            255); None for the detector's default.
        refine: sub-pixel positions of learned keypoints; without, integer pixels of the working
            size. Blobs are always sub-pixel.
        sigma: size of the blobs, pixels of the working size.
    """

    name = "xfeat"

    def __init__(
        self,
        weights_dir: Path | str | None = None,
        image_size: tuple[int, int] | None = (320, 240),
        max_features: int = 600,
        detector: str = "learned",
        threshold: float | None = None,
        refine: bool = True,
        sigma: float = blobs.SIGMA,
    ) -> None:
        detectors: dict[str, Callable[..., tuple[jax.Array, jax.Array]]] = {
            "learned": functools.partial(learned_keypoints, refine=refine),
            "blobs": functools.partial(blob_keypoints, sigma=sigma),
        }
        if detector not in detectors:
            raise UserError(f"unknown detector {detector!r}; there are {', '.join(detectors)}")
        options = {} if threshold is None else {"threshold": threshold}
        self.max_features = max_features
        self._detect = functools.partial(detectors[detector], count=max_features, **options)
        super().__init__("xfeat", weights_dir, image_size)

    def features_of(self, params: Any, image: jax.Array, scale: jax.Array) -> Features:
        """See `NetworkExtractor`."""
        maps, grey = self._maps(params, image)
        return _describe(maps, *self._detect(maps, grey), scale)


class XFeatBlobs(XFeatSparse):
    """`XFeatSparse` with blobs as keypoints; see there."""

    name = "xfeat_blobs"

    def __init__(
        self,
        weights_dir: Path | str | None = None,
        image_size: tuple[int, int] | None = (320, 240),
        max_features: int = 600,
        threshold: float | None = None,
        sigma: float = blobs.SIGMA,
    ) -> None:
        super().__init__(
            weights_dir, image_size, max_features, "blobs", threshold=threshold, sigma=sigma
        )


class XFeatDense(_XFeat):
    """One feature for every 8x8 cell; `scores` is the reliability.

    Args:
        weights_dir: as for `XFeatSparse`.
        image_size: (width, height); larger images are reduced to this area. None: as given.

    The count N follows from the size of the first image; `max_features` holds it for 4:3 images.
    """

    name = "xfeat_dense"

    def __init__(
        self,
        weights_dir: Path | str | None = None,
        image_size: tuple[int, int] | None = (640, 480),
    ) -> None:
        width, height = image_size or (640, 480)
        self.max_features = (width // CELL) * (height // CELL)
        super().__init__("xfeat", weights_dir, image_size)

    def features_of(self, params: Any, image: jax.Array, scale: jax.Array) -> Features:
        """Every cell, most reliable first."""
        maps, _ = self._maps(params, image)
        _, height, width, _ = maps.descriptors.shape
        reliability = maps.reliability[0].ravel()
        order = jnp.argsort(-reliability)
        descriptors = keypoints.normalize(maps.descriptors[0].reshape(-1, DESCRIPTOR_DIM))
        return Features(
            uv=to_image(cell_centres(height, width, CELL), scale)[order],
            descriptors=descriptors[order],
            scores=reliability[order],
            mask=jnp.ones(height * width, bool),
            depth=jnp.zeros(height * width, jnp.float32),
        )
