"""Constant-velocity camera motion, and rolling-shutter correction of features by it."""

import dataclasses

import numpy as np

from ace_jax.geometry import rigid
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import project, rays

MAX_INTERVAL = 0.5  # seconds (judged): a hand-held camera does not keep its velocity for longer


@dataclasses.dataclass(frozen=True)
class Motion:
    """Velocity in camera axes: a fixed point moves by it, seen from the camera.

    Attributes:
        angular: (3,) rad/s.
        linear: (3,) m/s.
    """

    angular: np.ndarray
    linear: np.ndarray

    @classmethod
    def between(cls, before: np.ndarray, after: np.ndarray, interval: float) -> "Motion | None":
        """Mean velocity from one camera_from_world (4, 4) to the next, `interval` seconds later.

        None where the interval is not positive or too long to tell.
        """
        if not 0 < interval <= MAX_INTERVAL:
            return None
        moved = after @ rigid.invert(before)
        angular = rigid.rotation_vector(moved[:3, :3]) / interval
        return cls(angular, moved[:3, 3] / interval)

    def after(self, seconds: float) -> np.ndarray:
        """(4, 4) later_from_now: the camera's axes now to those in `seconds`."""
        result = np.eye(4)
        result[:3, :3] = rigid.rotation_of(self.angular * seconds)
        result[:3, 3] = self.linear * seconds
        return result


def unroll(
    uv: np.ndarray, depth: np.ndarray, camera: Camera, motion: Motion, readout: float
) -> np.ndarray:
    """Rolling-shutter correction: features as seen when the middle row was read.

    A rolling shutter reads row after row; a camera that turns at 100 degrees a second shears the
    picture by 20 pixels meanwhile, which no rigid pose explains.

    Args:
        uv: (N, 2) pixels.
        depth: (N,) metres; where it is 0 only the rotation is undone.
        camera: intrinsics.
        motion: velocity at the frame's time.
        readout: seconds from the first row to the last.

    Returns:
        (N, 2) float32 pixels.
    """
    seconds = (uv[:, 1] - (camera.height - 1) / 2) / camera.height * readout
    known = depth > 0
    points = np.where(known, depth, 1.0)[:, None] * rays(uv, camera)
    points = points - np.where(known, seconds, 0.0)[:, None] * motion.linear
    points = rigid.rotated(points, -seconds[:, None] * motion.angular)
    return project(points, camera).astype(np.float32)
