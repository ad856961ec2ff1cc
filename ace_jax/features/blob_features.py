"""Blob keypoints with RootSIFT descriptors: no weights needed, one jitted function."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.features import blobs, root_sift
from ace_jax.features.base import Features
from ace_jax.features.extractor import luminance, sparse_features, to_image
from ace_jax.features.image import as_rgb, pixel_scale, resize, working_size
from ace_jax.features.keypoints import top
from ace_jax.programs import program

_MULTIPLE = 8  # sides of the working image, pixels


class Blobs:
    """Blobs described by RootSIFT, the strongest first.

    Args:
        image_size: (width, height); larger images are reduced to this area. None: as given.
        max_features: fixed count N of the result.
        threshold: smallest contrast of a blob, grey levels of 255.
        sigma: size of the blobs, pixels of the working size.
        oriented: turn each descriptor to the image's gradient, so that images may be rolled by any
            angle. Costs 8 % of the matches between upright images.
        levels: sizes of the image in which blobs are looked for, each smaller by `level_ratio`.
        level_ratio: of the sides of two successive levels.
    """

    name = "blobs"
    dim = root_sift.DIM
    weights_checksum = "blobs-rootsift"  # no weights: the algorithm is the identity

    def __init__(
        self,
        image_size: tuple[int, int] | None = (320, 240),
        max_features: int = 600,
        threshold: float = 0.5,
        sigma: float = blobs.SIGMA,
        oriented: bool = False,
        levels: int = 1,
        level_ratio: float = 2.0,
    ) -> None:
        self.image_size = image_size
        self.max_features = max_features
        self._pipeline = functools.partial(
            features_of,
            count=max_features,
            threshold=threshold,
            sigma=sigma,
            oriented=oriented,
            levels=levels,
            level_ratio=level_ratio,
        )

    def extract(self, rgb: np.ndarray) -> Features:
        """Features of an image (H, W, 3) uint8; fewer than N blobs leave masked rows.

        Raises:
            UserError: what was given is no image.
        """
        rgb = as_rgb(rgb)
        size = working_size(rgb.shape[1], rgb.shape[0], self.image_size, _MULTIPLE)
        return self._pipeline(resize(rgb, size), pixel_scale(rgb, size))


@program(
    static_argnames=("count", "threshold", "sigma", "oriented", "levels", "level_ratio"),
)
def features_of(
    image: jax.Array,
    scale: jax.Array,
    *,
    count: int,
    threshold: float,
    sigma: float,
    oriented: bool,
    levels: int,
    level_ratio: float,
) -> Features:
    """Pure: features of an image (H, W, 3) uint8; positions are multiplied by `scale` (2,)."""

    def described(grey: jax.Array, uv: jax.Array) -> jax.Array:
        orientation = root_sift.orientations(grey, uv) if oriented else None
        return root_sift.describe(root_sift.pooled_directions(grey), uv, orientation)

    detect = functools.partial(blobs.detect, count=count, threshold=threshold, sigma=sigma)
    found = at_levels(luminance(image), levels, level_ratio, detect, described)
    return sparse_features(*found, scale)


def at_levels(
    grey: jax.Array,
    levels: int,
    level_ratio: float,
    detect: Callable[[jax.Array], tuple[jax.Array, jax.Array]],
    describe: Callable[[jax.Array, jax.Array], jax.Array],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Keypoints of an image (H, W) in several sizes, the strongest of all.

    Args:
        grey: 0..255.
        levels: number of sizes.
        level_ratio: of the sides of two successive ones.
        detect: from an image to N keypoints (N, 2) in its pixels, and their scores (N,).
        describe: from an image and keypoints (N, 2) in it to descriptors (N, D).

    Returns:
        (N, 2) pixels of the image given, (N, D), (N,) scores.
    """
    height, width = grey.shape
    found = []
    for level in range(levels):
        smaller = level_ratio**level
        size = tuple(max(1, round(side / smaller / 4)) * 4 for side in (height, width))
        if level:
            grey = jax.image.resize(grey, size, "linear")
        uv, scores = detect(grey)
        factor = jnp.array([width / size[1], height / size[0]], jnp.float32)
        found.append((to_image(uv, factor), describe(grey, uv), scores))
    count = len(found[0][0])
    uv, descriptors, scores = (jnp.concatenate(parts) for parts in zip(*found, strict=True))
    if levels > 1:
        scores, index = top(scores, count)
        uv, descriptors = uv[index], descriptors[index]
    return uv, descriptors, scores
