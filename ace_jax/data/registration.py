"""Registration of a depth image into the colour camera: a z-buffered forward warp."""

import functools
import threading
from typing import Protocol

import cv2
import numpy as np

from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import image_rays, intrinsic_matrix

BLOCK = 1 << 15  # pixels worked on at a time, so that intermediate results stay in the cache
NEAREST = 1e-3  # metres; keeps the reciprocal finite where depth is unknown
HOLE_AGREEMENT = 0.05  # a hole is filled only if both its neighbours agree to this share of z


class ToColour(Protocol):
    """Brings depth images of one shape (H, W) into the colour camera."""

    depth_shape: tuple[int, int]

    def __call__(self, depth: np.ndarray) -> np.ndarray:
        """(H, W) of the depth camera to (H', W') of the colour camera, metres, 0 unknown."""
        ...


class DepthResampling:
    """Nearest-neighbour lookup between two cameras that share their centre and axes."""

    def __init__(self, depth_camera: Camera, colour_camera: Camera) -> None:
        """Keeps the cameras; the table is made with the first image, whose size is real."""
        self.depth_shape = (int(depth_camera.height), int(depth_camera.width))
        self._cameras = (depth_camera, colour_camera)

    @functools.cached_property
    def _maps(self) -> list[np.ndarray]:
        """Where each colour pixel is in the depth image: x and y, each (H', W')."""
        depth, colour = self._cameras
        x = np.arange(colour.width, dtype=np.float64) - float(colour.cx)
        y = np.arange(colour.height, dtype=np.float64) - float(colour.cy)
        x = x * float(depth.fx / colour.fx) + float(depth.cx)
        y = y * float(depth.fy / colour.fy) + float(depth.cy)
        return [*np.meshgrid(np.rint(x).astype(np.float32), np.rint(y).astype(np.float32))]

    def __call__(self, depth: np.ndarray) -> np.ndarray:
        """(H, W) float32 metres to (H', W'), 0 where the depth camera does not see."""
        x, y = self._maps
        return cv2.remap(depth, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)


