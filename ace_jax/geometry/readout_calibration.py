"""Readout time of a rolling shutter from the recording itself.

Two views of the same points, taken while the camera moved differently, are sheared differently, and
no rigid motion explains the difference. So the relative pose of a frame and a keyframe is fitted
together with the readout time, to features with depth (the model is that of Hedborg et al.,
"Rolling shutter bundle adjustment", CVPR 2012, with velocities that are known from tracking). One
pair tells little, all frames of a recording tell it to a fraction of a millisecond.
"""

import dataclasses

import numpy as np

from ace_jax.geometry import rigid
from ace_jax.geometry.camera import MIN_DEPTH, Camera
from ace_jax.geometry.host_camera import project, rays
from ace_jax.geometry.rolling_shutter import Motion, unroll

PRIOR_SIGMA = 0.01  # seconds (judged): of the readout where a recording states none,
STATED_SIGMA = 0.003  # seconds (judged): and around what it states
# Pairs share their keyframe and the errors of its depth, so they count less than their residuals
# say. Measured: the estimates of single frames differ by 2.4 to 6.6 of their standard deviations
# (redkitchen, freiburg1_rpy, hololens_lounge, realsense_lab).
INDEPENDENT = 25.0
# Velocities have errors, too, by which views that tell little tell too small a readout
# (regression dilution). Measured: so do pairs of freiburg1_rpy with standard deviations of more.
DILUTED = 1e-3  # seconds
SCATTER = 5e-3  # seconds: by which clear pairs of freiburg1_rpy differ
MAX_DEVIATION = 3.0  # sigmas (judged) beyond which a pair counts less, as in Huber's loss
LONGEST_INTERVAL = (
    0.15  # seconds (judged): velocities over longer ones are not those of the exposure
)
MIN_MATCHES = 40  # judged: six parameters of motion and the readout
MAX_MATCHES = 150  # size: of a pair, evenly taken from all
LEAST_CHANGE = 2e-4  # seconds (judged): a turn of 100 degrees a second moves less than 0.1 px in it
_ROUNDS = 3  # of reweighting
_STEP = 1e-3  # seconds: of the numerical derivative


def pixel_rate(uv: np.ndarray, depth: np.ndarray, camera: Camera, motion: Motion) -> np.ndarray:
    """(N, 2) by how much `unroll` moves pixels (N, 2) for each second of readout."""
    ahead, back = (unroll(uv, depth, camera, motion, s * _STEP) for s in (1.0, -1.0))
    return (ahead.astype(np.float64) - back) / (2 * _STEP)


@dataclasses.dataclass(frozen=True)
class SeenPoints:
    """N features of one view, as the sensor sees them.

    Attributes:
        uv: (N, 2) pixels, with the rolling shutter's distortion.
        depth: (N,) metres.
        rate: (N, 2) pixels for each second of readout, see `pixel_rate`.
    """

    uv: np.ndarray
    depth: np.ndarray
    rate: np.ndarray

    def at(self, readout: float) -> np.ndarray:
        """(N, 2) pixels as a global shutter would have seen them."""
        return self.uv + readout * self.rate


def readout_of_pair(
    first: SeenPoints,
    second: SeenPoints,
    second_from_first: np.ndarray,
    readout: float,
    camera: Camera,
    pixel_sigma: float,
    inverse_depth_sigma: float,
) -> tuple[float, float] | None:
    """The readout time that two views of the same N points tell.

    Args:
        first: a view with depth everywhere.
        second: another one; its depth is not used.
        second_from_first: (4, 4) relative pose to begin with.
        readout: seconds, to linearise around.
        camera: intrinsics.
        pixel_sigma: noise of keypoints, pixels.
        inverse_depth_sigma: noise of the depth sensor, 1/m.

    Returns:
        Seconds, and the information (one over the variance) if errors were independent; None: the
        views do not determine it.
    """
    z = first.depth[:, None].astype(np.float64)

    def seen(shift: float, scale: float = 1.0) -> np.ndarray:
        points = rays(first.at(readout + shift).astype(np.float64), camera) * z * scale
        return rigid.transform(second_from_first, points)

    points = seen(0.0)
    if np.any(points[:, 2] < MIN_DEPTH):
        return None
    expected = project(points, camera)
    errors = second.at(readout) - expected
    rate = second.rate - (project(seen(_STEP), camera) - expected) / _STEP
    # What an error of depth moves, by the parallax.
    parallax = (project(seen(0.0, 1.01), camera) - expected) / 0.01
    by_depth = np.sum(parallax**2, 1) * (inverse_depth_sigma * z[:, 0]) ** 2
    variance = pixel_sigma**2 + by_depth
    jacobian = np.concatenate([-_pose_jacobian(points, camera), rate[..., None]], -1)
    weight = 1.0 / variance
    for _ in range(_ROUNDS):
        weighted = jacobian * weight[:, None, None]
        hessian = weighted.reshape(-1, 7).T @ jacobian.reshape(-1, 7)
        gradient = weighted.reshape(-1, 7).T @ errors.reshape(-1)
        try:
            step = -np.linalg.solve(hessian, gradient)
            information = 1.0 / np.linalg.inv(hessian)[6, 6]
        except np.linalg.LinAlgError:
            return None
        squared = np.sum((errors + jacobian @ step) ** 2, 1) / variance
        scale = max(np.median(squared) / (2 * np.log(2)), 1e-6)  # of two coordinates
        weight = np.where(squared < 9 * scale, 1.0 / (1.0 + squared / (4 * scale)), 0.0)
        weight /= variance * scale
    if not (np.isfinite(step).all() and information > 0):
        return None
    return readout + float(step[6]), float(information)


def _pose_jacobian(points: np.ndarray, camera: Camera) -> np.ndarray:
    """(N, 2, 6) of pixels by a left tangent (v, omega) of the pose, at points (N, 3)."""
    x, y, z = points.T
    by_point = np.zeros((len(points), 2, 3))
    by_point[:, 0, 0], by_point[:, 0, 2] = camera.fx / z, -camera.fx * x / z**2
    by_point[:, 1, 1], by_point[:, 1, 2] = camera.fy / z, -camera.fy * y / z**2
    return np.concatenate([by_point, np.cross(points[:, None], by_point)], -1)


@dataclasses.dataclass
class ReadoutEstimator:
    """The readout time as all pairs so far tell it, around what the recording states.

    Attributes:
        information: of the pairs, 1/s^2.
        weighted: their estimates, each times its information, 1/s.
    """

    information: float = 0.0
    weighted: float = 0.0

    def readout(self, stated: float) -> float:
        """Seconds, given what the recording states; negative: rows are read from the last up."""
        prior = _prior(stated)
        return (prior * stated + self.weighted) / (prior + self.information)

    def include(self, other: "ReadoutEstimator") -> None:
        """Takes in what another recording of the same camera tells."""
        self.information += other.information
        self.weighted += other.weighted

    def add(self, readout: float, information: float, stated: float) -> None:
        """Takes in what a pair tells, see `readout_of_pair`; less if it contradicts the others."""
        information /= 1.0 + DILUTED**-2 / information
        information = 1.0 / (INDEPENDENT / information + SCATTER**2)
        variance = 1.0 / information + 1.0 / (_prior(stated) + self.information)
        deviation = abs(readout - self.readout(stated)) / np.sqrt(variance)
        information *= min(1.0, MAX_DEVIATION / max(deviation, 1e-9))
        self.information += information
        self.weighted += information * readout


def _prior(stated: float) -> float:
    """Information of what a recording states, 1/s^2."""
    return (STATED_SIGMA if stated else PRIOR_SIGMA) ** -2
