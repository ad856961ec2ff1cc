"""Textures to train a descriptor on, and a configuration in which that takes seconds."""

from pathlib import Path

import cv2
import ml_collections
import numpy as np

from ace_jax.encoder import config as settings
from ace_jax.encoder.presets import smoke


def texture(seed: int, size: tuple[int, int] = (200, 150)) -> np.ndarray:
    """(H, W, 3) uint8: blobs of all sizes."""
    rng = np.random.default_rng(seed)
    image = np.zeros((size[1], size[0]), np.float32)
    for sigma in (1.2, 2.5, 6.0):
        layer = rng.standard_normal(image.shape).astype(np.float32)
        layer = cv2.GaussianBlur(layer, (0, 0), sigma)
        image += layer / layer.std()
    grey = np.clip(128 + 40 * image, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def photographs(folder: Path, count: int = 4) -> Path:
    """A folder of textures."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        cv2.imwrite(str(folder / f"{seed}.png"), texture(seed))
    return folder


def config(folder: Path, **changes: object) -> ml_collections.ConfigDict:
    """A run on the photographs of a folder: 64 keypoints of images of 160x120."""
    result = smoke()
    source = settings.photos(str(folder))
    result.sources = ml_collections.ConfigDict({"photos": source})
    result.validation.source = ml_collections.ConfigDict(source)
    result.points = result.validation.points = 64
    result.network.widths = (32,)
    result.network.dim = 16
    result.validation.update(every=1000, pairs=1)
    result.log_every = 1
    result.update(changes)
    return result
