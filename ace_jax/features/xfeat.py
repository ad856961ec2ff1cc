"""XFeat features: sparse keypoints, or every cell of the 1/8 grid.

Potje et al., CVPR 2024. The whole way from the uint8 image to `Features` is one jitted function.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.features import keypoints
from ace_jax.features.base import Features
from ace_jax.features.image import as_rgb, pixel_scale, resize, working_size
from ace_jax.models.xfeat import CELL, DESCRIPTOR_DIM, XFeat, XFeatMaps
from ace_jax.weights.xfeat import load_xfeat


def cell_centres(height: int, width: int, cell: int) -> jax.Array:
    """(height * width, 2) pixels (x, y) of the cells' centres, row by row."""
    y, x = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    return (jnp.stack([x.ravel(), y.ravel()], axis=-1) + 0.5) * cell - 0.5


def sparse(maps: XFeatMaps, count: int, threshold: float) -> Features:
    """The `count` best keypoints of one image's maps (batch of one), in pixels of that image."""
    heatmap = keypoints.cell_probabilities(maps.keypoint_logits[0])
    x, y, peak = keypoints.best_of_blocks(keypoints.local_maxima(heatmap, radius=2))
    cells = (jnp.stack([x, y], axis=-1) + 0.5) / CELL - 0.5
    reliability = keypoints.sample_bilinear(maps.reliability[0, ..., None], cells)[:, 0]
    scores, index = keypoints.top(jnp.where(peak > threshold, peak * reliability, 0.0), count)
    mask = scores > 0.0
    uv = keypoints.refine(heatmap, x[index], y[index])
    sampled = keypoints.sample_bilinear(
        keypoints.normalize(maps.descriptors[0]), (uv + 0.5) / CELL - 0.5
    )
    return Features(
        uv=jnp.where(mask[:, None], uv, 0.0),
        descriptors=jnp.where(mask[:, None], keypoints.normalize(sampled), 0.0),
        scores=scores,
        mask=mask,
        depth=jnp.zeros(count, jnp.float32),
    )


def dense(maps: XFeatMaps) -> Features:
    """Every cell of one image's maps (batch of one), most reliable first."""
    _, height, width, _ = maps.descriptors.shape
    reliability = maps.reliability[0].ravel()
    order = jnp.argsort(-reliability)
    return Features(
        uv=cell_centres(height, width, CELL)[order],
        descriptors=keypoints.normalize(maps.descriptors[0].reshape(-1, DESCRIPTOR_DIM))[order],
        scores=reliability[order],
        mask=jnp.ones(height * width, bool),
        depth=jnp.zeros(height * width, jnp.float32),
    )


class _XFeatExtractor:
    dim = DESCRIPTOR_DIM

    def __init__(
        self,
        weights_dir: Path | str | None,
        image_size: tuple[int, int] | None,
        describe: Callable[[XFeatMaps], Features],
    ) -> None:
        self.image_size = image_size
        params, self.weights_checksum = load_xfeat(weights_dir)
        self._params = jax.device_put(params)

        def pipeline(params: Any, image: jax.Array, scale: jax.Array) -> Features:
            maps = XFeat().apply({"params": params}, image[None].astype(jnp.float32) / 255.0)
            features = describe(maps)
            uv = (features.uv + 0.5) * scale - 0.5
            return features.replace(uv=jnp.where(features.mask[:, None], uv, 0.0))

        self._pipeline = jax.jit(pipeline)

    def extract(self, rgb: np.ndarray) -> Features:
        """Features of an image (H, W, 3) uint8; compiled once for each image size."""
        rgb = as_rgb(rgb)
        size = working_size(rgb.shape[1], rgb.shape[0], self.image_size, multiple=CELL)
        return self._pipeline(self._params, resize(rgb, size), pixel_scale(rgb, size))


class XFeatSparse(_XFeatExtractor):
    """The strongest keypoints with sub-pixel positions.

    Args:
        weights_dir: folder with `xfeat.safetensors` or `xfeat.onnx` (or that file).
        image_size: (width, height); larger images are reduced to this area. None: as given.
        max_features: fixed count N of the result.
        threshold: smallest keypoint probability.
    """

    name = "xfeat"

    def __init__(
        self,
        weights_dir: Path | str | None = None,
        image_size: tuple[int, int] | None = (320, 240),
        max_features: int = 600,
        threshold: float = 0.05,
    ) -> None:
        self.max_features = max_features
        describe = functools.partial(sparse, count=max_features, threshold=threshold)
        super().__init__(weights_dir, image_size, describe)


class XFeatDense(_XFeatExtractor):
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
        super().__init__(weights_dir, image_size, dense)
