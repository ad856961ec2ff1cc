"""Base class of network-based extractors: weights, and one jitted function for each image size."""

from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.features.base import Features
from ace_jax.features.image import as_rgb, pixel_scale, resize, working_size
from ace_jax.programs import program
from ace_jax.weights import checkpoint


class NetworkExtractor:
    """Image to features through one jitted function, compiled once for each image size.

    Subclasses say what the function is (`features_of`) and how an image is sized (`prepare`).
    """

    name: str
    dim: int
    max_features: int
    family: ClassVar[str]
    multiple: ClassVar[int]  # the network's input has sides that are multiples of this
    also: ClassVar[tuple[str, ...]] = ()  # further file names of the weights

    def __init__(
        self,
        weights: str,
        weights_dir: Path | str | None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        """Loads weights.

        Args:
            weights: name in the catalogue.
            weights_dir: folder that has them, or the file.
            image_size: (width, height); larger images are reduced to this area. None: as given.

        Raises:
            UserError: the weights are missing or of another model.
        """
        self.image_size = image_size
        path = checkpoint.find(weights, self.family, weights_dir, self.also)
        loaded = checkpoint.load(path, self.family)
        self.module, params = loaded.build()
        self.weights_checksum = loaded.function_checksum
        self._params = jax.device_put(params)
        self._pipeline = program(self.features_of)

    @property
    def params(self) -> Any:
        """The network's weights, as `features_of` takes them."""
        return self._params

    def extract(self, rgb: np.ndarray) -> Features:
        """Features of an image (H, W, 3) uint8.

        Raises:
            UserError: what was given is no image.
        """
        image, scale = self.prepare(as_rgb(rgb))
        return self._pipeline(self._params, image, scale)

    def prepare(self, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The network's input and the scale s of `x = (x_input + 0.5) * s - 0.5`."""
        size = working_size(rgb.shape[1], rgb.shape[0], self.image_size, self.multiple)
        return resize(rgb, size), pixel_scale(rgb, size)

    def features_of(self, params: Any, image: jax.Array, scale: jax.Array) -> Features:
        """Pure: features of an input (H, W, 3) uint8, positions in pixels of the given image."""
        raise NotImplementedError


def to_image(uv: jax.Array, scale: jax.Array) -> jax.Array:
    """Positions (N, 2) in the network's input to positions in the image that was given."""
    return (uv + 0.5) * scale - 0.5


def sparse_features(
    uv: jax.Array, descriptors: jax.Array, scores: jax.Array, scale: jax.Array
) -> Features:
    """Features of a fixed number of keypoints; padding has a score of zero.

    Args:
        uv: (N, 2) pixels of the network's input.
        descriptors: (N, D).
        scores: (N,).
        scale: (2,) size of the image that was given over that of the input.
    """
    mask = scores > 0.0
    return Features(
        uv=jnp.where(mask[:, None], to_image(uv, scale), 0.0),
        descriptors=jnp.where(mask[:, None], descriptors, 0.0),
        scores=scores,
        mask=mask,
        depth=jnp.zeros(scores.shape, jnp.float32),
    )


def luminance(image: jax.Array) -> jax.Array:
    """(H, W) in 0..255 of (H, W, 3): ITU-R BT.601, as OpenCV and Pillow compute grey."""
    image = image.astype(jnp.float32)
    return 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]


def cell_centres(height: int, width: int, cell: int) -> jax.Array:
    """(height * width, 2) pixels (x, y) of the cells' centres, row by row."""
    y, x = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    return (jnp.stack([x.ravel(), y.ravel()], axis=-1) + 0.5) * cell - 0.5
