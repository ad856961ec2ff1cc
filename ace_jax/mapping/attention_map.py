"""Mapping with a landmark-attention head: landmarks, their calibration, optional training."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ace_jax.localization import places
from ace_jax.localization.places import HEAD_ROWS
from ace_jax.localization.scene_map import SceneMap
from ace_jax.localization.stored_landmarks import (
    head_rows,
    known_landmarks,
    landmark_entries,
)
from ace_jax.mapping.images import MappingImage
from ace_jax.mapping.landmark_refinement import Tracks
from ace_jax.mapping.landmark_store import Selection
from ace_jax.mapping.landmarks import build
from ace_jax.mapping.points import Depths
from ace_jax.mapping.trained_map import fill_from_images, rehearsal_of, sample_of, train
from ace_jax.models.landmark_attention import LandmarkAttention
from ace_jax.progress import Progress
from ace_jax.training.checkpoints import Checkpoints

FEW = 30  # landmarks in view; fewer than a query needs inliers, see `default_settings`


def make(
    images: Sequence[MappingImage],
    depths: Sequence[Depths],
    config: ml_collections.ConfigDict,
    checkpoints: Checkpoints | None,
    progress: Progress,
    known: SceneMap | None,
    fields: dict[str, Any],
) -> SceneMap:
    """Builds the map; `fields` are those of features, camera and mean."""
    rng = np.random.default_rng(config.seed)
    found, constants = build(
        images,
        depths,
        config.landmarks,
        rng,
        known=None if known is None else tracks_of(known),
        known_coarse=0 if known is None else int(head_rows(known).sum()),
        progress=progress,
    )
    landmarks, coarse = found.tracks.landmarks, found.coarse
    entries = landmark_entries(
        landmarks, coarse, found.tracks.repeatability, **dataclasses.asdict(constants)
    )
    head = LandmarkAttention(**entries["head_options"])
    info: dict[str, Any] = {
        "landmarks": len(landmarks.points),
        "tau": constants.tau,
        "landmarks_left_out": found.left_out,
        "few_landmarks": [
            image.name
            for image, shown in zip(images, found.shown, strict=True)
            if (shown >= 0).sum() < FEW
        ],
        "landmark_options": {"min_similarity": config.landmarks.min_similarity},
    }
    if config.training.steps:
        buffer = fill_from_images(images, depths, config)
        rehearsal = None if known is None else rehearsal_of(known)
        trained, figures = train(
            head, entries["variables"], buffer, config, checkpoints, progress, rehearsal
        )
        info |= figures
        entries["variables"] = jax.tree.map(np.asarray, trained)
        entries["extra"] |= sample_of(buffer, rehearsal, config)
    if coarse > HEAD_ROWS:
        entries["extra"] |= _places(images, found, known)
    return SceneMap(
        **fields,
        **entries,
        info=info,
    )


def _places(
    images: Sequence[MappingImage], found: Selection, known: SceneMap | None
) -> dict[str, np.ndarray]:
    """The places of the map: the images, after those of the earlier map."""
    descriptors = [image.descriptors for image in images]
    masks, shown = [image.mask for image in images], list(found.shown)
    before = None
    if known is not None and places.part_of(known.extra):
        before = places.moved_places(known.extra, found.known)
    elif known is not None:
        old, _ = known_landmarks(known)
        for rows in places.groups_of(old):
            descriptors.append(old.descriptors[rows, 0])
            masks.append(np.ones(len(rows), bool))
            shown.append(found.known[rows])
    return places.place_arrays(descriptors, masks, shown, before)


def tracks_of(scene_map: SceneMap) -> Tracks:
    """The landmarks of a map, ready to be extended."""
    landmarks, repeatability = known_landmarks(scene_map)
    nothing = jnp.zeros(len(landmarks.points))
    return Tracks(
        landmarks=jax.tree.map(jnp.asarray, landmarks),
        repeatability=jnp.asarray(repeatability),
        chances=nothing,
        recent=nothing,
    )
