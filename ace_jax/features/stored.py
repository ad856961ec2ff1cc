"""Features that another program extracted, read from an hloc feature file by image name."""

import jax.numpy as jnp
import numpy as np

from ace_jax.data.hloc import FeatureFile
from ace_jax.errors import UserError
from ace_jax.features.base import Features

HLOC = "hloc"
_ROUND = 256  # features; files of one extractor then have few sizes, which each compile


class HlocFeatures:
    """A `FeatureExtractor` in name: features are looked up (`of`), never extracted.

    Args:
        file: where they are.
    """

    name = HLOC
    weights_checksum = HLOC  # the files do not say which network it was

    def __init__(self, file: FeatureFile) -> None:
        self._file, self.dim = file, file.dim
        self.max_features = -(-file.largest // _ROUND) * _ROUND

    def extract(self, rgb: np.ndarray) -> Features:
        """Refuses: an image alone does not tell its name.

        Raises:
            UserError: always.
        """
        raise UserError("features of hloc are looked up by the image's name, not extracted")

    def of(self, name: str) -> Features:
        """The features of an image, the surest first.

        Raises:
            UserError: the file does not have it.
        """
        found = self._file.find(name)
        if found is None:
            raise UserError(
                f"{self._file.path} has no features of {name}; its names are like "
                f"{self._file.names()[0]!r}"
            )
        uv, descriptors, scores = self._file.read(found)
        order = np.argsort(-scores, kind="stable")
        return self._padded(uv[order], descriptors[order], scores[order])

    def unsorted(self, name: str) -> Features:
        """As `of`, of a name of the file, in the file's order: matches count them so."""
        return self._padded(*self._file.read(name))

    def _padded(self, uv: np.ndarray, descriptors: np.ndarray, scores: np.ndarray) -> Features:
        room = self.max_features - len(uv)
        return Features(
            uv=jnp.asarray(np.pad(uv, [(0, room), (0, 0)])),
            descriptors=jnp.asarray(np.pad(descriptors, [(0, room), (0, 0)])),
            scores=jnp.asarray(np.pad(scores, (0, room))),
            mask=jnp.asarray(np.arange(self.max_features) < len(uv)),
            depth=jnp.zeros(self.max_features),
        )
