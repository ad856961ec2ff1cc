"""SIFT keypoints with RootSIFT descriptors, from OpenCV: needs no weights.

Lowe, IJCV 2004; RootSIFT: Arandjelovic and Zisserman, CVPR 2012 (L1-normalize, square root).
"""

import cv2
import jax.numpy as jnp
import numpy as np

from ace_jax.features.base import Features
from ace_jax.features.image import as_rgb, pixel_scale, resize, working_size

DESCRIPTOR_DIM = 128


class Sift:
    """SIFT features of an image, the strongest first.

    Args:
        image_size: (width, height); larger images are reduced to this area. None: as given.
        max_features: fixed count N of the result.
        contrast_threshold: as in OpenCV; lower finds more keypoints in dim or flat images.
    """

    name = "sift"
    dim = DESCRIPTOR_DIM
    weights_checksum = "rootsift"  # no weights: the algorithm is the identity

    def __init__(
        self,
        image_size: tuple[int, int] | None = (320, 240),
        max_features: int = 600,
        contrast_threshold: float = 0.02,
    ) -> None:
        self.image_size = image_size
        self.max_features = max_features
        self.contrast_threshold = contrast_threshold
        # Precise upscaling: without it keypoints of the first octave are a quarter pixel off.
        self._detector = cv2.SIFT.create(
            nfeatures=max_features,
            contrastThreshold=contrast_threshold,
            enable_precise_upscale=True,
        )

    def extract(self, rgb: np.ndarray) -> Features:
        """Features of an image (H, W, 3) uint8; fewer than N keypoints leave masked rows."""
        rgb = as_rgb(rgb)
        size = working_size(rgb.shape[1], rgb.shape[0], self.image_size, multiple=1)
        grey = resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), size)
        keypoints, found = self._detector.detectAndCompute(grey, None)

        n = self.max_features
        uv = np.zeros((n, 2), np.float32)
        descriptors = np.zeros((n, DESCRIPTOR_DIM), np.float32)
        scores = np.zeros(n, np.float32)
        count = 0
        if keypoints:
            response = np.array([k.response for k in keypoints], np.float32)
            order = np.argsort(-response, kind="stable")[:n]
            count = len(order)
            points = np.array([k.pt for k in keypoints], np.float32)[order]
            uv[:count] = (points + 0.5) * pixel_scale(rgb, size) - 0.5
            scores[:count] = response[order]
            root = np.sqrt(found[order] / np.maximum(found[order].sum(1, keepdims=True), 1e-6))
            descriptors[:count] = root / np.maximum(np.linalg.norm(root, axis=1)[:, None], 1e-6)
        return Features(
            uv=jnp.asarray(uv),
            descriptors=jnp.asarray(descriptors),
            scores=jnp.asarray(scores),
            mask=jnp.asarray(np.arange(n) < count),
            depth=jnp.zeros(n, jnp.float32),
        )
