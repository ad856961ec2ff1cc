"""The camera: intrinsics, projection and its inverse.

Axes are OpenCV's (x right, y down, z forward). Pixel centres are at integer coordinates: the
centre of the top-left pixel is (0, 0).
"""

import math
from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

MIN_DEPTH = 0.1  # metres, as in ACE; nearer points are not projected: the division blows up
SAME_CAMERA = 0.1  # pixels (judged), a tenth of a feature's noise: such cameras count as one


@flax.struct.dataclass
class Camera:
    """Pinhole intrinsics in pixels.

    Attributes:
        fx: focal length along x, pixels.
        fy: focal length along y, pixels.
        cx: principal point x, pixels.
        cy: principal point y, pixels.
        width: image width, pixels (static under jit).
        height: image height, pixels (static under jit).
    """

    fx: float | jax.Array
    fy: float | jax.Array
    cx: float | jax.Array
    cy: float | jax.Array
    width: int = flax.struct.field(pytree_node=False)
    height: int = flax.struct.field(pytree_node=False)

    @classmethod
    def of_floats(cls, camera: "Camera") -> "Camera":
        """The camera with Python's floats for whatever numbers: programs depend on their types."""
        return cls(*map(float, camera.intrinsics), int(camera.width), int(camera.height))

    @property
    def intrinsics(self) -> tuple:
        """fx, fy, cx, cy."""
        return self.fx, self.fy, self.cx, self.cy

    def normalised(self, u, v) -> tuple:
        """x and y at unit depth, in camera axes, of pixels; arrays of any kind."""
        return (u - self.cx) / self.fx, (v - self.cy) / self.fy

    def pixels(self, x, y) -> tuple:
        """u and v of points at unit depth: the inverse of `normalised`."""
        return self.fx * x + self.cx, self.fy * y + self.cy

    @property
    def pixel_scale(self) -> float:
        """Pixels of this image for one of a 640-pixel-wide image, the unit of tuned constants."""
        return self.width / 640.0

    def resized(self, width: int, height: int) -> "Camera":
        """The camera of the same image at another size.

        Pixel centres are at integers: what stays is the image's corner, at -0.5.
        """
        sx, sy = width / self.width, height / self.height
        centre = (self.cx + 0.5) * sx - 0.5, (self.cy + 0.5) * sy - 0.5
        return Camera(self.fx * sx, self.fy * sy, *centre, width, height)


def largest_shift(camera: Camera, other: Camera) -> float:
    """Pixels between where two cameras show a point that the first one sees, at most.

    Infinite if their images differ in size: then pixels are not comparable.
    """
    if (camera.width, camera.height) != (other.width, other.height):
        return math.inf
    shifts = []
    for size, f, c, other_f, other_c in (
        (camera.width, camera.fx, camera.cx, other.fx, other.cx),
        (camera.height, camera.fy, camera.cy, other.fy, other.cy),
    ):
        # Linear in the pixel, so it is largest at one end.
        ends = (abs((u - c) * other_f / f + other_c - u) for u in (0.0, size - 1.0))
        shifts.append(float(max(ends)))
    return math.hypot(*shifts)


def camera_rows(cameras: Sequence[Camera]) -> np.ndarray:
    """Cameras as one array (I, 6) float64: fx, fy, cx, cy, width, height."""
    return np.array([[*c.intrinsics, c.width, c.height] for c in cameras], np.float64)


def camera_of(row: np.ndarray | jax.Array) -> Camera:
    """The camera of a row (6,) of `camera_rows`; of rows (K, 6), one with fields (K,).

    Made inside a jitted function its size is traced, so that images of other sizes need no other
    program; such a camera cannot be passed on to a function that is jitted itself.
    """
    return Camera(*(row[..., i] for i in range(6)))


def project(points: jax.Array, camera: Camera) -> jax.Array:
    """Projects points (..., 3) in camera axes, metres, to pixels (..., 2); z >= 0.1 m is forced."""
    z = jnp.maximum(points[..., 2], MIN_DEPTH)
    return jnp.stack(
        [camera.fx * points[..., 0] / z + camera.cx, camera.fy * points[..., 1] / z + camera.cy],
        axis=-1,
    )


def unproject(uv: jax.Array, depth: jax.Array, camera: Camera) -> jax.Array:
    """Points (..., 3) in camera axes of pixels (..., 2) at z-depth (...), metres."""
    x, y = camera.normalised(uv[..., 0], uv[..., 1])
    return jnp.stack([x * depth, y * depth, depth], axis=-1)
