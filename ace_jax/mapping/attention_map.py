"""The landmark-attention map of a scene."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ace_jax.localization.landmark_search import Landmarks
from ace_jax.localization.scene_map import SceneMap
from ace_jax.mapping.images import MappingImage
from ace_jax.mapping.landmark_refinement import Tracks
from ace_jax.mapping.landmarks import build
from ace_jax.mapping.points import Depths
from ace_jax.mapping.progress import Progress
from ace_jax.mapping.trained_map import fill_from_images, rehearsal_of, sample_of, train
from ace_jax.models.landmark_attention import LandmarkAttention, landmark_variables
from ace_jax.training.checkpoints import Checkpoints

FEW = 30  # landmarks in an image without which a query from there would hardly be answered
_EXTRA = ("origins", "views", "repeatability")


def make(
    images: Sequence[MappingImage],
    depths: Sequence[Depths],
    config: ml_collections.ConfigDict,
    checkpoints: Checkpoints | None,
    progress: Progress,
    known: SceneMap | None,
) -> SceneMap:
    """Builds the map; features, camera and mean are left for the caller to fill in."""
    rng = np.random.default_rng(config.seed)
    found, constants = build(
        images,
        depths,
        config.landmarks,
        rng,
        known=None if known is None else tracks_of(known),
        known_coarse=0 if known is None else int(_filled(known).sum()),
        progress=progress,
    )
    tracks, coarse = found.tracks, found.coarse
    landmarks = tracks.landmarks
    total = len(landmarks.points)
    variables = landmark_variables(
        landmarks.descriptors[:coarse],
        landmarks.points[:coarse],
        constants.tau,
        gain=constants.gain,
        floor=constants.floor,
    )
    head = LandmarkAttention(landmarks=coarse, dim=landmarks.descriptors.shape[1])
    info: dict[str, Any] = {
        "landmarks": total,
        "tau": constants.tau,
        "landmarks_left_out": found.left_out,
        "few_landmarks": [
            image.name for image, seen in zip(images, found.seen, strict=True) if seen < FEW
        ],
        "landmark_options": {"min_similarity": config.landmarks.min_similarity},
    }
    sample = {}
    if config.training.steps:
        buffer = fill_from_images(images, depths, config)
        rehearsal = None if known is None else rehearsal_of(known)
        variables, figures = train(
            head, variables, buffer, config, checkpoints, progress, rehearsal
        )
        info |= figures
        sample = sample_of(buffer, rehearsal, config)
    extra = sample | {
        "origins": landmarks.origins[:coarse],
        "views": landmarks.views[:coarse].astype(np.int32),
        "repeatability": tracks.repeatability[:coarse].astype(np.float32),
    }
    if total > coarse:
        rest = slice(coarse, total)
        extra |= {
            "detail_descriptors": landmarks.descriptors[rest],
            "detail_points": landmarks.points[rest],
            "detail_origins": landmarks.origins[rest],
            "detail_views": landmarks.views[rest].astype(np.int32),
            "detail_repeatability": tracks.repeatability[rest].astype(np.float32),
        }
    return SceneMap(
        head="landmark_attention",
        head_options={"landmarks": coarse, "dim": head.dim},
        variables=jax.tree.map(np.asarray, variables),
        features="",
        feature_options={},
        feature_checksum="",
        feature_dim=head.dim,
        camera=images[0].camera,
        mean=np.zeros(3, np.float32),
        extra={name: np.asarray(array) for name, array in extra.items()},
        info=info,
    )


def _filled(scene_map: SceneMap) -> np.ndarray:
    """(M,) bool, which rows of the head hold a landmark."""
    return np.asarray(scene_map.variables["params"]["bias"]) > -1e6


def tracks_of(scene_map: SceneMap) -> Tracks:
    """The landmarks of a map, ready to be extended; what an older writer left out is guessed."""
    params, extra = scene_map.variables["params"], scene_map.extra
    filled = _filled(scene_map)
    count = int(filled.sum())
    defaults = {
        "origins": np.full((count, 3), np.nan, np.float32),
        "views": np.full(count, 10, np.int32),
        "repeatability": np.zeros(count, np.float32),
    }
    columns = {
        "descriptors": [params["descriptors"][filled]],
        "points": [params["points"][filled]],
        **{name: [extra[name][filled] if name in extra else defaults[name]] for name in _EXTRA},
    }
    if "detail_points" in extra:
        for name, parts in columns.items():
            parts.append(extra[f"detail_{name}"])
    joined = {name: jnp.asarray(np.concatenate(parts)) for name, parts in columns.items()}
    size = len(joined["points"])
    return Tracks(
        landmarks=Landmarks(
            descriptors=joined["descriptors"],
            points=joined["points"],
            origins=joined["origins"],
            views=joined["views"],
        ),
        repeatability=joined["repeatability"],
        chances=jnp.zeros(size),
        recent=jnp.zeros(size),
    )
