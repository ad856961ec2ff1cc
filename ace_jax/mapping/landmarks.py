"""A landmark map from posed images: built, refined, reduced to its size, and calibrated."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ace_jax.errors import UserError
from ace_jax.mapping.images import MappingImage
from ace_jax.mapping.landmark_refinement import Tracks
from ace_jax.mapping.landmark_store import LandmarkStore, Selection
from ace_jax.mapping.points import Depths
from ace_jax.progress import Progress, quiet
from ace_jax.training.attention_calibration import AttentionConstants, calibrate

REFINE_RADII = (4.0, 3.0)  # pixels at 640 columns, by round; tuned on redkitchen
_HELD_OUT = 12  # every so many images measure the constants


def build(
    images: Sequence[MappingImage],
    depths: Sequence[Depths],
    options: Any,
    rng: np.random.Generator,
    known: Tracks | None = None,
    known_coarse: int = 0,
    progress: Progress = quiet,
) -> tuple[Selection, AttentionConstants]:
    """Landmarks of the images, with the constants of their attention.

    Args:
        images: with poses.
        depths: of their features.
        options: the configuration's `landmarks`.
        rng: for order and samples.
        known: landmarks of an earlier map, which keep their points.
        known_coarse: so many of them, the first, are its head's.
        progress: told after each image.

    Raises:
        UserError: hardly any landmark is seen in several images.
    """
    pairs = list(zip(images, depths, strict=True))
    held_out = pairs[_HELD_OUT // 2 :: _HELD_OUT] if len(pairs) >= 2 * _HELD_OUT else []
    used = [pair for k, pair in enumerate(pairs) if k % _HELD_OUT != _HELD_OUT // 2 or not held_out]
    store = LandmarkStore(images[0].descriptors.shape[1], options, known, known_coarse)
    store.grow(used, progress)
    store.drop_lone()
    rounds = 1 + max(options.rounds, 1)
    progress("refinement", 0, rounds)
    store.refine([image for image, _ in used], REFINE_RADII[0])
    judges = [image for image, _ in held_out] or images
    head = _enough(store.select(rng), options).head
    constants = calibrate(
        head.descriptors[:, 0], head.points, judges, rng, options.keep_share, options.tau
    )
    # The held-out images have done their duty: their landmarks count as well.
    store.grow(held_out, quiet)
    for done in range(1, rounds):  # the last tells what each image sees
        progress("refinement", done, rounds)
        store.refine(images, REFINE_RADII[min(done - 1, 1)])
    progress("refinement", rounds, rounds)
    found = _enough(store.select(rng), options)
    return found, constants


def _enough(found: Selection, options: Any) -> Selection:
    """The selection itself, if it is large enough for a map."""
    count = len(found.tracks.landmarks.points)
    if count < 50:
        raise UserError(
            f"only {count} landmarks are seen in {options.min_views} images "
            "or more; check that the poses belong to these images, or give more images"
        )
    return found
