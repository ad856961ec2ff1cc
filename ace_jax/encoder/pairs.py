"""Pairs of images with known correspondences, from scenes with depth and from photographs."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from ace_jax.data.frame import Frame
from ace_jax.data.places import IMAGE_SUFFIXES
from ace_jax.errors import UserError
from ace_jax.geometry import rigid
from ace_jax.geometry.host_camera import project, unproject
from ace_jax.pretrain.scenes import SceneSource, Views, identity_of

_LEAST_OVERLAP = 0.3  # of the first image's points, for two images of a scene to be a pair
_STAY = 8  # successive pairs that are taken of one scene: to read it takes longer than to draw
_SLOPE = 0.03  # of the depth: neighbours that differ by more are an edge
_HIDDEN = 0.02  # of the depth: what lies so much behind the second image's surface is hidden
_MARGIN = 4  # pixels from the border in which nothing is expected
_LARGEST = 640, 480  # pixels: photographs are reduced to this area

Locate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two images, and where points of the first are in the second.

    Attributes:
        first: (H, W, 3) uint8.
        second: (H', W', 3) uint8.
        locate: (N, 2) pixels of the first -> (N, 2) pixels of the second, and (N,) bool: whether
            the second shows the point, as far as is known.
    """

    first: np.ndarray
    second: np.ndarray
    locate: Locate


class PairSource(Protocol):
    """Pairs by number: the same number gives the same pair, in every process and run.

    Attributes:
        identity: what the pairs depend on besides the number.
    """

    identity: str

    def pair(self, number: int) -> Pair:
        """The pair of a number, which has no upper limit."""
        ...


