"""Creates the sources of pairs that a configuration names."""

from pathlib import Path

import ml_collections

from ace_jax.encoder.augmentation import Dial
from ace_jax.encoder.pairs import PairMixture, PairSource, Photos, ScenePairs
from ace_jax.errors import UserError
from ace_jax.models.patch_descriptor import INPUTS, PatchDescriptor
from ace_jax.pretrain.scenes import Views
from ace_jax.pretrain.sources import KINDS, create_source


def open_pairs(
    options: ml_collections.ConfigDict, data_root: Path | str, folder: Path, seed: int
) -> PairSource:
    """One source.

    Args:
        options: see `config.rooms`, `config.recordings` and `config.photos`.
        data_root: where recordings lie.
        folder: for images of rooms that are kept.
        seed: of the draws.

    Raises:
        UserError: an unknown kind, or what it names is not there.
    """
    if options.kind == "photos":
        return Photos(options.folder, seed)
    if options.kind not in KINDS:
        raise UserError(
            f"a source of pairs of kind {options.kind!r}; choose one of {', '.join(KINDS)}, photos"
        )
    # Recordings keep their size: the augmentation reduces them.
    return ScenePairs(create_source(options, data_root, None, folder), Views(**options.views), seed)


def open_mixture(
    config: ml_collections.ConfigDict, data_root: Path | str, folder: Path
) -> PairMixture:
    """All training sources of a configuration, by weight."""
    names = sorted(config.sources)
    opened = [
        open_pairs(config.sources[name], data_root, folder, config.seed + number)
        for number, name in enumerate(names)
    ]
    return PairMixture(opened, [config.sources[name].weight for name in names], config.seed)


def create_network(config: ml_collections.ConfigDict) -> PatchDescriptor:
    """The network of a configuration.

    Raises:
        UserError: there is no such network.
    """
    options = config.network
    if options.inputs not in INPUTS:
        raise UserError(
            f"config.network.inputs is {options.inputs!r}; choose one of {', '.join(INPUTS)}"
        )
    sizes = (options.dim, options.octaves, *options.widths)
    if min(sizes) < 1 or options.octaves > 4:
        raise UserError(
            "config.network: dim and widths must be positive, and octaves 1 to 4; it has "
            f"{options.dim}, {tuple(options.widths)}, {options.octaves}"
        )
    return PatchDescriptor(
        inputs=options.inputs,
        octaves=options.octaves,
        oriented=options.oriented,
        dim=options.dim,
        widths=tuple(options.widths),
    )


def create_dial(config: ml_collections.ConfigDict) -> Dial:
    """The augmentation of a configuration."""
    return Dial(**config.augmentation.to_dict())
