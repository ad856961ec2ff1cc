"""Files of hloc, the hierarchical localization toolbox: features, matches and pairs of images.

hloc (Sarlin et al., CVPR 2019) writes a feature file with one group for each image, whose name is
the image's path (`keypoints` (N, 2), `descriptors` (D, N), `scores` (N,)), a match file with one
group for each pair (`matches0` (N,): for each keypoint of the first image the one of the second, or
-1), and text files of pairs, `NAME NAME` a line. Groups of pairs are called `A/B`, in old files
`A_B`, with `-` for the slashes within names. The centre of the top-left pixel is (0, 0), as here.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ace_jax.errors import UserError

_KEYPOINTS = "keypoints"


def open_h5(path: str | Path) -> Any:
    """An HDF5 file, open for reading.

    Raises:
        UserError: h5py is missing, there is no such file, or it is damaged.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError("files of hloc need the extra `hloc`: pip install h5py") from error
    if not Path(path).is_file():
        raise UserError(f"there is no file {path}")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path} is damaged or no HDF5 file: {error}") from error


class FeatureFile:
    """Local features of many images.

    Attributes:
        path: of the file.
        dim: descriptor length D.
        largest: most features that an image has.
    """

    def __init__(self, path: str | Path) -> None:
        """Reads which images there are.

        Raises:
            UserError: as `open_h5`, or it has no local features (a file of global descriptors).
        """
        self.path, self._file = Path(path), open_h5(path)
        self._names: list[str] = []
        self._file.visititems(self._visit)
        if not self._names:
            raise UserError(
                f"{path} has no keypoints; give the local features (feats-superpoint-... .h5), not "
                "the global descriptors"
            )
        shapes = [self._file[name]["descriptors"].shape for name in self._names]
        self.dim, self.largest = shapes[0][0], max(shape[1] for shape in shapes)

    def _visit(self, name: str, item: Any) -> None:
        if hasattr(item, "keys") and _KEYPOINTS in item and "descriptors" in item:
            self._names.append(name)

    def names(self) -> list[str]:
        """Names of the images."""
        return list(self._names)

    def find(self, name: str) -> str | None:
        """The image's name in this file: the same path, or the only one that ends with it.

        Our readers' names may lack folders, or the suffix.
        """
        if name in self._names:
            return name
        alike = [known for known in self._names if _ends_with(known, name)]
        return alike[0] if len(alike) == 1 else None

    def read(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixels (N, 2), unit descriptors (N, D) and scores (N,) of an image, all float32.

        Raises:
            UserError: what is stored is no features.
        """
        group = self._file[name]
        uv = np.asarray(group[_KEYPOINTS], np.float32)[:, :2]
        descriptors = np.asarray(group["descriptors"], np.float32).T
        scores = np.asarray(group["scores"] if "scores" in group else np.ones(len(uv)), np.float32)
        good = uv.shape == (len(uv), 2) and descriptors.shape == (len(uv), self.dim)
        if not good or scores.shape != (len(uv),):
            raise UserError(f"{self.path}: keypoints and descriptors of {name} do not fit")
        if not (np.isfinite(uv).all() and np.isfinite(descriptors).all()):
            raise UserError(f"{self.path}: features of {name} are not finite")
        length = np.linalg.norm(descriptors, axis=1, keepdims=True)
        return uv, descriptors / np.maximum(length, 1e-6), scores


class MatchFile:
    """Matches of pairs of images."""

    def __init__(self, path: str | Path) -> None:
        """Opens the file, see `open_h5`."""
        self.path, self._file = Path(path), open_h5(path)

    def read(self, first: str, second: str) -> np.ndarray | None:
        """(K, 2) keypoints of the first and the second image; None if the pair is not there."""
        for names, flipped in (((first, second), False), ((second, first), True)):
            a, b = (name.replace("/", "-") for name in names)
            for key in (f"{a}/{b}", f"{a}_{b}"):
                if key in self._file and "matches0" in self._file[key]:
                    matches = np.asarray(self._file[key]["matches0"], np.int64)
                    found = np.flatnonzero(matches >= 0)
                    pairs = np.stack([found, matches[found]], axis=1)
                    return pairs[:, ::-1] if flipped else pairs
        return None


def read_pairs(path: str | Path) -> list[tuple[str, str]]:
    """Pairs of names from a text file: those to be matched, or what retrieval found.

    Raises:
        UserError: there is no such file, or a line has not two names.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as pairs: {error}") from error
    pairs = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2:
            raise UserError(f"{path}, line {number}: not two names, but {line[:80]!r}")
        pairs.append((words[0], words[1]))
    return pairs


def all_pairs(names: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Each pair of different names once."""
    return ((a, b) for i, a in enumerate(names) for b in names[i + 1 :])


def _ends_with(path: str, name: str) -> bool:
    """Whether a path ends with a name, with or without its suffix."""
    known, parts = Path(path), Path(name).parts
    return parts in (known.parts[-len(parts) :], known.with_suffix("").parts[-len(parts) :])
