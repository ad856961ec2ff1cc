"""From posed images to a map: the stages of a mapping run, in their order."""

import dataclasses
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from ace_jax.data.frame import FrameSource, metric
from ace_jax.errors import UserError
from ace_jax.evaluation.lengths import length_unit
from ace_jax.features import registry
from ace_jax.features.base import FeatureExtractor
from ace_jax.features.similarity import similarity
from ace_jax.localization.scene_map import SceneMap, feature_fields
from ace_jax.mapping import attention_map, checks, trained_map
from ace_jax.mapping.attention_map import FEW
from ace_jax.mapping.images import MappingImage, extract_images, select_frames
from ace_jax.mapping.points import Depths, estimated_depths, measured_depths
from ace_jax.progress import Progress, quiet
from ace_jax.training.checkpoints import Checkpoints

# On all recordings at once SIFT is at least level with XFeat descriptors, which are blind to roll.
AUTO_FEATURES = "sift"


def map_scene(
    source: FrameSource,
    config: ml_collections.ConfigDict,
    weights_dir: Path | str | None = None,
    checkpoint_dir: Path | str | None = None,
    progress: Progress = quiet,
    known: SceneMap | None = None,
) -> SceneMap:
    """Maps a scene.

    Args:
        source: images with poses.
        config: see `mapping.config`.
        weights_dir: where the feature extractor's weights are.
        checkpoint_dir: where training keeps its state; an unfinished run there is continued.
        progress: told of every stage.
        known: an earlier map of the scene, which is extended and not forgotten.

    Returns:
        The map, to be saved with `maps.save_map`.

    Raises:
        UserError: the source has no poses, weights are missing, nothing can be triangulated, ...
    """
    started, used = time.perf_counter(), time.process_time()
    config = resolved(config, known, source.has_depth)
    extractor = create_extractor(config, weights_dir)
    if known is not None:
        known.require_features(extractor)
    frames, kept_out = checks.hold_out(
        select_frames(source, config.max_frames, config.more_frames), config.checks.images
    )
    centres = source.poses()[frames, :3, 3]
    fields = feature_fields(extractor, config.features.options.to_dict()) | {
        "camera": source.camera,
        "mean": centres.mean(axis=0).astype(np.float32) if known is None else known.mean,
    }
    fresh = _checks(source, kept_out, extractor, config)
    checkpoints = None
    if checkpoint_dir is not None and config.training.steps:
        checkpoints = Checkpoints(checkpoint_dir, _identity(config, source, frames))
    try:
        if config.head.name == "landmark_attention":
            images, depths = _images_with_points(source, frames, extractor, config, progress)
            made = attention_map.make(images, depths, config, checkpoints, progress, known, fields)
        else:
            made = trained_map.make(
                source,
                frames,
                extractor,
                config,
                weights_dir,
                checkpoints,
                progress,
                known,
                lambda: _images_with_points(source, frames, extractor, config, progress),
                fields,
            )
    finally:
        if checkpoints is not None:
            checkpoints.close()
    carried = [] if known is None else checks.carried_by(known)
    kind = "images" if known is None else "new images"
    progress("checks", 0, 1)
    judged = {
        label: {
            "before": None if known is None else checks.judge(known, extractor, some, weights_dir),
            "after": checks.judge(made, extractor, some, weights_dir),
        }
        for label, some in (("earlier images", carried), (kind, fresh))
        if some
    }
    progress("checks", 1, 1)
    info = {
        **made.info,
        "sequence": source.name,
        "mapping_images": len(frames),
        "metric": metric(source),
        "images_given": len(select_frames(source, None)),
        "checks": judged,
        "seconds": time.perf_counter() - started,
        "core_seconds": time.process_time() - used,
        "seed": config.seed,
        "config": config.to_json_best_effort(),
    }
    if known is not None:
        info["updates"] = [*known.info.get("updates", []), known.info.get("sequence", "")]
    room = max(2 * config.checks.images, len(carried))
    carried = checks.thinned([*carried, *fresh], room)
    return dataclasses.replace(made, extra=made.extra | checks.arrays_of(carried), info=info)


def _checks(
    source: FrameSource,
    frames: Sequence[int],
    extractor: FeatureExtractor,
    config: ml_collections.ConfigDict,
) -> list[checks.Check]:
    """Checks made of these frames; fewer, or none, if they cannot be read."""
    if not frames:
        return []
    try:
        images = extract_images(source, frames, extractor, use_depth=False)
    except UserError:
        return []
    return checks.checks_of(images, config.checks.features)


