"""A map from features and matches that hloc computed, and images with known poses.

The matches replace the search along epipolar lines: a feature's depth is triangulated from its
matches in the images that share most with its own; landmarks are then built as from any other
features. Queries of such a map bring features of the same kind (`features.stored`).
"""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging

from ace_jax.data.frame import BadFrame, FrameSource, metric
from ace_jax.data.hloc import FeatureFile, MatchFile, all_pairs, read_pairs
from ace_jax.errors import UserError
from ace_jax.features.stored import HLOC, HlocFeatures
from ace_jax.geometry.camera import camera_of, camera_rows
from ace_jax.geometry.rigid import invert
from ace_jax.localization.scene_map import SceneMap, feature_fields
from ace_jax.mapping import attention_map
from ace_jax.mapping.images import MappingImage, select_frames
from ace_jax.mapping.pipeline import resolved
from ace_jax.mapping.points import NEIGHBOURS, Depths
from ace_jax.mapping.triangulation import TriangulatedDepth, triangulate_matches
from ace_jax.programs import program
from ace_jax.progress import Progress, quiet

# The matcher has chosen among candidates already: a match counts as distinctive.
_DISTINCTIVE = 0.0


@dataclasses.dataclass(frozen=True)
class HlocFiles:
    """What hloc wrote about the mapping images.

    Attributes:
        features: feature file.
        matches: match file.
        pairs: text file of the pairs that were matched; None: every pair is looked for.
    """

    features: Path
    matches: Path
    pairs: Path | None = None


def map_from_hloc(
    source: FrameSource,
    files: HlocFiles,
    config: ml_collections.ConfigDict,
    progress: Progress = quiet,
) -> SceneMap:
    """Maps a scene from hloc's files.

    Args:
        source: images with poses; of their pixels nothing is used.
        files: of these images.
        config: see `mapping.config`; its `landmarks`, `seed` and `head` count.
        progress: told of every stage.

    Raises:
        UserError: a file is missing or damaged, or it is of other images.
    """
    started, used = time.perf_counter(), time.process_time()
    config.features.name = HLOC
    config = resolved(config, None, has_depth=False)
    if config.head.name != "landmark_attention" or config.training.steps:
        raise UserError("maps of hloc's features are landmarks: take --config landmarks")
    known = FeatureFile(files.features)
    stored = HlocFeatures(known)
    images, names = _images(source, known, stored)
    pairs = all_pairs(names) if files.pairs is None else read_pairs(files.pairs)
    matches = _matches(MatchFile(files.matches), names, pairs)
    depths = _depths(images, matches, progress)
    centres = np.stack([image.world_from_camera[:3, 3] for image in images])
    fields = feature_fields(stored, {}) | {
        "camera": source.camera,
        "mean": centres.mean(axis=0).astype(np.float32),
    }
    made = attention_map.make(images, depths, config, None, progress, None, fields)
    info = {
        **made.info,
        "sequence": source.name,
        "mapping_images": len(images),
        "metric": metric(source),
        "images_given": len(images),
        "checks": {},
        "seconds": time.perf_counter() - started,
        "core_seconds": time.process_time() - used,
        "seed": config.seed,
        "config": config.to_json_best_effort(),
        "hloc": files.features.name,
    }
    return dataclasses.replace(made, info=info)


def _images(
    source: FrameSource, known: FeatureFile, stored: HlocFeatures
) -> tuple[list[MappingImage], list[str]]:
    """The posed images that have features, and their names in the feature file."""
    images, names = [], []
    ours = source.names()
    for index in select_frames(source, None):
        name = known.find(ours[index])
        if name is None:
            continue
        try:
            frame = source[index]
        except BadFrame as error:
            logging.warning("frame %d skipped: %s", index, error)
            continue
        features = jax.tree.map(np.asarray, stored.unsorted(name))
        images.append(
            MappingImage(
                frame=index,
                name=frame.name,
                descriptors=features.descriptors.astype(np.float16),
                uv=features.uv,
                scores=features.scores,
                mask=features.mask,
                depth=features.depth,
                camera=frame.camera,
                camera_from_world=invert(frame.world_from_camera),
                grid=None,
            )
        )
        names.append(name)
    if len(images) < 2:
        raise UserError(
            f"{known.path} has features of {len(images)} images of {source.name}; its names are "
            f"like {known.names()[0]!r}, the recording's like {ours[0]!r}"
        )
    return images, names


def _matches(file: MatchFile, names: Sequence[str], pairs: Any) -> dict[int, dict[int, np.ndarray]]:
    """By image, then by other image: (K, 2) features of the one and of the other."""
    place = {name: i for i, name in enumerate(names)}
    found: dict[int, dict[int, np.ndarray]] = defaultdict(dict)
    for first, second in pairs:
        i, j = place.get(first), place.get(second)
        if i is None or j is None or i == j:
            continue
        matches = file.read(first, second)
        if matches is not None and len(matches):
            found[i][j], found[j][i] = matches, matches[:, ::-1]
    if not found:
        raise UserError(
            f"{file.path} has no matches between these images; give the pairs and matches of the "
            "mapping images (hloc's pairs-db-... or pairs-sfm)"
        )
    return found


def _depths(
    images: Sequence[MappingImage],
    matches: dict[int, dict[int, np.ndarray]],
    progress: Progress,
) -> list[Depths]:
    """Depths of the features, by their matches."""
    depths, count = [], len(images[0].uv)
    for i, image in enumerate(images):
        progress("points", i, len(images))
        beside = sorted(matches[i], key=lambda j: -len(matches[i][j]))[:NEIGHBOURS]
        seen = np.zeros((NEIGHBOURS, count, 2), np.float32)
        matched = np.zeros((NEIGHBOURS, count), bool)
        for k, j in enumerate(beside):
            here, there = matches[i][j].T
            good = (here < image.mask.sum()) & (there < images[j].mask.sum())
            seen[k, here[good]], matched[k, here[good]] = images[j].uv[there[good]], True
        others = [images[j] for j in beside] + [image] * (NEIGHBOURS - len(beside))
        relative = np.stack([o.camera_from_world @ image.world_from_camera for o in others])
        cameras = camera_rows([o.camera for o in (image, *others)]).astype(np.float32)
        found = _triangulate(
            image.uv,
            image.mask,
            cameras[0],
            seen,
            matched,
            relative.astype(np.float32),
            cameras[1:],
        )
        valid = np.asarray(found.valid) | np.asarray(found.lone)
        depths.append(Depths(np.asarray(found.depth), valid))
    progress("points", len(images), len(images))
    return depths


@program
def _triangulate(
    uv: jax.Array,
    mask: jax.Array,
    camera: jax.Array,
    seen: jax.Array,
    matched: jax.Array,
    *rest: jax.Array,
) -> TriangulatedDepth:
    ratio = jax.numpy.where(matched, _DISTINCTIVE, 1.0)
    return triangulate_matches(uv, mask, camera_of(camera), seen, matched, ratio, *rest)
