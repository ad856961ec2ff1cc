"""A landmark map from posed images: grown, refined, thinned out, and its constants measured."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.errors import UserError
from ace_jax.features.selection import by_reliability
from ace_jax.geometry.camera import camera_of, camera_rows
from ace_jax.localization.landmark_search import Landmarks
from ace_jax.mapping.images import MappingImage
from ace_jax.mapping.landmark_refinement import Tracks
from ace_jax.mapping.landmark_store import LandmarkStore, Selection
from ace_jax.mapping.points import Depths
from ace_jax.mapping.progress import Progress, quiet
from ace_jax.models.landmark_attention import attend
from ace_jax.training import losses

TEMPERATURES = (15.0, 25.0, 40.0, 60.0, 80.0, 100.0, 130.0, 170.0, 220.0, 300.0)
GAINS = tuple(np.geomspace(0.1, 10.0, 13))
FLOORS = tuple(np.geomspace(1e-3, 0.1, 13))  # metres
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
    known_coarse: int = 0,
    progress: Progress = quiet,
) -> tuple[Selection, Constants]:
    """Landmarks of the images, with the constants of their attention.

    Args:
        images: with poses.
        depths: of their features.
        options: the configuration's `landmarks`.
        rng: for order and samples.
        known: landmarks of an earlier map, which keep their points.
        known_coarse: so many of them, the first, are its head's.
        progress: told after each image.

    Raises:
        UserError: hardly any landmark is seen in several images.
    """
    pairs = list(zip(images, depths, strict=True))
    held_out = pairs[_HELD_OUT // 2 :: _HELD_OUT] if len(pairs) >= 2 * _HELD_OUT else []
    used = [pair for k, pair in enumerate(pairs) if k % _HELD_OUT != _HELD_OUT // 2 or not held_out]
    store = LandmarkStore(images[0].descriptors.shape[1], options, known, known_coarse)
    store.grow(used, progress)
    store.drop_lone()
    store.refine([image for image, _ in used], REFINE_RADII[0], progress)
    judges = [image for image, _ in held_out] or images
    constants = measure(store.select(rng).head, judges, options, rng)
    # The held-out images have done their duty: their landmarks count as well.
    store.grow(held_out, progress)
    for done in range(max(options.rounds, 1)):  # the last tells what each image sees
        store.refine(images, REFINE_RADII[min(done, 1)], progress)
    found = store.select(rng)
    count = len(found.tracks.landmarks.points)
    if count < 50:
        raise UserError(
            f"only {count} landmarks are seen in {options.min_views} images "
            "or more; check that the poses belong to these images, or give more images"
        )
    return found, constants


def measure(
    landmarks: Landmarks,
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
    near = _NEAR_PX * np.array([images[k].camera.pixel_scale for k in image])
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
