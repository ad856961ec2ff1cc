"""A landmark map from posed images: grown, refined, thinned out, and its constants measured."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.errors import UserError
from ace_jax.features.selection import by_reliability
from ace_jax.geometry.camera import camera_of, camera_rows
from ace_jax.mapping.images import MappingImage
from ace_jax.mapping.landmark_refinement import Tracks, empty, grow, refine
from ace_jax.mapping.points import Depths, world_points
from ace_jax.mapping.progress import Progress, quiet
from ace_jax.models.landmark_attention import attend
from ace_jax.models.landmark_search import Landmarks
from ace_jax.training import losses

TEMPERATURES = (15.0, 25.0, 40.0, 60.0, 80.0, 100.0, 130.0, 170.0, 220.0, 300.0)
GAINS = tuple(np.geomspace(0.1, 10.0, 13))
FLOORS = tuple(np.geomspace(1e-3, 0.1, 13))  # metres
GROW_RADIUS = 6.0  # pixels at 640 columns; measured depth is off by that much
REFINE_RADII = (4.0, 3.0)  # pixels at 640 columns
_HELD_OUT = 12  # every so many images measure the constants
_NEAR_PX = 5.0  # a coordinate that reprojects within this counts as right
_QUERIES = 2048


@dataclasses.dataclass(frozen=True)
class Constants:
    """Of the attention over a set of landmarks.

    Attributes:
        tau: inverse temperature.
        gain: of the spread.
        floor: of the scale, metres.
    """

    tau: float
    gain: float
    floor: float


def build(
    images: Sequence[MappingImage],
    depths: Sequence[Depths],
    options: Any,
    rng: np.random.Generator,
    known: Tracks | None = None,
    progress: Progress = quiet,
) -> tuple[Tracks, Constants]:
    """Landmarks of the images, in random order, with the constants of their attention.

    Args:
        images: with poses.
        depths: of their features.
        options: the configuration's `landmarks`.
        rng: for order and samples.
        known: landmarks of an earlier map, which keep their points.
        progress: told after each image.

    Raises:
        UserError: hardly any landmark is seen in several images.
    """
    pairs = list(zip(images, depths, strict=True))
    held_out = pairs[_HELD_OUT // 2 :: _HELD_OUT] if len(pairs) >= 2 * _HELD_OUT else []
    used = [pair for k, pair in enumerate(pairs) if k % _HELD_OUT != _HELD_OUT // 2 or not held_out]
    store = _Store(images[0].descriptors.shape[1], options, known)
    store.grow(used, progress)
    store.refine([image for image, _ in used], REFINE_RADII[0], progress)
    judges = [image for image, _ in held_out] or images
    constants = measure(store.good(options.min_views, rng), judges, options, rng)
    # The held-out images have done their duty: their landmarks count as well.
    store.grow(held_out, progress)
    for done in range(options.rounds):
        store.refine(images, REFINE_RADII[min(done, 1)], progress)
    tracks = store.good(options.min_views, rng)
    if len(tracks.landmarks.points) < 50:
        raise UserError(
            f"only {len(tracks.landmarks.points)} landmarks are seen in {options.min_views} images "
            "or more; check that the poses belong to these images, or give more images"
        )
    return tracks, constants


class _Store:
    """Landmarks with room for more, and the compiled steps on them."""

    def __init__(self, dim: int, options: Any, known: Tracks | None):
        self._options = options
        capacity = options.capacity
        self._tracks = empty(capacity, dim)
        self._count = jnp.int32(0)
        self._known = 0
        if known is not None:
            self._known = min(len(known.landmarks.points), capacity)
            rows = slice(0, self._known)
            self._tracks = jax.tree.map(
                lambda room, old: room.at[rows].set(old[rows]), self._tracks, known
            )
            # Growing adds to descriptor sums: each view that was counted weighs one.
            landmarks = self._tracks.landmarks
            sums = landmarks.descriptors * landmarks.views[:, None]
            self._tracks = self._tracks.replace(landmarks=landmarks.replace(descriptors=sums))
            self._count = jnp.int32(self._known)

    def grow(self, pairs: Sequence[tuple[MappingImage, Depths]], progress: Progress) -> None:
        for done, (image, depth) in enumerate(pairs):
            progress("landmarks", done, len(pairs))
            points = world_points(image, np.where(depth.valid, depth.depth, 1.0))
            self._tracks, self._count = _grow(
                self._tracks,
                self._count,
                image.descriptors,
                image.uv,
                image.mask,
                points,
                depth.valid & image.mask,
                camera_rows([image.camera])[0].astype(np.float32),
                image.camera_from_world.astype(np.float32),
                GROW_RADIUS * _scale(image),
                self._options.min_similarity,
            )

    def refine(self, images: Sequence[MappingImage], radius: float, progress: Progress) -> None:
        progress("refinement", 0, 1)
        self._tracks = _refine(
            self._tracks,
            np.stack([i.descriptors for i in images]),
            np.stack([i.uv for i in images]),
            np.stack([i.mask for i in images]),
            camera_rows([i.camera for i in images]).astype(np.float32),
            np.stack([i.camera_from_world for i in images]).astype(np.float32),
            np.array([radius * _scale(i) for i in images], np.float32),
            self._options.min_similarity,
            self._known,
        )
        jax.block_until_ready(self._tracks)
        progress("refinement", 1, 1)

    def good(self, min_views: int, rng: np.random.Generator) -> Tracks:
        """Landmarks in use that enough images see and that new images do not contradict."""
        tracks = jax.tree.map(np.asarray, self._tracks)
        landmarks = tracks.landmarks
        norm = np.linalg.norm(landmarks.descriptors, axis=1, keepdims=True)
        used = np.arange(len(norm)) < int(self._count)
        # A known landmark that was missed over and over, though it used to be found, is gone.
        expected = tracks.chances * np.clip(tracks.repeatability, 0.0, 1.0)
        gone = (np.arange(len(norm)) < self._known) & (expected > 5) & (
            tracks.recent < 0.1 * expected
        )  # fmt: skip
        chosen = used & (landmarks.views >= min_views) & ~gone
        chosen &= np.isfinite(landmarks.points).all(axis=1) & (norm[:, 0] > 1e-6)
        rows = rng.permutation(np.flatnonzero(chosen))
        unit = landmarks.descriptors / np.maximum(norm, 1e-6)
        tracks = tracks.replace(landmarks=landmarks.replace(descriptors=unit))
        return jax.tree.map(lambda x: x[rows], tracks)


def _scale(image: MappingImage) -> float:
    """Pixels of this image for one of an image of 640 columns."""
    return image.camera.width / 640.0


@functools.partial(jax.jit, donate_argnums=0)
def _grow(
    tracks: Tracks,
    count: jax.Array,
    features: jax.Array,
    uv: jax.Array,
    mask: jax.Array,
    points: jax.Array,
    has_point: jax.Array,
    camera: jax.Array,
    *rest: Any,
):
    features, camera = features.astype(jnp.float32), camera_of(camera)
    return grow(tracks, count, features, uv, mask, points, has_point, camera, *rest)


@functools.partial(jax.jit, donate_argnums=0)
def _refine(tracks: Tracks, *rest: Any) -> Tracks:
    return refine(tracks, *rest)


def measure(
    tracks: Tracks,
    images: Sequence[MappingImage],
    options: Any,
    rng: np.random.Generator,
) -> Constants:
    """The constants that explain these images best.

    The better half of their features query the head's landmarks. The temperature is chosen so
    that, of the `keep_share` most confident answers, most reproject within 5 px; gain and
    floor so that the scale follows the error: maximum likelihood of a Cauchy distribution, whose
    median is its scale, because some answers are simply wrong.
    """
    landmarks: Landmarks = jax.tree.map(lambda x: x[: options.coarse], tracks.landmarks)
    picked = [
        np.asarray(by_reliability(i.scores, i.uv, i.mask))[: max(int(i.mask.sum()) // 2, 1)]
        for i in images
    ]
    image = rng.integers(0, len(images), _QUERIES)
    row = np.array([rng.choice(picked[k]) for k in image])
    features = np.stack([images[k].descriptors[r] for k, r in zip(image, row, strict=True)])
    uv = np.stack([images[k].uv[r] for k, r in zip(image, row, strict=True)])
    poses = np.stack([images[k].camera_from_world for k in image]).astype(np.float32)
    cameras = camera_rows([images[k].camera for k in image]).astype(np.float32)
    near = _NEAR_PX * np.array([_scale(images[k]) for k in image])
    tried = []
    for tau in TEMPERATURES if options.tau is None else (options.tau,):
        answer = _answers(landmarks, features, uv, poses, cameras, tau)
        spread, error, metres = (np.asarray(x) for x in answer)
        kept = spread <= np.quantile(spread, options.keep_share)
        share = np.mean((error < near)[kept])
        tried.append((share, tau, spread, metres))
    _, tau, spread, metres = max(tried, key=lambda entry: entry[0])
    gain, floor = _calibrate(spread, metres)
    return Constants(tau=tau, gain=gain, floor=floor)


@jax.jit
def _answers(
    landmarks: Landmarks,
    features: jax.Array,
    uv: jax.Array,
    poses: jax.Array,
    cameras: jax.Array,
    tau: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Spread (metres), reprojection error (pixels) and the same error in metres."""
    features = features.astype(jnp.float32)
    out = attend(features, landmarks.descriptors, landmarks.points, tau, floor=1e-6)
    camera = camera_of(cameras)
    reprojection = losses.reproject(out.xyz, poses, camera, uv)
    error = jnp.where(reprojection.valid, reprojection.error, losses.MAX_ERROR)
    return out.scale, error, error * reprojection.depth / camera.fx


def _calibrate(spread: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """Gain and floor of the greatest Cauchy likelihood."""
    gain, floor = (x.ravel() for x in np.meshgrid(GAINS, FLOORS))
    scale = np.sqrt((gain[:, None] * spread) ** 2 + floor[:, None] ** 2)
    nll = np.mean(np.log(scale) + np.log1p((error / scale) ** 2), axis=1)
    best = int(np.argmin(nll))
    return float(gain[best]), float(floor[best])
