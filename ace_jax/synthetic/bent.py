"""Depth with the smooth systematic scale error of a badly calibrated sensor, such as a Kinect."""

import dataclasses
import functools

import numpy as np

from ace_jax.data.frame import Frame
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import image_rays

# Added to inverse depth (1/m), and share by which it grows: a quadratic polynomial each, in the
# coordinates x, y at unit depth: 1, x, y, x^2, x y, y^2. A Kinect's is of this size.
OFFSET = (0.002, -0.008, -0.004, -0.006, 0.003, -0.004)
FACTOR = (-0.003, 0.006, -0.004, -0.005, 0.003, 0.004)


def bend(frame: Frame) -> Frame:
    """The frame with bent depth; its colours stay."""
    offset, factor = _polynomials(frame.camera)
    known = frame.depth > 0
    inverse = (1.0 / np.where(known, frame.depth, 1.0)) * (1.0 + factor) + offset
    depth = np.where(known, 1.0 / inverse, 0.0).astype(np.float32)
    return dataclasses.replace(frame, depth=depth)


@functools.lru_cache(maxsize=1)
def _polynomials(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) what is added to inverse depth, and by what share it grows."""
    x, y, _ = np.moveaxis(image_rays(camera), -1, 0)
    monomials = (np.ones_like(x), x, y, x * x, x * y, y * y)
    return tuple(
        sum(c * m for c, m in zip(coefficients, monomials, strict=True))
        for coefficients in (OFFSET, FACTOR)
    )
