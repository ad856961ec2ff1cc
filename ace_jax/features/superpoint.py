"""SuperPoint features: keypoints with descriptors. The weights are for non-commercial use only.

DeTone, Malisiewicz, Rabinovich, CVPR workshops 2018, with the constants of the published demo.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ace_jax.features import keypoints
from ace_jax.features.base import Features
from ace_jax.features.extractor import NetworkExtractor, luminance, sparse_features
from ace_jax.geometry.interpolation import sample_bilinear
from ace_jax.models.superpoint import CELL, DESCRIPTOR_DIM, SuperPointMaps

NMS_RADIUS = 4  # pixels
BORDER = 4  # pixels


def detect(maps: SuperPointMaps, count: int, threshold: float) -> tuple[jax.Array, jax.Array]:
    """The `count` best keypoints (x, y) of one image's maps, and their scores, zero for padding."""
    heatmap = keypoints.cell_probabilities(maps.keypoint_logits[0])
    height, width = heatmap.shape
    peaks = keypoints.greedy_maxima(jnp.where(heatmap >= threshold, heatmap, 0.0), NMS_RADIUS)
    x, y, peak = keypoints.best_of_blocks(peaks)
    inside = (x >= BORDER) & (y >= BORDER) & (x < width - BORDER) & (y < height - BORDER)
    scores, index = keypoints.top(jnp.where(inside, peak, 0.0), count)
    return jnp.stack([x[index], y[index]], axis=-1).astype(jnp.float32), scores


def describe(maps: SuperPointMaps, uv: jax.Array) -> jax.Array:
    """Unit descriptors (N, 256) at pixels `uv`.

    The demo samples at x / 8 - 1/2, half a pixel before the cells' true centres; so do we.
    """
    return keypoints.normalize(sample_bilinear(maps.descriptors[0], uv / CELL - 0.5))


class SuperPointSparse(NetworkExtractor):
    """Keypoints with descriptors, the strongest first, at integer pixels of the working size.

    Args:
        weights_dir: folder with `superpoint.safetensors` or `superpoint_v1.pth` (or that file).
        image_size: (width, height); larger images are reduced to this area. None: as given.
        max_features: fixed count N of the result.
        threshold: smallest keypoint probability.
    """

    name = "superpoint"
    dim = DESCRIPTOR_DIM
    family = "superpoint"
    multiple = CELL

    def __init__(
        self,
        weights_dir: Path | str | None = None,
        image_size: tuple[int, int] | None = (640, 480),
        max_features: int = 1000,
        threshold: float = 0.015,
    ) -> None:
        self.max_features = max_features
        self.threshold = threshold
        super().__init__("superpoint", weights_dir, image_size)

    def features_of(self, params: Any, image: jax.Array, scale: jax.Array) -> Features:
        """See `NetworkExtractor`."""
        maps = self.module.apply({"params": params}, luminance(image)[None] / 255.0)
        uv, scores = detect(maps, self.max_features, self.threshold)
        return sparse_features(uv, describe(maps, uv), scores, scale)
