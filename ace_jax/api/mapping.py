"""A map from posed images, in one call."""

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any, SupportsIndex

import ml_collections
from numpy.typing import ArrayLike

from ace_jax.data.frame import FrameSource
from ace_jax.data.given_images import GivenImages
from ace_jax.data.inputs import ImageLike, Intrinsics, as_seed
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.localization.scene_map import SceneMap
from ace_jax.mapping.config import DEFAULT, preset_names
from ace_jax.mapping.pipeline import map_scene
from ace_jax.progress import Progress, quiet


def map_images(
    images: FrameSource | Sequence[ImageLike],
    world_from_camera: ArrayLike | Sequence[Any] | None = None,
    intrinsics: Intrinsics | Sequence[Camera] | None = None,
    depth: Sequence[ArrayLike | None] | None = None,
    *,
    config: str | ml_collections.ConfigDict = DEFAULT,
    weights_dir: str | os.PathLike[str] | None = None,
    seed: SupportsIndex | None = None,
    progress: Progress = quiet,
    update: SceneMap | None = None,
) -> SceneMap:
    """Maps a place from images with known poses; depth helps and is not needed.

        scene_map = ace_jax.map_images(images, poses, [525, 525, 319.5, 239.5])
        scene_map.save("kitchen.safetensors")
        answer = ace_jax.Relocalizer.of(scene_map)(photo, [525, 525, 319.5, 239.5])

    Args:
        images: N files or arrays (see `data.inputs.as_image`), or a recording that has poses.
        world_from_camera: (N, 4, 4), metres, OpenCV axes; None where an image has none.
        intrinsics: of all images, or one `Camera` each.
        depth: N arrays (H, W) of metres, or None.
        config: a preset's name, or a configuration of `mapping.config`.
        weights_dir: folder of pretrained weights, for features that have some.
        seed: random seed, an integer; None: the configuration's.
        progress: told of every stage, see `progress`.
        update: a map of this place, which is extended and not forgotten.

    Raises:
        UserError: an input cannot be used, or nothing can be mapped; the line says what to do.
    """
    settings = _settings(config)
    if seed is not None:
        settings.seed = as_seed(seed)
    given = (world_from_camera, intrinsics, depth)
    if isinstance(images, FrameSource):
        if any(x is not None for x in given):
            raise UserError("a recording has its own poses, intrinsics and depth; leave them out")
        source = images
    elif world_from_camera is None or intrinsics is None:
        raise UserError("images need world_from_camera, (N, 4, 4), and intrinsics")
    else:
        source = GivenImages(images, intrinsics, world_from_camera, depth)
    return map_scene(source, settings, weights_dir, progress=progress, known=update)  # type: ignore[arg-type]


def _settings(config: str | ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """A copy that may be changed."""
    if isinstance(config, str):
        if config not in preset_names():
            raise UserError(f"no preset {config!r}: there are {', '.join(preset_names())}")
        return import_module(f"ace_jax.mapping.presets.{config}").get_config()
    return config.copy_and_resolve_references()
