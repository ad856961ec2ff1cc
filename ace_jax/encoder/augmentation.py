"""What happens to features in the field, done to a pair of images with the geometry exact.

The views: roll, scale, perspective and the shear of a rolling shutter under a turning camera, all
one homography. The pictures: blur by motion and by focus, noise, exposure, light that falls off
over the image, gamma, colour cast, JPEG.
"""

import dataclasses

import cv2
import numpy as np

from ace_jax.encoder.pairs import Pair, inside
from ace_jax.synthetic.hardships import motion_kernel

_FINE = 2  # views are made so many times larger and then averaged
_JPEG = (30, 95)  # qualities


@dataclasses.dataclass(frozen=True)
class Dial:
    """How much of each, at most; the first image of a pair gets `first` of it.

    Attributes:
        roll: degrees to either side.
        scale: factor, either way.
        shift: pixels of the working size.
        perspective: of a homography's third row, 1 / pixels.
        shutter: pixels by which the last row is seen farther along than the first.
        motion: pixels of the working size that the image moves during the exposure.
        focus: pixels, sigma of the blur.
        noise: grey levels, sigma.
        exposure: natural logarithm of the gain, either way.
        falloff: natural logarithm of the light's change across the image.
        gamma: natural logarithm of the exponent, either way.
        cast: natural logarithm of a channel's gain, either way.
        jpeg: share of the pictures that are compressed.
        first: share of all this in a pair's first image.
        fixed: the amounts are these, with a random sign, not up to these: for validation. Shift,
            perspective, and 5 degrees and 5 % of roll and scale are drawn all the same, so that no
            pixel falls on itself.
    """

    roll: float = 25.0
    scale: float = 1.5
    shift: float = 10.0
    perspective: float = 4e-4
    shutter: float = 12.0
    motion: float = 7.0
    focus: float = 1.5
    noise: float = 12.0
    exposure: float = 0.7
    falloff: float = 1.2
    gamma: float = 0.4
    cast: float = 0.15
    jpeg: float = 0.3
    first: float = 0.5
    fixed: bool = False


_AMOUNTS = [field.name for field in dataclasses.fields(Dial) if field.type is float]
STILL = Dial(**{name: 1.0 if name == "scale" else 0.0 for name in _AMOUNTS})


def augment(pair: Pair, dial: Dial, size: tuple[int, int], rng: np.random.Generator) -> Pair:
    """The pair as two cameras see it, at (width, height) `size`."""
    made = []
    for image, share in ((pair.first, dial.first), (pair.second, 1.0)):
        move = _move(dial, share, size, rng) @ _fitting(image, size)
        made.append((_picture(_view(image, move, size, dial, share, rng), dial, share, rng), move))
    (first, move1), (second, move2) = made
    back = np.linalg.inv(move1)
    height, width = pair.first.shape[:2]

    def locate(uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        source = apply(back, uv)
        there, known = pair.locate(source)
        there = apply(move2, there)
        return there, known & inside(source, width, height) & inside(there, *size)

    return Pair(first, second, locate)


def apply(homography: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Pixels (N, 2) after a homography (3, 3); what lies at infinity goes far away."""
    moved = np.concatenate([uv, np.ones((len(uv), 1))], axis=1) @ homography.T
    return moved[:, :2] / np.where(moved[:, 2:] > 1e-6, moved[:, 2:], 1e-6)


def _amount(rng: np.random.Generator, most: float, dial: Dial, share: float) -> float:
    """Drawn to either side."""
    drawn = rng.uniform(-1.0, 1.0)
    return share * most * (np.sign(drawn) if dial.fixed else drawn)


def _move(dial: Dial, share: float, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A homography (3, 3) of pixels of the working size, about its centre."""
    angle = np.deg2rad(_amount(rng, dial.roll, dial, share))
    logarithm = _amount(rng, np.log(dial.scale), dial, share)
    shift, tilt = (share * m * rng.uniform(-1, 1, 2) for m in (dial.shift, dial.perspective))
    if dial.fixed:
        angle += np.deg2rad(share * rng.uniform(-5.0, 5.0))
        # What is enlarged beyond what was seen is known in the middle only: nearer, not farther.
        logarithm = abs(logarithm) + share * rng.uniform(-0.05, 0.05)
    slant = _amount(rng, dial.shutter, dial, share) / size[1]
    c, s = np.exp(logarithm) * np.cos(angle), np.exp(logarithm) * np.sin(angle)
    turned = np.array([[c, -s, shift[0]], [s, c, shift[1]], [*tilt, 1.0]])
    sheared = np.array([[1.0, slant, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    centre = np.array([[1.0, 0.0, (size[0] - 1) / 2], [0.0, 1.0, (size[1] - 1) / 2], [0, 0, 1.0]])
    return centre @ sheared @ turned @ np.linalg.inv(centre)


def _fitting(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image's pixels to the working size: its middle, cut to those proportions."""
    height, width = image.shape[:2]
    factor = max(size[0] / width, size[1] / height)
    shift = [(side - 1) / 2 - factor * (own - 1) / 2
             for side, own in zip(size, (width, height), strict=True)]  # fmt: skip
    return np.array([[factor, 0.0, shift[0]], [0.0, factor, shift[1]], [0.0, 0.0, 1.0]])


def _view(
    image: np.ndarray,
    move: np.ndarray,
    size: tuple[int, int],
    dial: Dial,
    share: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """(h, w, 3) float32 in 0..1: what the image shows after the move, blurred, at `size`."""
    half = (_FINE - 1) / 2  # pixel centres are at integers
    finer = np.array([[_FINE, 0.0, half], [0.0, _FINE, half], [0.0, 0.0, 1.0]])
    fine = (size[0] * _FINE, size[1] * _FINE)
    border = cv2.BORDER_REFLECT_101
    seen = cv2.warpPerspective(image, finer @ move, fine, flags=cv2.INTER_LINEAR, borderMode=border)
    length = abs(_amount(rng, dial.motion, dial, share)) * _FINE
    angle = rng.uniform(0.0, np.pi)
    if length >= 2.0:
        seen = cv2.filter2D(seen, -1, motion_kernel(2 * round(length / 2) + 1, angle))
    sigma = abs(_amount(rng, dial.focus, dial, share)) * _FINE
    if sigma > 0.3:
        seen = cv2.GaussianBlur(seen, (0, 0), sigma)
    return cv2.resize(seen, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0


def _picture(view: np.ndarray, dial: Dial, share: float, rng: np.random.Generator) -> np.ndarray:
    """(h, w, 3) uint8: the view as exposed, coded and compressed."""
    height, width = view.shape[:2]
    angle = rng.uniform(0.0, 2.0 * np.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along = ((x / width - 0.5) * c + (y / height - 0.5) * s)[..., None]
    exposure, falloff = (
        np.float32(_amount(rng, most, dial, share)) for most in (dial.exposure, dial.falloff)
    )
    cast = np.array([_amount(rng, dial.cast, dial, share) for _ in range(3)], np.float32)
    light = np.exp(exposure + falloff * along) * np.exp(cast)
    exponent = float(np.exp(_amount(rng, dial.gamma, dial, share)))
    grey = 255.0 * cv2.pow(np.clip(view * light, 0.0, 1.0), exponent)
    sigma = abs(_amount(rng, dial.noise, dial, share))
    if sigma > 0:
        grey = grey + np.float32(sigma) * rng.standard_normal(grey.shape, np.float32)
    picture = np.clip(grey + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < dial.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*_JPEG))]
        picture = cv2.imdecode(cv2.imencode(".jpg", picture, quality)[1], cv2.IMREAD_COLOR)
    return picture
