"""Creates the scene sources that a configuration names."""

from pathlib import Path
from typing import Any

import ml_collections

from ace_jax.errors import UserError
from ace_jax.pretrain.conditions import Difficulty
from ace_jax.pretrain.kept_images import KeptImages
from ace_jax.pretrain.procedural import ProceduralScenes
from ace_jax.pretrain.recordings import open_recordings
from ace_jax.pretrain.scenes import Mixture, SceneSource

KINDS = ("procedural", "recordings", "tfds")


def create_source(
    options: ml_collections.ConfigDict,
    data_root: Path | str,
    size: tuple[int, int] | None,
    folder: Path | str | None = None,
) -> SceneSource:
    """One source.

    Args:
        options: see `config.procedural`, `config.recordings` and `config.tfds`.
        data_root: where recordings and TFDS data sets lie.
        size: images are scaled to it; None: as they are.
        folder: for images of rooms that are to be kept (option `keep_images`).

    Raises:
        UserError: an unknown kind, or what it names is not there.
    """
    given: dict[str, Any] = options.to_dict()
    kind = given["kind"]
    if kind == "procedural":
        rooms = ProceduralScenes(
            given["first"],
            given["count"],
            tuple(given["image_size"]),
            _difficulty(given["difficulty"]),
        )
        return KeptImages(rooms, folder) if given.get("keep_images") and folder else rooms
    if kind == "recordings":
        return open_recordings(given["names"], data_root, given["frames"], size)
    if kind == "tfds":
        from ace_jax.pretrain.tfds import open_tfds  # an extra

        return open_tfds(given["name"], given["split"], data_root, given["frames"], size)
    raise UserError(f"a scene source of kind {kind!r}; choose one of {', '.join(KINDS)}")


def _difficulty(given: dict[str, float]) -> Difficulty:
    unknown = sorted(given.keys() - Difficulty.__dataclass_fields__.keys())
    if unknown:
        raise UserError(
            f"a difficulty has no {', '.join(unknown)}; there are "
            f"{', '.join(Difficulty.__dataclass_fields__)}"
        )
    return Difficulty(**given)


def create_mixture(
    config: ml_collections.ConfigDict, data_root: Path | str, folder: Path | str | None = None
) -> Mixture:
    """All training sources of a configuration, by weight; `folder` as for `create_source`."""
    size = image_size(config)
    names = sorted(config.sources)
    sources = [create_source(config.sources[name], data_root, size, folder) for name in names]
    return Mixture(sources, [config.sources[name].weight for name in names], config.seed)


def image_size(config: ml_collections.ConfigDict) -> tuple[int, int] | None:
    """The size at which the features look at images."""
    size = config.features.options.get("image_size")
    return None if size is None else (int(size[0]), int(size[1]))
