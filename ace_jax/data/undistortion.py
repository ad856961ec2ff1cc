"""Removes lens distortion while reading, so that all other code assumes pinhole cameras."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from ace_jax.geometry.camera import Camera
from ace_jax.geometry.distortion import Distortion, Fisheye, RadialTangential
from ace_jax.geometry.host_camera import intrinsic_matrix


class Undistortion:
    """Resamples images to the pinhole camera of the same intrinsics."""

    def __init__(self, camera: Camera, distortion: Distortion | Sequence[float]) -> None:
        """Keeps the lens; the maps are tabulated with the first image, whose size is real.

        Args:
            camera: intrinsics of the stored and of the resampled images.
            distortion: of the stored images; bare numbers are OpenCV's (k1, k2, p1, p2[, k3]).
        """
        if not isinstance(distortion, Fisheye | RadialTangential):
            distortion = RadialTangential(*distortion)
        self._camera, self._distortion = camera, distortion
        self._shape = (camera.height, camera.width)

    @functools.cached_property
    def _maps(self) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
        """OpenCV's fixed-point maps, bilinear and nearest."""
        camera = self._camera
        k = intrinsic_matrix(camera)
        tabulate = (
            cv2.fisheye.initUndistortRectifyMap
            if isinstance(self._distortion, Fisheye)
            else cv2.initUndistortRectifyMap
        )
        coefficients = np.array(dataclasses.astuple(self._distortion), np.float64)
        x, y = tabulate(k, coefficients, np.eye(3), k, self._shape[::-1], cv2.CV_32FC1)
        nearest, _ = cv2.convertMaps(x, y, cv2.CV_16SC2, nninterpolation=True)
        return cv2.convertMaps(x, y, cv2.CV_16SC2), nearest

    def __call__(
        self, rgb: np.ndarray, depth: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Undistorts a frame; an image of another size than the camera's is returned as it is.

        Args:
            rgb: (H, W, 3) uint8. Where the lens saw nothing its rim is repeated, as a black border
                would give features along its edge.
            depth: (H, W) float32 or None; nearest neighbour, so that depths across an edge do not
                mix, and 0 where the lens saw nothing.
        """
        if rgb.shape[:2] == self._shape:
            x, y = self._maps[0]
            rgb = cv2.remap(rgb, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        if depth is not None and depth.shape == self._shape:
            unused: Any = None  # a nearest-neighbour map has no second part
            depth = cv2.remap(
                depth, self._maps[1], unused, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT
            )
        return rgb, depth
