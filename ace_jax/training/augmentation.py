"""ACE's augmentation: scale, in-plane rotation, brightness and contrast, with exact geometry."""

import dataclasses

import cv2
import jax
import numpy as np

from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import intrinsic_matrix


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """One draw.

    Attributes:
        short_side: of the augmented image, pixels.
        angle: about the optical axis, radians.
        brightness: factor.
        contrast: factor about the mean.
    """

    short_side: int
    angle: float
    brightness: float
    contrast: float


def draw(
    key: jax.Array,
    short_side: int = 480,
    scale: tuple[float, float] = (2.0 / 3.0, 1.5),
    rotation_deg: float = 15.0,
    brightness: float = 0.1,
    contrast: float = 0.1,
    size_step: int = 1,
) -> Augmentation:
    """Draws scale, angle, brightness and contrast uniformly.

    Args:
        key: PRNG key.
        short_side: of an image at scale 1, pixels.
        scale: smallest and largest.
        rotation_deg: largest rotation to either side.
        brightness: largest relative change.
        contrast: largest relative change.
        size_step: the short side is rounded to a multiple of this.
    """
    size, angle, bright, contrasted = np.asarray(jax.random.uniform(key, (4,)), np.float64)
    side = short_side * (scale[0] + size * (scale[1] - scale[0]))
    return Augmentation(
        short_side=max(round(side / size_step), 1) * size_step,
        angle=float(np.radians(rotation_deg) * (2 * angle - 1)),
        brightness=float(1 + brightness * (2 * bright - 1)),
        contrast=float(1 + contrast * (2 * contrasted - 1)),
    )


def augment(
    rgb: np.ndarray, camera: Camera, augmentation: Augmentation, mask: np.ndarray | None = None
) -> tuple[np.ndarray, Camera, np.ndarray, np.ndarray]:
    """Applies a draw.

    Args:
        rgb: (H, W, 3) uint8.
        camera: its intrinsics.
        augmentation: the draw.
        mask: (H, W) bool, pixels that count; None for all.

    Returns:
        The image (h, w, 3) uint8; its camera; `augmented_from_camera` (4, 4), the rotation that
        takes camera axes to those of the augmented image; and the mask (h, w) bool, False where
        nothing was seen.
    """
    height, width = rgb.shape[:2]
    factor = augmentation.short_side / min(height, width)
    h, w = round(height * factor), round(width * factor)
    small = factor < 1
    image = cv2.resize(rgb, (w, h), interpolation=cv2.INTER_AREA if small else cv2.INTER_LINEAR)
    if mask is None:
        seen = np.full((h, w), 255, np.uint8)
    else:
        seen = cv2.resize(mask.astype(np.uint8) * 255, (w, h), interpolation=cv2.INTER_NEAREST)
    camera = camera.resized(w, h)
    c, s = np.cos(augmentation.angle), np.sin(augmentation.angle)
    matrix = intrinsic_matrix(camera)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    # A rotation about the optical axis maps pixels by an affine map, whatever the focal lengths.
    affine = (matrix @ turn @ np.linalg.inv(matrix))[:2]
    image = cv2.warpAffine(
        image, affine, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    seen = cv2.warpAffine(seen, affine, (w, h), flags=cv2.INTER_NEAREST, borderValue=0)
    value = image.astype(np.float32) * augmentation.brightness
    grey = value.mean()
    value = (value - grey) * augmentation.contrast + grey
    turned = np.eye(4)
    turned[:3, :3] = turn
    return np.clip(value + 0.5, 0, 255).astype(np.uint8), camera, turned, seen > 127
