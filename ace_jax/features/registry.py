"""Feature extractors by name; `register` and the entry points `ace_jax.features` add others."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ace_jax.errors import UserError
from ace_jax.features.base import FeatureExtractor
from ace_jax.features.blob_features import Blobs
from ace_jax.features.dense import AceDense, DinoV2Dense
from ace_jax.features.learned_blobs import LearnedBlobs
from ace_jax.features.sift import Sift
from ace_jax.features.superpoint import SuperPointSparse
from ace_jax.features.xfeat import XFeatBlobs, XFeatDense, XFeatSparse
from ace_jax.plugins import Registry
from ace_jax.weights import catalogue

_BUILT_IN: dict[str, Callable[..., Any]] = {
    "blobs": Blobs,
    "learned_blobs": LearnedBlobs,
    "sift": Sift,
    "xfeat": XFeatSparse,
    "xfeat_blobs": XFeatBlobs,
    "xfeat_dense": XFeatDense,
    "superpoint": SuperPointSparse,
    "ace": AceDense,
} | {
    name: functools.partial(DinoV2Dense, name)
    for name, entry in catalogue.ENTRIES.items()
    if entry.family == "dinov2"
}
_EXTRACTORS = Registry("ace_jax.features", _BUILT_IN)


def register(name: str, factory: Callable[..., FeatureExtractor]) -> None:
    """Makes an extractor known, to `create`, `--features` and the maps that were made with it.

    An installed package needs no call: it names its factory in the entry-point group
    `ace_jax.features`, where it is found when it is asked for.

    Args:
        name: to be known by; the extractor's `name` must be the same, as maps store that.
        factory: makes the extractor; its keywords are the options, which maps store, too. One
            called `weights_dir` is given the user's folder with weights. An attribute `similarity`
            (`features.similarity.Similarity`) says how alike descriptors of one point are.

    Raises:
        UserError: the name is taken.
    """
    _EXTRACTORS.register(name, factory)


def factory(name: str) -> Callable[..., FeatureExtractor] | None:
    """What makes the extractor called `name`; None: there is none.

    Raises:
        UserError: an installed package has it and cannot be imported.
    """
    return _EXTRACTORS.find(name)


def names() -> list[str]:
    """The names that `create` knows, those of installed packages included."""
    return _EXTRACTORS.names()


def create(name: str, weights_dir: Path | str | None = None, **options: Any) -> FeatureExtractor:
    """A feature extractor.

    Args:
        name: one of `names()`.
        weights_dir: folder with the weights; default $ACE_JAX_WEIGHTS or ~/.cache/ace_jax/weights.
        **options: of the extractor, such as `image_size=(320, 240)` or `max_features=600`.

    Raises:
        UserError: unknown name or option, or the weights are missing or of another model.
    """
    make = factory(name)
    if make is None:
        raise UserError(
            f"unknown features {name!r}; there are {', '.join(names())}; others are there once "
            "their package is installed, or their program has registered them"
        )
    accepted = set(inspect.signature(make).parameters)
    unknown = sorted(options.keys() - accepted)
    if unknown:
        raise UserError(
            f"features {name!r} have no option {', '.join(unknown)}; "
            f"there are {', '.join(sorted(accepted - {'weights_dir'}))}"
        )
    if "weights_dir" in accepted:
        options["weights_dir"] = weights_dir
    try:
        made = make(**options)
    except UserError:
        raise
    except Exception as error:
        if not options.keys() - {"weights_dir"}:
            raise
        # The options may be a stranger's map's; OpenCV has errors of its own for them.
        raise UserError(f"features {name!r} cannot be made with {options}: {error}") from error
    if made.name != name:
        raise UserError(
            f"the extractor registered as {name!r} has the name {made.name!r}, by which no map "
            "would find it again; let both be the same"
        )
    return made
