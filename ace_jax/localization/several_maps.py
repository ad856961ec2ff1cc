"""Localization among several maps: the one with the most inliers answers."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.localization.relocalizer import Localization, Relocalizer, as_camera


def locate_among(
    relocalizers: Sequence[Relocalizer],
    image: np.ndarray,
    intrinsics: Camera | np.ndarray,
    depth: np.ndarray | None = None,
) -> Localization:
    """Which of several scenes an image shows, and from where: the answer with the most inliers.

    Features are extracted once for all maps that share them. Its arguments are those of a
    relocalizer's call.
    """
    camera = as_camera(intrinsics, image.shape[1], image.shape[0])
    extracted: dict[int, tuple[Features, float]] = {}
    answers = []
    for relocalizer in relocalizers:
        kind = id(relocalizer.extractor)
        if kind not in extracted:
            start = time.perf_counter()
            features = jax.block_until_ready(relocalizer.extractor.extract(image))
            extracted[kind] = features, (time.perf_counter() - start) * 1e3
        answers.append(relocalizer.locate(extracted[kind][0], camera, depth))
    best = max(answers, key=lambda answer: (answer.success, answer.num_inliers))
    ms = {stage: sum(answer.ms[stage] for answer in answers) for stage in best.ms}
    return dataclasses.replace(best, ms={"features": sum(t for _, t in extracted.values()), **ms})


def load_maps(
    paths: Sequence[Path | str], weights_dir: Path | str | None = None, **changes: Any
) -> list[Relocalizer]:
    """Relocalizers of several maps; those with the same features share one extractor."""
    loaded: list[Relocalizer] = []
    for path in paths:
        new = Relocalizer.load(path, weights_dir, **changes)
        for other in loaded:
            if _extraction(new) == _extraction(other):
                new.extractor = other.extractor
                break
        loaded.append(new)
    return loaded


def _extraction(relocalizer: Relocalizer) -> tuple:
    scene_map = relocalizer.map
    return scene_map.features, scene_map.feature_options, scene_map.feature_checksum
