"""Dense encoders: one feature for every cell of the image, for scene coordinate regression.

Descriptors are the networks' raw outputs, which is what heads were trained on.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.errors import UserError
from ace_jax.features import keypoints
from ace_jax.features.base import Features
from ace_jax.features.extractor import NetworkExtractor, cell_centres, luminance, to_image
from ace_jax.features.image import pixel_scale, resize, short_side_size
from ace_jax.models.vit import VisionTransformer

# Mean and standard deviation of RGB in 0..1, by name.
_NORMALIZATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "ace_g": ((0.4, 0.4, 0.4), (0.25, 0.25, 0.25)),
}


class _DenseEncoder(NetworkExtractor):
    """Resizes to a short side, crops the right and lower remainder, keeps cells row by row."""

    def __init__(
        self, weights: str, weights_dir: Path | str | None, short_side: int | None, normalize: bool
    ) -> None:
        self.short_side = short_side
        self.normalize = normalize
        width, height = short_side_size(640, 480, short_side)
        self.max_features = (width // self.multiple) * (height // self.multiple)
        super().__init__(weights, weights_dir)

    def prepare(self, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `NetworkExtractor`."""
        size = short_side_size(rgb.shape[1], rgb.shape[0], self.short_side)
        columns, rows = (side // self.multiple * self.multiple for side in size)
        if not rows or not columns:
            raise UserError(
                f"an image of {size[0]}x{size[1]} has not one cell of {self.multiple} pixels; "
                "set short_side"
            )
        return resize(rgb, size)[:rows, :columns], pixel_scale(rgb, size)

    def _features(self, maps: jax.Array, scale: jax.Array) -> Features:
        height, width, dim = maps.shape
        count = height * width
        descriptors = maps.reshape(count, dim)
        return Features(
            uv=to_image(cell_centres(height, width, self.multiple), scale),
            descriptors=keypoints.normalize(descriptors) if self.normalize else descriptors,
            scores=jnp.ones(count, jnp.float32),
            mask=jnp.ones(count, bool),
            depth=jnp.zeros(count, jnp.float32),
        )


class AceDense(_DenseEncoder):
    """ACE's encoder at 1/8. The weights are for non-commercial use only.

    Args:
        weights_dir: folder with `ace.safetensors` or `ace_encoder_pretrained.pt` (or that file).
        short_side: images are resized to it, in pixels; None: as given.
        normalize: descriptors of unit length.
    """

    name = "ace"
    family = "ace_encoder"
    multiple = 8

    def __init__(
        self,
        weights_dir: Path | str | None = None,
        short_side: int | None = 480,
        normalize: bool = False,
    ) -> None:
        super().__init__("ace", weights_dir, short_side, normalize)
        self.dim = self.module.features

    def features_of(self, params: Any, image: jax.Array, scale: jax.Array) -> Features:
        """See `NetworkExtractor`."""
        grey = (luminance(image) / 255.0 - 0.4) / 0.25
        return self._features(self.module.apply({"params": params}, grey[None])[0], scale)


class DinoV2Dense(_DenseEncoder):
    """DINOv2's patch tokens at 1/14.

    Args:
        name: of the model, such as `dinov2_vits14` or `dinov2_vitl14_reg`.
        weights_dir: folder with `NAME.safetensors` or the published `.pth`, or a file, or the
            folder of a Hugging Face model.
        short_side: images are resized to it, in pixels; None: as given.
        normalize: descriptors of unit length.
        normalization: of the image: "imagenet", as DINOv2 was trained, or "ace_g".
        dtype: of the operands of matrix products, "float32" or "bfloat16".
    """

    family = "dinov2"
    multiple = 14

    def __init__(
        self,
        name: str,
        weights_dir: Path | str | None = None,
        short_side: int | None = 480,
        normalize: bool = False,
        normalization: str = "imagenet",
        dtype: str = "float32",
    ) -> None:
        if normalization not in _NORMALIZATIONS:
            choices = ", ".join(_NORMALIZATIONS)
            raise UserError(f"unknown normalization {normalization!r}; there are {choices}")
        if dtype not in ("float32", "bfloat16"):
            raise UserError(f"unknown dtype {dtype!r}; there are float32, bfloat16")
        self.name = name
        self._mean, self._deviation = _NORMALIZATIONS[normalization]
        super().__init__(name, weights_dir, short_side, normalize)
        self.dim = self.module.config.dim
        if dtype == "bfloat16":
            self.module = VisionTransformer(self.module.config, dtype=jnp.bfloat16)
            # Matrices only: norms, biases and positions are added in float32.
            self._params = jax.tree_util.tree_map_with_path(
                lambda path, x: x.astype(jnp.bfloat16) if path[-1].key == "kernel" else x,
                self._params,
            )

    def features_of(self, params: Any, image: jax.Array, scale: jax.Array) -> Features:
        """See `NetworkExtractor`."""
        mean, deviation = jnp.array(self._mean), jnp.array(self._deviation)
        normalized = (image.astype(jnp.float32) / 255.0 - mean) / deviation
        encoded: Any = self.module.apply({"params": params}, normalized[None])
        return self._features(encoded.patches[0], scale)
