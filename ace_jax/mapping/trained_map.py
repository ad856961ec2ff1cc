"""Maps that are learned from a patch buffer: MLP heads, and codes of a map-code transformer."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging

from ace_jax.data.frame import BadFrame, FrameSource
from ace_jax.errors import UserError
from ace_jax.features import registry
from ace_jax.features.base import FeatureExtractor
from ace_jax.geometry.rigid import invert
from ace_jax.localization.scene_map import SceneMap
from ace_jax.mapping.images import MappingImage
from ace_jax.mapping.points import Depths, world_points
from ace_jax.models.landmark_transformer import code_of
from ace_jax.models.scene_coordinate_heads import create_head
from ace_jax.progress import Progress, quiet
from ace_jax.training import augmentation
from ace_jax.training.checkpoints import Checkpoints
from ace_jax.training.fit import fit
from ace_jax.training.patch_buffer import Batch, PatchBuffer, PatchBufferBuilder, PatchSampler
from ace_jax.weights.shared_transformer import load_transformer

_FILL, _INIT, _TRAIN, _REHEARSE = range(4)  # streams of the seed's key
_DEFAULT_REACH = 5.0  # metres beyond the cameras, of a scene of unknown extent: a room's size
_ROUNDS = 100  # of all frames at most, when augmentation fills the buffer

WithPoints = Callable[[], tuple[list[MappingImage], list[Depths]]]


def make(
    source: FrameSource,
    frames: Sequence[int],
    extractor: FeatureExtractor,
    config: ml_collections.ConfigDict,
    weights_dir: Path | str | None,
    checkpoints: Checkpoints | None,
    progress: Progress,
    known: SceneMap | None,
    with_points: WithPoints,
    fields: dict[str, Any],
) -> SceneMap:
    """Fills the buffer, trains, and packs the map; `fields` are those of features and camera."""
    coded = config.head.name in ("map_code_transformer", "landmark_transformer")
    shared = load_transformer(config.code.weights, weights_dir) if coded else None
    head_name = shared.head if coded else config.head.name
    # A code of landmarks works as soon as it is observed; everything else must be trained.
    observed = head_name == "landmark_transformer"
    if not config.training.steps and not observed:
        raise UserError(f"a {head_name} must be trained: set config.training.steps")
    centres = source.poses()[list(frames)][:, :3, 3]
    with_points = functools.cache(with_points)
    if config.augmentation.enabled:
        buffer = fill_augmented(source, frames, config, weights_dir, progress)
    else:
        buffer = fill_from_images(*with_points(), config)
    key = jax.random.key(config.seed)
    code = code_frames = None
    if coded:
        head, params, head_checksum = shared.module, shared.params, shared.checksum
        if shared.dim_in != extractor.dim:
            raise UserError(
                f"{config.code.weights} takes features of length {shared.dim_in}, "
                f"{extractor.name} gives {extractor.dim}"
            )
        options, variables = shared.options(), {"params": params}
        if not observed:
            mean = centres.mean(axis=0) if known is None else known.variables["scene"]["mean"]
            variables["scene"] = {"mean": jnp.asarray(mean, jnp.float32)}
        if known is not None:
            code = jnp.asarray(known.code)
        elif observed:
            code, code_frames = observed_code(*with_points(), config.code.size, config.seed)
        else:
            code = head.init_code(jax.random.fold_in(key, _INIT), config.code.size)
    else:
        head_checksum = ""
        options = config.head.options.to_dict() if known is None else known.head_options
        head = create_head(config.head.name, **options)
        if known is None:
            features = jnp.zeros((1, extractor.dim))
            variables = dict(head.init(jax.random.fold_in(key, _INIT), features))
            variables["scene"] = _scene(variables["scene"], centres, buffer)
        else:
            variables = jax.tree.map(jnp.asarray, known.variables)
    rehearsal = None if known is None else rehearsal_of(known)
    variables, figures = train(
        head, variables, buffer, config, checkpoints, progress, rehearsal, code, code_frames
    )
    kept = {name: variables[name] for name in ("params", "scene") if name in variables}
    if coded:
        code = variables["code"]
        del kept["params"]  # shared by all maps
    return SceneMap(
        **fields,
        head=head_name,
        head_options=options,
        variables=jax.tree.map(np.asarray, kept),
        code=None if code is None else np.asarray(code),
        head_checksum=head_checksum,
        extra=sample_of(buffer, rehearsal, config),
        info=figures | ({"transformer": config.code.weights} if coded else {}),
    )


def train(
    head: Any,
    variables: dict[str, Any],
    buffer: PatchBuffer,
    config: ml_collections.ConfigDict,
    checkpoints: Checkpoints | None,
    progress: Progress,
    rehearsal: PatchBuffer | None,
    code: jax.Array | None = None,
    code_frames: jax.Array | None = None,
) -> tuple[dict[str, Any], dict[str, float]]:
    """Trains a head's parameters, or with a `code` the code alone under the frozen head.

    With `code_frames` (M,), the frames in which a code's rows were observed, a patch does not see
    the rows of its own frame: it would find itself.

    Returns:
        The variables (with "code" if there is one), and the last step's figures.
    """
    options = config.training
    if not options.steps:
        return {**variables, "code": code}, {}
    key = jax.random.fold_in(jax.random.key(config.seed), _TRAIN)
    rest = {name: value for name, value in variables.items() if name != "params"}

    def apply(trained: Any, frozen: Any, batch: Batch, step_key: jax.Array):
        features = batch.features
        if options.dropout:
            keep = jax.random.bernoulli(step_key, 1.0 - options.dropout, features.shape)
            features = jnp.where(keep, features / (1.0 - options.dropout), 0.0)
        if code_frames is not None:
            allowed = batch.frame[:, None] != code_frames[None, :]
            return head.apply(frozen, features, trained, allowed)
        if code is not None:
            return head.apply(frozen, features, trained)
        return head.apply({"params": trained, **frozen}, features)

    batch_size = options.batch if rehearsal is None else options.batch // 2
    trained, history = fit(
        apply,
        variables["params"] if code is None else code,
        rest if code is None else variables,
        PatchSampler(buffer, jax.random.fold_in(key, 0), batch_size),
        options,
        jax.random.fold_in(key, 1),
        checkpoints,
        progress,
        None
        if rehearsal is None
        else PatchSampler(rehearsal, jax.random.fold_in(key, _REHEARSE), batch_size),
    )
    last = history[-min(50, len(history)) :].mean(axis=0)
    figures = {"loss": float(last[0]), "error_px": float(last[1]), "inliers": float(last[2])}
    if not np.isfinite(last[0]):
        raise UserError("training diverged; lower config.training.learning_rate")
    if code is not None:
        return {**variables, "code": trained}, figures
    return {"params": trained, **rest}, figures


def observed_code(
    images: Sequence[MappingImage], depths: Sequence[Depths], size: int, seed: int
) -> tuple[jax.Array, jax.Array]:
    """A code of landmarks drawn from the mapping images, and the frame (M,) that each is from."""
    rows = [
        (image.descriptors[seen], world_points(image, depth.depth)[seen], image.frame)
        for image, depth in zip(images, depths, strict=True)
        if (seen := image.mask & depth.valid).any()
    ]
    if not rows:
        raise UserError(
            "no feature of the mapping images has a point; set config.points.source to both"
        )
    frames = np.concatenate([np.full(len(points), frame) for _, points, frame in rows])
    order = np.random.default_rng(seed).permutation(len(frames))[:size]
    descriptors, points = (
        jnp.asarray(np.concatenate([row[i] for row in rows])[order], jnp.float32) for i in (0, 1)
    )
    return code_of(descriptors, points, jnp.ones(len(order), bool)), jnp.asarray(frames[order])


def fill_from_images(
    images: Sequence[MappingImage], depths: Sequence[Depths], config: ml_collections.ConfigDict
) -> PatchBuffer:
    """A buffer of features that are in memory already, with their points where known."""
    builder = _builder(images[0].descriptors.shape[1], config)
    key = jax.random.fold_in(jax.random.key(config.seed), _FILL)
    for index, (image, depth) in enumerate(zip(images, depths, strict=True)):
        points = world_points(image, np.where(depth.valid, depth.depth, 1.0))
        builder.add(
            jax.random.fold_in(key, index),
            np.asarray(image.descriptors),
            image.uv,
            image.mask,
            image.camera,
            image.camera_from_world,
            image.frame,
            config.buffer.patches_per_image,
            np.where(depth.valid[:, None], points, np.nan),
        )
    return builder.finish()


def fill_augmented(
    source: FrameSource,
    frames: Sequence[int],
    config: ml_collections.ConfigDict,
    weights_dir: Path | str | None,
    progress: Progress = quiet,
) -> PatchBuffer:
    """A buffer filled from augmented images, over and over until it is full."""
    options = config.features.options.to_dict() | config.augmentation.feature_options.to_dict()
    extractor = registry.create(
        config.features.name,
        weights_dir=weights_dir,
        **{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()},
    )
    settings = config.augmentation
    key = jax.random.fold_in(jax.random.key(config.seed), _FILL)
    builder = _builder(extractor.dim, config)
    for turn in range(_ROUNDS):
        order = np.asarray(jax.random.permutation(jax.random.fold_in(key, turn), len(frames)))
        added = 0
        for index in order:
            if builder.full:
                return builder.finish()
            progress("features", builder.count, builder.capacity)
            image_key = jax.random.fold_in(jax.random.fold_in(key, _ROUNDS + turn), index)
            try:
                frame = source[frames[index]]
            except BadFrame as error:
                logging.warning("frame %d skipped: %s", frames[index], error)
                continue
            drawn = augmentation.draw(
                image_key,
                settings.short_side,
                tuple(settings.scale),
                settings.rotation_deg,
                settings.brightness,
                settings.contrast,
                settings.size_step,
            )
            rgb, camera, turned, seen = augmentation.augment(frame.rgb, frame.camera, drawn)
            features = extractor.extract(rgb)
            uv = np.asarray(features.uv)
            u, v = np.rint(uv).astype(int).T
            inside = seen[np.clip(v, 0, camera.height - 1), np.clip(u, 0, camera.width - 1)]
            added += builder.add(
                image_key,
                features.descriptors,
                uv,
                np.asarray(features.mask) & inside,
                camera,
                turned @ invert(frame.world_from_camera),
                int(frames[index]),
                config.buffer.patches_per_image,
            )
        if not added:
            raise UserError(f"no feature was found in any mapping image of {source.name}")
    return builder.finish()


def _builder(dim: int, config: ml_collections.ConfigDict) -> PatchBufferBuilder:
    gigabytes = config.buffer.max_gigabytes
    return PatchBufferBuilder(
        dim, config.buffer.patches, None if gigabytes is None else int(gigabytes * 1e9)
    )


def _scene(scene: dict, centres: np.ndarray, buffer: PatchBuffer) -> dict:
    """The head's constants of the scene: its mean, or its extent."""
    if "mean" in scene:
        return {"mean": jnp.asarray(centres.mean(axis=0), jnp.float32)}
    points = np.asarray(buffer.target[: buffer.count])
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) < 100:
        logging.warning(
            "the scene's extent is not known without points: taken as %g m around the cameras",
            _DEFAULT_REACH,
        )
        lower, upper = centres.min(axis=0) - _DEFAULT_REACH, centres.max(axis=0) + _DEFAULT_REACH
    else:
        lower, upper = np.quantile(points, 0.01, axis=0), np.quantile(points, 0.99, axis=0)
        margin = 0.1 * (upper - lower)
        lower, upper = lower - margin, upper + margin
    return {"lower": jnp.asarray(lower, jnp.float32), "upper": jnp.asarray(upper, jnp.float32)}


