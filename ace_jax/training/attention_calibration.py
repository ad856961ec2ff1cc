"""Calibration of landmark attention on posed images: temperature, and the scale of its errors."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.features.base import Features
from ace_jax.features.selection import by_reliability
from ace_jax.geometry.camera import Camera, camera_of, camera_rows
from ace_jax.models.landmark_attention import attend
from ace_jax.programs import program
from ace_jax.training import losses

TEMPERATURES = (15.0, 25.0, 40.0, 60.0, 80.0, 100.0, 130.0, 170.0, 220.0, 300.0)  # inverse; tried
_GAINS = tuple(np.geomspace(0.1, 10.0, 13))
_FLOORS = tuple(np.geomspace(1e-3, 0.1, 13))  # metres
_NEAR_PX = 5.0  # at 640 columns: a coordinate that reprojects within this counts as right
_QUERIES = 2048


class PosedFeatures(Protocol):
    """Features of an image whose pose is known.

    Attributes:
        features: of the image.
        camera: its intrinsics.
        camera_from_world: (4, 4).
    """

    features: Features
    camera: Camera
    camera_from_world: np.ndarray


@dataclasses.dataclass(frozen=True)
class AttentionConstants:
    """Constants of the attention over a set of landmarks.

    Attributes:
        tau: inverse temperature.
        gain: factor on the spread.
        floor: of the scale, metres.
    """

    tau: float
    gain: float
    floor: float


def calibrate(
    descriptors: Any,
    points: Any,
    images: Sequence[PosedFeatures],
    rng: np.random.Generator,
    keep_share: float,
    tau: float | None = None,
) -> AttentionConstants:
    """The constants that explain some images best, which took no part in making the landmarks.

    The better half of their features query the landmarks. The temperature is chosen so that, of the
    `keep_share` most confident answers, most reproject within 5 px; gain and floor so that the
    scale follows the error: maximum likelihood of a Cauchy distribution, whose median is its
    scale, because some answers are simply wrong.

    Args:
        descriptors: (M, D) of the landmarks.
        points: (M, 3) world, metres.
        images: with poses.
        rng: draws the queries.
        keep_share: share of the answers that the temperature is judged by.
        tau: the inverse temperature if it is known; None: found.
    """
    every = [image.features for image in images]
    picked = [
        np.asarray(by_reliability(f.scores, f.uv, f.mask))[: max(int(f.mask.sum()) // 2, 1)]
        for f in every
    ]
    image = rng.integers(0, len(images), _QUERIES)
    row = np.array([rng.choice(picked[k]) for k in image])
    features = np.stack([every[k].descriptors[r] for k, r in zip(image, row, strict=True)])
    uv = np.stack([every[k].uv[r] for k, r in zip(image, row, strict=True)])
    poses = np.stack([images[k].camera_from_world for k in image]).astype(np.float32)
    cameras = camera_rows([images[k].camera for k in image]).astype(np.float32)
    near = _NEAR_PX * np.array([images[k].camera.pixel_scale for k in image])
    tried = []
    for candidate in TEMPERATURES if tau is None else (tau,):
        answer = _answers(descriptors, points, features, uv, poses, cameras, candidate)
        spread, error, metres = (np.asarray(x) for x in answer)
        kept = spread <= np.quantile(spread, keep_share)
        share = np.mean((error < near)[kept])
        tried.append((share, candidate, spread, metres))
    _, best, spread, metres = max(tried, key=lambda entry: entry[0])
    gain, floor = _most_likely_scale(spread, metres)
    return AttentionConstants(tau=best, gain=gain, floor=floor)


@program
def _answers(
    descriptors: jax.Array,
    points: jax.Array,
    features: jax.Array,
    uv: jax.Array,
    poses: jax.Array,
    cameras: jax.Array,
    tau: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Spread (metres), reprojection error (pixels) and the same error in metres."""
    out = attend(features.astype(jnp.float32), descriptors, points, tau, floor=1e-6)
    camera = camera_of(cameras)
    reprojection = losses.reproject(out.xyz, poses, camera, uv)
    error = jnp.where(reprojection.valid, reprojection.error, losses.MAX_ERROR)
    return out.scale, error, error * reprojection.depth / camera.fx


def _most_likely_scale(spread: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """Gain and floor of the greatest Cauchy likelihood."""
    gain, floor = (x.ravel() for x in np.meshgrid(_GAINS, _FLOORS))
    scale = np.sqrt((gain[:, None] * spread) ** 2 + floor[:, None] ** 2)
    nll = np.mean(np.log(scale) + np.log1p((error / scale) ** 2), axis=1)
    best = int(np.argmin(nll))
    return float(gain[best]), float(floor[best])
