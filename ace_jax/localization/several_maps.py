"""Localization among several maps: the one with the largest share of inliers answers."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ace_jax.data.inputs import as_camera
from ace_jax.features.base import FeatureExtractor, Features
from ace_jax.geometry.camera import Camera
from ace_jax.localization.relocalizer import (
    Localization,
    Relocalizer,
    cameras_of,
    timed_features,
)
from ace_jax.localization.scene_map import load_map


def locate_among(
    relocalizers: Sequence[Relocalizer],
    image: np.ndarray,
    intrinsics: Camera | np.ndarray,
    depth: np.ndarray | None = None,
) -> Localization:
    """Which of several scenes an image shows, and from where.

    Maps may have been asked about different numbers of features: the share of those that voted
    counts.

    Features are extracted once for all maps that share them. Its arguments are those of a
    relocalizer's call.
    """
    camera = as_camera(intrinsics, image.shape[1], image.shape[0])
    extracted = _extracted(relocalizers, [image])
    answers = [r.locate(extracted[id(r.extractor)][0][0], camera, depth) for r in relocalizers]
    return _best(answers, [ms for ((_, ms),) in extracted.values()])


def locate_many_among(
    relocalizers: Sequence[Relocalizer],
    images: Sequence[np.ndarray],
    intrinsics: Sequence[Camera | np.ndarray],
    depths: Sequence[np.ndarray | None] | None = None,
) -> list[Localization]:
    """As `locate_among`, for K images; its arguments are those of `Relocalizer.locate_many`."""
    cameras = cameras_of(images, intrinsics)
    extracted = _extracted(relocalizers, images)
    answers = [
        r.locate_features([f for f, _ in extracted[id(r.extractor)]], cameras, depths)
        for r in relocalizers
    ]
    return [
        _best([of_map[i] for of_map in answers], [kind[i][1] for kind in extracted.values()])
        for i in range(len(images))
    ]


def locate_features_among(
    relocalizers: Sequence[Relocalizer], features: Sequence[Features], cameras: Sequence[Camera]
) -> list[Localization]:
    """As `locate_many_among`, of images whose features are known and are those of all maps."""
    answers = [r.locate_features(features, cameras) for r in relocalizers]
    return [_best([of_map[i] for of_map in answers], [0.0]) for i in range(len(features))]


def _extracted(
    relocalizers: Sequence[Relocalizer], images: Sequence[np.ndarray]
) -> dict[int, list[tuple[Features, float]]]:
    """By extractor, the features of each image and the milliseconds that they took."""
    extractors = {id(r.extractor): r.extractor for r in relocalizers}
    return {
        kind: [timed_features(extractor, image) for image in images]
        for kind, extractor in extractors.items()
    }


def _best(answers: Sequence[Localization], feature_ms: Sequence[float]) -> Localization:
    """The best of the maps' answers to one image, with the time that all of them took."""

    def share(answer: Localization) -> float:
        return answer.num_inliers / max(int(answer.voted.sum()), 1)

    best = max(answers, key=lambda answer: (answer.success, share(answer)))
    ms = {stage: sum(answer.ms[stage] for answer in answers) for stage in best.ms}
    return dataclasses.replace(best, ms={"features": sum(feature_ms), **ms})


def load_maps(
    paths: Sequence[Path | str],
    weights_dir: Path | str | None = None,
    extractor: FeatureExtractor | None = None,
    **changes: Any,
) -> list[Relocalizer]:
    """Relocalizers of several maps; those with the same features share one extractor.

    Args:
        paths: of the maps.
        weights_dir: where their weights are.
        extractor: of all of them; None: what each map names.
        **changes: of the maps' default `Settings`.
    """
    loaded: list[Relocalizer] = []
    for path in paths:
        new = Relocalizer.of(
            load_map(path), weights_dir, extractor, name=Path(path).stem, **changes
        )
        for other in loaded:
            if _extraction(new) == _extraction(other):
                new.extractor = other.extractor
                break
        loaded.append(new)
    return loaded


def _extraction(relocalizer: Relocalizer) -> tuple:
    scene_map = relocalizer.map
    return scene_map.features, scene_map.feature_options, scene_map.feature_checksum
