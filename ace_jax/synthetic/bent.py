"""Depth with the smooth systematic scale error of a badly calibrated sensor, such as a Kinect."""

import dataclasses
import functools

import numpy as np

from ace_jax.data.frame import Frame, FrameSource
from ace_jax.data.subset import SubsetSource
from ace_jax.geometry.host_camera import image_rays

# Added to inverse depth (1/m), and share by which it grows: a quadratic polynomial each, in the
# coordinates x, y at unit depth: 1, x, y, x^2, x y, y^2. A Kinect's is of this size.
OFFSET = (0.002, -0.008, -0.004, -0.006, 0.003, -0.004)
FACTOR = (-0.003, 0.006, -0.004, -0.005, 0.003, 0.004)


class BentSource(SubsetSource):
    """Another source whose depth is bent; colours and poses stay.

    Attributes:
        name: of this source.
        camera: intrinsics.
        has_depth: whether frames carry depth.
    """

    def __init__(self, source: FrameSource, name: str) -> None:
        """See the class."""
        super().__init__(source)
        self.name = name

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        offset, factor = self._bend
        known = frame.depth > 0
        inverse = (1.0 / np.where(known, frame.depth, 1.0)) * (1.0 + factor) + offset
        depth = np.where(known, 1.0 / inverse, 0.0).astype(np.float32)
        return dataclasses.replace(frame, depth=depth)

    @functools.cached_property
    def _bend(self) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) what is added to inverse depth, and by what share it grows."""
        x, y, _ = np.moveaxis(image_rays(self.camera), -1, 0)
        monomials = (np.ones_like(x), x, y, x * x, x * y, y * y)
        return tuple(
            sum(c * m for c, m in zip(coefficients, monomials, strict=True))
            for coefficients in (OFFSET, FACTOR)
        )
