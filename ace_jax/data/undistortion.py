"""Removal of lens distortion at reading, so that the rest of the code knows pinholes only."""

from collections.abc import Sequence

import cv2
import numpy as np

from ace_jax.geometry.camera import Camera


class Undistortion:
    """Resamples images to the pinhole camera of the same intrinsics (Brown-Conrady model)."""

    def __init__(self, camera: Camera, coefficients: Sequence[float]) -> None:
        """Tabulates the maps once.

        Args:
            camera: intrinsics of the stored and of the resampled images.
            coefficients: OpenCV's (k1, k2, p1, p2[, k3]).
        """
        k = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]], np.float64)
        x, y = cv2.initUndistortRectifyMap(
            k, np.asarray(coefficients), None, k, (camera.width, camera.height), cv2.CV_32FC1
        )
        self._bilinear = cv2.convertMaps(x, y, cv2.CV_16SC2)
        self._nearest, _ = cv2.convertMaps(x, y, cv2.CV_16SC2, nninterpolation=True)

    def colour(self, rgb: np.ndarray) -> np.ndarray:
        """Undistorts (H, W, 3) uint8; the image's rim is repeated where nothing was seen, as a
        black border would give features along its edge."""
        return cv2.remap(rgb, *self._bilinear, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def depth(self, depth: np.ndarray) -> np.ndarray:
        """Undistorts (H, W) float32 by nearest neighbour: depths across an edge do not mix."""
        return cv2.remap(
            depth, self._nearest, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT
        )