class ScenePairs:
    """Two images of a scene that overlap: procedural rooms in two lights, or RGB-D recordings.

    Depth and poses say where a point is in the other image. Points at depth edges, without depth,
    or hidden in the other image are left out.

    Attributes:
        identity: see `PairSource`.
    """

    def __init__(self, source: SceneSource, views: Views, seed: int) -> None:
        """Takes pairs of the scenes of `source`, with so many images each."""
        self._source, self._views, self._seed = source, views, seed
        parts = [views.mapping, views.held_out, views.query]
        self.identity = identity_of(source=source.identity, views=parts, seed=seed)
        self._scene = functools.lru_cache(maxsize=4)(self._load)

    def _load(self, scene: int) -> tuple[list[Frame], np.ndarray]:
        """A scene's images, and (K, 2) numbers of those that overlap."""
        frames = self._source.images(scene, self._views)
        shown = np.array([[_overlap(one, two) for two in frames] for one in frames])
        np.fill_diagonal(shown, 0.0)
        return frames, np.argwhere(np.minimum(shown, shown.T) > _LEAST_OVERLAP)

    def pair(self, number: int) -> Pair:
        """See `PairSource`; an image with itself where a scene has no two that overlap."""
        frames, pairs = self._scene(self._scene_of(number // _STAY))
        rng = np.random.default_rng([self._seed, 1, number])
        if not len(pairs):
            return still(frames[int(rng.integers(len(frames)))].rgb)
        one, two = pairs[int(rng.integers(len(pairs)))]
        return of_frames(frames[one], frames[two])

    def _scene_of(self, turn: int) -> int:
        """Every scene once, in some order, then again in another."""
        count = len(self._source)
        passes, place = divmod(turn, count)
        # A step that has no divisor in common with the count visits all.
        rng = np.random.default_rng([self._seed, 2, passes])
        step = next(s for s in rng.integers(1, max(count, 2), 1000) if np.gcd(s, count) == 1)
        return int((place * int(step) + int(rng.integers(count))) % count)


class Photos:
    """Photographs of a folder, each with itself: homographies are the augmentation's.

    Attributes:
        identity: see `PairSource`.
    """

    def __init__(self, folder: Path | str, seed: int) -> None:
        """Looks for JPEG and PNG files, in folders within it as well.

        Raises:
            UserError: there is no such folder, or no image in it.
        """
        root = Path(folder).expanduser()
        if not root.is_dir():
            raise UserError(f"no folder {root}: set the source's folder to one with photographs")
        self._files = sorted(f for f in root.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES)
        if not self._files:
            raise UserError(f"no image in {root}: looked for {', '.join(IMAGE_SUFFIXES)} files")
        self._seed = seed
        digest = hashlib.sha256()
        for file in self._files:
            digest.update(f"{file.relative_to(root)} {file.stat().st_size}".encode())
        self.identity = identity_of(photos=digest.hexdigest(), seed=seed)
        self._photo = functools.lru_cache(maxsize=64)(_photo)

    def pair(self, number: int) -> Pair:
        """See `PairSource`.

        Raises:
            UserError: a file cannot be read.
        """
        rng = np.random.default_rng([self._seed, number])
        return still(self._photo(self._files[int(rng.integers(len(self._files)))]))


class PairMixture:
    """Pairs of several sources, drawn by weight.

    Attributes:
        identity: see `PairSource`.
    """

    def __init__(self, sources: Sequence[PairSource], weights: Sequence[float], seed: int) -> None:
        """Mixes.

        Raises:
            UserError: no sources, or weights that make no sense.
        """
        if not sources:
            raise UserError("an encoder learns from pairs of images: config.sources is empty")
        if min(weights) <= 0:
            raise UserError(f"sources of pairs need weights > 0, not {list(weights)}")
        self._sources, self._seed = list(sources), seed
        self._share = np.cumsum(weights) / np.sum(weights)
        self.identity = identity_of(
            sources=[source.identity for source in sources], weights=list(weights), seed=seed
        )

    def pair(self, number: int) -> Pair:
        """See `PairSource`."""
        drawn = np.random.default_rng([self._seed, 3, number]).random()
        return self._sources[int(np.searchsorted(self._share, drawn, side="right"))].pair(number)


def still(image: np.ndarray) -> Pair:
    """An image with itself."""
    height, width = image.shape[:2]

    def locate(uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return uv, inside(uv, width, height)

    return Pair(image, image, locate)


def inside(uv: np.ndarray, width: int, height: int) -> np.ndarray:
    """(N,) bool: pixels (N, 2) that are in an image, off its border."""
    return ((uv >= _MARGIN) & (uv < np.array([width, height]) - _MARGIN)).all(axis=1)


def of_frames(first: Frame, second: Frame) -> Pair:
    """Two frames with depth and poses."""
    return Pair(first.rgb, second.rgb, functools.partial(_by_depth, first, second))


def _by_depth(first: Frame, second: Frame, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """See `Locate`."""
    assert first.depth is not None
    assert second.depth is not None
    depth, known = _smooth_depth(uv, first.depth)
    move = rigid.invert(second.world_from_camera) @ first.world_from_camera
    points = rigid.transform(move, unproject(uv, depth, first.camera))
    there = project(points, second.camera)
    known &= (points[:, 2] > 0.1) & inside(there, second.camera.width, second.camera.height)
    depth2, known2 = _smooth_depth(np.where(known[:, None], there, 0.0), second.depth)
    return there, known & known2 & (np.abs(points[:, 2] - depth2) < _HIDDEN * depth2)


def _smooth_depth(uv: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) depth at pixels (N, 2), along the surface, and where it is no edge or hole."""
    height, width = depth.shape
    x, y = (np.clip(np.rint(uv[:, i]).astype(int), 1, size - 2)
            for i, size in enumerate((width, height)))  # fmt: skip
    around = np.stack([depth[y + i, x + j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
    # Inverse depth is linear in pixels on a plane; its slope is that over two pixels.
    inverse = 1.0 / np.maximum(around, 1e-3)
    dx, dy = (inverse[5] - inverse[3]) / 2, (inverse[7] - inverse[1]) / 2
    there = inverse[4] + dx * (uv[:, 0] - x) + dy * (uv[:, 1] - y)
    spread = around.max(axis=0) - around.min(axis=0)
    smooth = (around.min(axis=0) > 0.1) & (spread < 2 * _SLOPE * around.mean(axis=0))
    return 1.0 / np.maximum(there, 1e-3), smooth & (np.abs(uv - np.stack([x, y], 1)) < 1).all(1)


def _overlap(first: Frame, second: Frame) -> float:
    """Share of a grid of the first image's points that the second shows."""
    width, height = first.camera.width, first.camera.height
    grid = np.stack(np.meshgrid(np.arange(8, width, 16), np.arange(8, height, 16)), -1)
    return float(of_frames(first, second).locate(grid.reshape(-1, 2).astype(float))[1].mean())


def _photo(file: Path) -> np.ndarray:
    image = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"cannot read {file} as an image: remove it or save it again")
    factor = (_LARGEST[0] * _LARGEST[1] / (image.shape[0] * image.shape[1])) ** 0.5
    if factor < 1.0:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[:, :, ::-1])
