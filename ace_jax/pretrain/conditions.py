"""Conditions of query images with adjustable difficulty: light, camera and image degradations."""

import dataclasses

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from ace_jax.geometry.camera import Camera
from ace_jax.synthetic.room import Illumination
from ace_jax.synthetic.sensor import BLUR_TAPS, motion_blur
from ace_jax.synthetic.variation import evening

_WIDTH = 640.0  # pixels; blur is given for images of this width
_SHAKE = (0.01, 0.02)  # metres, radians: standard deviation of a camera's motion between frames
_SHUTTER = 0.5  # of the frame period, by day
_MOST_GAIN = 8.0  # of a camera's automatic exposure
_COMPENSATED = 0.7  # of the logarithm of the light that is missing


@dataclasses.dataclass(frozen=True)
class Difficulty:
    """How query images differ from mapping images, at full strength.

    Attributes:
        shift: metres, standard deviation of the camera's displacement from the mapping path, along
            each axis.
        turn: degrees, standard deviation about each axis.
        light: strength of `variation.relight`: lamps, tint, shadows.
        exposure: standard deviation of each image's log exposure.
        moved: share of the pieces of furniture that stand elsewhere.
        least: a scene's strength, a factor on all of the above and below up to `grain`, is drawn
            from `least` to 1.
        roll: degrees, standard deviation about the optical axis.
        approach: metres, standard deviation of a step along the viewing direction.
        removed: share of the pieces of furniture that are gone.
        dark: share of the images taken in the evening: by the lamp alone, or by what little comes
            through the window; the camera exposes longer and amplifies noise.
        defocus: pixels of an image 640 wide, standard deviation of the radius of the blur.
        motion: the camera's motion in the exposure, in that of a hand held still.
        grain: standard deviation of the sensor's noise, of full scale; each image's is drawn.
        noise: greatest strength of the camera's defects (`sensor.Sensor`: blur, noise, depth that
            is wrong or missing) in all images; a scene's is drawn from 0 to it.
        span: least share of the mapping pass that a scene covers; its own is drawn from it to 1.
            Images are the nearer to each other, the less it covers.
    """

    shift: float = 0.3
    turn: float = 12.0
    light: float = 1.0
    exposure: float = 0.25
    moved: float = 0.25
    least: float = 0.4
    roll: float = 0.0
    approach: float = 0.0
    removed: float = 0.0
    dark: float = 0.0
    defocus: float = 0.0
    motion: float = 0.0
    grain: float = 0.0
    noise: float = 0.0
    span: float = 1.0


# Queries of which brute-force matching of SIFT features finds the poses of about half
# (docs/pretraining.md); chosen on validation rooms.
HARD = Difficulty(
    shift=0.45,
    turn=18.0,
    light=1.2,
    exposure=0.5,
    moved=0.4,
    least=0.6,
    roll=25.0,
    approach=0.5,
    removed=0.25,
    dark=0.4,
    defocus=1.2,
    motion=1.5,
    grain=0.03,
)


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Under which one query image is taken.

    Attributes:
        step: metres along the viewing direction.
        roll: radians about the optical axis.
        dark: whether in the evening.
        by_lamp: in the evening, whether the lamp is lit.
        defocus: pixels of an image 640 wide.
        motion: (4, 4) pose at the exposure's end in the camera at its begin, by day.
        grain: of full scale, without amplification.
        seed: of the noise.
    """

    step: float
    roll: float
    dark: bool
    by_lamp: bool
    defocus: float
    motion: np.ndarray
    grain: float
    seed: int


def draw_conditions(dial: Difficulty, strength: float, rng: np.random.Generator) -> Conditions:
    """Conditions of one image of a scene whose strength is in 0..1."""
    motion = np.eye(4)
    motion[:3, 3] = dial.motion * strength * _SHAKE[0] * rng.normal(size=3)
    turn = dial.motion * strength * _SHAKE[1] * rng.normal(size=3)
    motion[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    return Conditions(
        step=dial.approach * strength * rng.normal(),
        roll=np.deg2rad(dial.roll * strength) * rng.normal(),
        dark=bool(rng.uniform() < dial.dark * strength),
        by_lamp=bool(rng.uniform() < 0.5),
        defocus=dial.defocus * strength * abs(rng.normal()),
        motion=motion,
        grain=dial.grain * strength * abs(rng.normal()),
        seed=int(rng.integers(1 << 31)),
    )


def lit(light: Illumination, conditions: Conditions) -> tuple[Illumination, float]:
    """The light of an image, and the gain of the camera's automatic exposure (1 by day)."""
    if not conditions.dark:
        return light, 1.0
    dim = evening(light, conditions.by_lamp)
    lost = float(_brightness(light) / _brightness(dim))
    gain = float(np.clip(lost**_COMPENSATED, 1.0, _MOST_GAIN))
    return dim.replace(exposure=dim.exposure * gain), gain


def _brightness(light: Illumination) -> np.ndarray:
    """Of the room: lamps at two metres, and the sky."""
    return np.asarray(light.color).mean(axis=1).sum() / 4.0 + np.asarray(light.ambient).mean()


def photograph(
    rgb: np.ndarray, depth: np.ndarray, camera: Camera, conditions: Conditions, gain: float
) -> np.ndarray:
    """The picture as a camera takes it: out of focus, in motion, with noise.

    Args:
        rgb: (H, W, 3) float32 in [0, 1], sharp.
        depth: (H, W) metres.
        camera: of both.
        conditions: of the image.
        gain: of the automatic exposure, half of it exposure time and half amplification.

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    sigma = conditions.defocus * camera.width / _WIDTH
    if sigma > 0.1:
        rgb = cv2.GaussianBlur(rgb, (0, 0), sigma)
    if not np.array_equal(conditions.motion, np.eye(4)):
        shutter = _SHUTTER * np.sqrt(gain)
        # Twice, the second time between the taps of the first.
        for share in (1.0, 1.0 / BLUR_TAPS):
            rgb = np.asarray(
                _blur(rgb, depth, conditions.motion.astype(np.float32), camera, shutter * share)
            )
    sigma = conditions.grain * np.sqrt(gain)
    if sigma > 0:
        noise = np.random.default_rng(conditions.seed).standard_normal(rgb.shape, np.float32)
        rgb = rgb + sigma * noise
    return np.clip(rgb, 0.0, 1.0)


@jax.jit
def _blur(
    rgb: jax.Array, depth: jax.Array, motion: jax.Array, camera: Camera, shutter: jax.Array
) -> jax.Array:
    return motion_blur(rgb, jnp.maximum(depth, 0.1), motion, camera, shutter)