def resolved(
    config: ml_collections.ConfigDict,
    known: SceneMap | None,
    has_depth: bool,
) -> ml_collections.ConfigDict:
    """A copy with every choice made: features by name, and what depends on them and on depth."""
    config = ml_collections.ConfigDict(config.to_dict())
    if known is not None:
        # What the map was made with, whatever the configuration says.
        config.features.name = known.features
        config.features.options = ml_collections.ConfigDict(known.feature_options)
        config.head.name = known.head
    elif config.features.name == "auto":
        config.features.name = AUTO_FEATURES
    kind = similarity(config.features.name)
    if config.landmarks.min_similarity is None:
        config.landmarks.min_similarity = kind.mapping_min_cosine
    if config.landmarks.tau is None:
        config.landmarks.tau = kind.mapping_temperature
    if config.landmarks.min_views is None:
        measured = has_depth and config.points.source in ("both", "measured")
        config.landmarks.min_views = 1 if measured else 2
    return config


def create_extractor(
    config: ml_collections.ConfigDict, weights_dir: Path | str | None
) -> FeatureExtractor:
    """The configuration's feature extractor."""
    options = config.features.options.to_dict()
    return registry.create(
        config.features.name,
        weights_dir=weights_dir,
        **{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()},
    )


def _images_with_points(
    source: FrameSource,
    frames: Sequence[int],
    extractor: FeatureExtractor,
    config: ml_collections.ConfigDict,
    progress: Progress,
) -> tuple[list[MappingImage], list[Depths]]:
    """Features of the frames, and their depths as the configuration says."""
    wanted = config.points.source
    if wanted not in ("both", "measured", "estimated", "none"):
        raise UserError(
            f"points.source is {wanted!r}; it is one of both, measured, estimated, none"
        )
    use_depth = wanted in ("both", "measured") and source.has_depth
    images = extract_images(source, frames, extractor, use_depth, progress)
    if wanted == "none":
        nothing = [np.zeros(len(image.uv), np.float32) for image in images]
        return images, [Depths(depth, depth > 0) for depth in nothing]
    if wanted == "measured" and use_depth:
        return images, measured_depths(images)
    measured = wanted == "both" and use_depth
    near, far = config.points.near, config.points.far
    estimated = estimated_depths(images, near, far, progress, alone=not measured)
    if measured:
        # Triangulated points agree with the images; the sensor knows those that do not move.
        estimated = [
            Depths(np.where(e.valid, e.depth, m.depth), e.valid | m.valid)
            for e, m in zip(estimated, measured_depths(images), strict=True)
        ]
    return images, estimated


def _identity(config: ml_collections.ConfigDict, source: FrameSource, frames: Sequence[int]) -> str:
    """A digest of what a continued run must share with the interrupted one."""
    text = config.to_json_best_effort(sort_keys=True) + source.name
    poses = np.ascontiguousarray(source.poses()[list(frames)])
    return hashlib.sha256(text.encode() + poses.tobytes() + str(list(frames)).encode()).hexdigest()


def describe(made: SceneMap, size: int, path: Any) -> str:
    """A few lines for the terminal."""
    info = made.info
    used, given = info["mapping_images"], info["images_given"]
    kept_out = sum(judged["after"]["queries"] for judged in info["checks"].values())
    lines = [
        f"{path}: {size / 1e6:.2f} MB, {made.head} on {made.features}, "
        f"{used} images of {info['sequence']}",
        f"{info['seconds']:.0f} s ({info['core_seconds']:.0f} core-seconds)",
    ]
    if used + kept_out < given:
        lines.append(f"{given} images have poses; config.max_frames takes more of them")
    if "landmarks" in info:
        lines.append(
            f"{info['landmarks']} landmarks, {made.head_options['landmarks']} of them in the head, "
            f"temperature {info['tau']:g}"
        )
        lines += left_out(info)
    if np.isfinite(info.get("error_px", np.nan)):
        lines.append(
            f"last training step: median error {info['error_px']:.1f} px, "
            f"{100 * info['inliers']:.0f} % within 10 px"
        )
    for label, judged in info["checks"].items():
        before, after = judged["before"], judged["after"]
        text = " -> ".join(accuracy(x, made.metric) for x in (before, after) if x is not None)
        lines.append(f"{after['queries']} {label} kept out of mapping: {text}")
    return "\n".join(lines)


def left_out(info: dict[str, Any]) -> list[str]:
    """Lines about what a map of landmarks lacks; none if it has everything."""
    lines = []
    if info.get("landmarks_left_out"):
        lines.append(
            f"{info['landmarks_left_out']} landmarks left out for want of room, evenly over the "
            "images: config.landmarks.capacity and coarse_capacity give more"
        )
    poor = info.get("few_landmarks", [])
    if poor:
        names = ", ".join(poor[:3]) + (", ..." if len(poor) > 3 else "")
        lines.append(
            f"{len(poor)} of {info['mapping_images']} images see fewer than {FEW} landmarks, "
            f"queries from there will fail ({names}): map more images around them"
        )
    return lines


def accuracy(figures: dict[str, float], metric: bool) -> str:
    """Figures of the checks as a line."""
    unit, median = length_unit(metric), figures["median_translation_m"]
    return (
        f"{figures['within_5cm_5deg']:.0f} % within {unit.bound(0.05)}/5 deg, "
        f"median {unit.text(median) if np.isfinite(median) else 'no pose'}"
    )