_FIELDS = ("features", "uv", "target", "image")
_TABLES = ("camera_from_world", "intrinsics", "frame")


def sample_of(
    buffer: PatchBuffer, rehearsal: PatchBuffer | None, config: ml_collections.ConfigDict
) -> dict[str, np.ndarray]:
    """A sample of what was learned, for `rehearsal_of` a later update; old and new alike."""
    wanted = config.rehearsal_patches
    if not wanted:
        return {}
    rng = np.random.default_rng(config.seed)
    parts = [buffer] if rehearsal is None else [rehearsal, buffer]
    columns: dict[str, list[np.ndarray]] = {name: [] for name in (*_FIELDS, *_TABLES)}
    images = 0
    for part in parts:
        rows = rng.permutation(part.count)[: wanted // len(parts)]
        for name in _FIELDS:
            columns[name].append(np.asarray(getattr(part, name))[rows])
        columns["image"][-1] = columns["image"][-1] + images
        for name in _TABLES:
            columns[name].append(np.asarray(getattr(part, name)))
        images += len(part.frame)
    return {f"rehearsal_{name}": np.concatenate(parts) for name, parts in columns.items()}


def rehearsal_of(scene_map: SceneMap) -> PatchBuffer | None:
    """The sample of earlier patches that a map carries; None, with a message, if it has none."""
    found = {name: scene_map.extra.get(f"rehearsal_{name}") for name in (*_FIELDS, *_TABLES)}
    if any(array is None for array in found.values()):
        logging.warning("the map carries no earlier patches: training may forget what it knew")
        return None
    arrays = {name: jnp.asarray(array) for name, array in found.items()}
    return PatchBuffer(**arrays, count=len(arrays["uv"]))