class DepthRegistration:
    """Warps depth images from the depth camera into the colour camera.

    A pixel x_d with depth z shows the point z K_d^-1 x_d; in the colour camera that is
    z a + t with a = R K_d^-1 x_d, and its pixel is K_c (a + t/z), dehomogenised. The rays K_c a
    depend on the calibration alone and are tabulated once. Of the points that fall on one pixel the
    nearest is kept.

    The warp is exact in its z-buffer without sorting: all depths are scattered, the values that won
    are read back, and the few points found nearer than what they see there are scattered again,
    until none is left. The first scatter runs along the baseline so that near points come last.

    Thread-safe: scratch memory belongs to the calling thread.
    """

    def __init__(
        self, depth_camera: Camera, colour_camera: Camera, colour_from_depth: np.ndarray
    ) -> None:
        """Tabulates the rays.

        Args:
            depth_camera: intrinsics of the depth image.
            colour_camera: intrinsics of the colour image, which the result shares.
            colour_from_depth: (4, 4) rigid transform of points, metres.
        """
        self.colour_camera = colour_camera
        self.depth_shape = (int(depth_camera.height), int(depth_camera.width))
        # A frame of one pixel around the result collects whatever falls outside.
        self._padded = (int(colour_camera.height) + 2, int(colour_camera.width) + 2)
        # Points scanned towards the colour camera's epipole overwrite in the order far to near
        # (McMillan, "An image-based approach to three-dimensional computer graphics", 1997).
        self._reverse = bool(colour_from_depth[0, 3] < 0)
        intrinsics = intrinsic_matrix(colour_camera)
        intrinsics[:2, 2] += 1.0  # for the frame around
        rays = image_rays(depth_camera)
        table = np.einsum("ij,hwj->ihw", intrinsics @ colour_from_depth[:3, :3], rays)
        if self._reverse:
            table = table[:, :, ::-1]
        self._rays = np.ascontiguousarray(table.reshape(3, -1), dtype=np.float32)
        self._offset = (intrinsics @ colour_from_depth[:3, 3]).astype(np.float32)
        self._local = threading.local()

    def __call__(self, depth: np.ndarray) -> np.ndarray:
        """Registers one depth image.

        Args:
            depth: (H, W) float32 z-depth of the depth camera in metres, 0 where unknown.

        Returns:
            (H', W') float32 z-depth of the colour camera, 0 where unknown.
        """
        if depth.shape != self.depth_shape:
            raise ValueError(f"depth is {depth.shape}, the depth camera {self.depth_shape}")
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            target, z = self._project(depth)
        buffer = np.full(self._padded[0] * self._padded[1], np.inf, np.float32)
        buffer[target] = z
        nearer = np.flatnonzero(z < buffer.take(target))
        while nearer.size:
            target, z = target[nearer], z[nearer]
            buffer[target] = z
            nearer = np.flatnonzero(z < buffer.take(target))
        registered = buffer.reshape(self._padded)[1:-1, 1:-1].copy()
        registered[np.isinf(registered)] = 0.0
        _fill_holes(registered)
        return registered

    def _project(self, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Flat padded colour pixel (int64) and colour z-depth of every depth pixel.

        Unknown depth lands on the frame around the image, whatever its value.
        """
        depths, targets, *scratch = self._buffers()
        depths.reshape(self.depth_shape)[...] = depth[:, ::-1] if self._reverse else depth
        height, width = self._padded
        for start in range(0, depths.size, BLOCK):
            part = slice(start, min(start + BLOCK, depths.size))
            z, rays = depths[part], self._rays[:, part]
            inverse, u, v = (buffer[: z.size] for buffer in scratch)
            known = z > 0
            np.maximum(z, NEAREST, out=inverse)
            np.divide(1.0, inverse, out=inverse)
            np.multiply(inverse, self._offset[0], out=u)
            u += rays[0]
            np.multiply(inverse, self._offset[1], out=v)
            v += rays[1]
            inverse *= self._offset[2]
            inverse += rays[2]  # colour depth over depth
            z *= inverse
            known &= z > 0  # in front of the colour camera
            u /= inverse
            v /= inverse
            for pixels, size in ((u, width), (v, height)):
                pixels += 0.5
                np.fmax(pixels, 0, out=pixels)  # takes NaN to 0, on the frame around the image
                np.minimum(pixels, size - 1, out=pixels)
                np.floor(pixels, out=pixels)
            # Flat indices below 2^24 are exact in float32; one conversion is cheaper than three.
            v *= width
            u += v
            u *= known
            np.copyto(targets[part], u, casting="unsafe")
        return targets, depths

    def _buffers(self) -> tuple[np.ndarray, ...]:
        if not hasattr(self._local, "buffers"):
            size = self.depth_shape[0] * self.depth_shape[1]
            self._local.buffers = (
                np.empty(size, np.float32),
                np.empty(size, np.int64),
                *(np.ones(BLOCK, np.float32) for _ in range(3)),
            )
        return self._local.buffers


def _fill_holes(depth: np.ndarray) -> None:
    """Fills one-pixel gaps between two agreeing neighbours, along rows and then columns, in place.

    A forward warp leaves them where a surface is stretched; larger gaps are real and stay.
    """
    width = depth.shape[1]
    flat = depth.reshape(-1)
    known = flat > 0
    for step in (1, width):
        hole = known[: -2 * step] & known[2 * step :]
        hole &= ~known[step:-step]
        centre = np.flatnonzero(hole) + step
        if step == 1:  # the neighbours of a row's ends belong to other rows
            centre = centre[(centre % width > 0) & (centre % width < width - 1)]
        before, after = flat[centre - step], flat[centre + step]
        mean = 0.5 * (before + after)
        agree = np.abs(after - before) < HOLE_AGREEMENT * mean
        flat[centre[agree]] = mean[agree]
