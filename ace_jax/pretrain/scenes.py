"""`SceneSource`, the interface of scene sources, and a weighted mixture of several.

A scene for pre-training is three sets of posed RGB-D images: *mapping* images, from which its map
code is made; *held-out* images of the same pass, between the mapping images; and *query* images
that show the scene otherwise, from other viewpoints, in other light, with other things moved. The
transformer is trained to answer the last from the first; the middle set is there to find out how
much of that is due to the difference (docs/pretraining.md).
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ace_jax.data.frame import Frame
from ace_jax.errors import UserError

ROLES = ("mapping", "held_out", "query")


@dataclasses.dataclass(frozen=True)
class Views:
    """How many images of each role a scene has; equal for all scenes, as shapes are static.

    Attributes:
        mapping: images of which the map code is made.
        held_out: images of the mapping pass that the code does not see.
        query: images that differ.
    """

    mapping: int
    held_out: int
    query: int

    @property
    def total(self) -> int:
        """Images of a scene."""
        return self.mapping + self.held_out + self.query

    def rows(self, role: str) -> slice:
        """Where the images of a role are among the scene's, which are in the order of `ROLES`.

        Raises:
            UserError: no such role.
        """
        if role not in ROLES:
            raise UserError(f"there are no {role!r} images; choose one of {', '.join(ROLES)}")
        start = sum(getattr(self, name) for name in ROLES[: ROLES.index(role)])
        return slice(start, start + getattr(self, role))


class SceneSource(Protocol):
    """Scenes by number. The same number gives the same images, in every process and run.

    Attributes:
        name: for messages and file names.
        identity: what the images depend on besides the number; part of the cache's key.
    """

    name: str
    identity: str

    def __len__(self) -> int: ...

    def images(self, number: int, views: Views) -> list[Frame]:
        """`views.total` frames with depth and pose, in the order of `ROLES`, in one world."""
        ...


class Mixture:
    """Scenes of several sources, drawn by weight; a scene's number decides source and scene.

    Attributes:
        sources: the sources.
    """

    def __init__(self, sources: Sequence[SceneSource], weights: Sequence[float], seed: int):
        """Mixes.

        Args:
            sources: at least one.
            weights: positive, one a source.
            seed: of the draw.

        Raises:
            UserError: no sources, or weights that make no sense.
        """
        if not sources:
            raise UserError("pre-training needs scenes: config.sources is empty")
        if len(weights) != len(sources) or min(weights) <= 0:
            raise UserError(f"{len(sources)} scene sources need as many weights > 0: {weights}")
        self.sources = list(sources)
        self._share = np.cumsum(weights) / np.sum(weights)
        self._seed = seed

    def draw(self, number: int) -> tuple[SceneSource, int]:
        """The source and the scene within it of the `number`-th scene of a training run."""
        rng = np.random.default_rng([self._seed, number])
        source = self.sources[int(np.searchsorted(self._share, rng.random(), side="right"))]
        return source, int(rng.integers(len(source)))


def identity_of(**values: Any) -> str:
    """A digest of JSON values."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
