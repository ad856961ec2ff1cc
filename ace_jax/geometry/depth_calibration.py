"""Calibration of a depth camera from the recording itself (Teichman, Miller and Thrun, RSS 2013).

The depth of a structured-light camera is off by up to some per cent, smoothly over the image and
differently near and far. One view does not show it. Two do: the same wall, seen at the left of one
image and at the right of another, comes out twice. So a correction

    1/z = (1/d) (1 + b(x, y)) + a(x, y)

of the measured depth d, with quadratic polynomials a and b of the point at unit depth, is fitted to
the distances between surfaces that neighbouring keyframes see, whose poses come from landmarks.
The fit has two constraints: the scale, which only depth determines, must not change, so the mean
relative change is zero; and observations of a camera that only turns must not lead to a large
correction, so each coefficient has a prior around zero.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.geometry.camera import Camera
from ace_jax.geometry.depth_planes import grid_uv
from ace_jax.geometry.host_camera import rays
from ace_jax.geometry.plane_registration import cauchy_weight, counterparts, spread_of, surface
from ace_jax.precision import full_precision
from ace_jax.programs import program

COEFFICIENTS = 12  # a quadratic polynomial has six
# Tuned on synthetic rooms 3 and 4 and 7-Scenes redkitchen 0-499 (docs/slam-figures.md).
PRIOR_SIGMA = 0.005  # of each coefficient: a Kinect's are some parts in a thousand
SCALE_SIGMA = 1e-4  # of the mean relative change of inverse depth: hardly any
INDEPENDENT = 5.0  # independent planes in a pair of images: errors are smooth, planes overlap
POSE_SIGMA = np.array([0.01] * 3 + [0.005] * 3)  # metres, radians, of two keyframes' motion
LEAST_EVIDENCE = 0.3  # chi-square for each coefficient; less, and the sensor is taken to be exact
LEAST_CHANGE = 2e-4  # of a coefficient: less than a millimetre at two metres
MEMORY = 0.98  # share that is kept from keyframe to keyframe: a time constant of 50


@flax.struct.dataclass
class CalibrationEquations:
    """Least squares for the coefficients, of some pairs of images.

    Attributes:
        hessian: (12, 12) in units of the noise.
        gradient: (12,) at no correction.
        relative: (12,) the mean relative change of inverse depth by each coefficient.
    """

    hessian: np.ndarray | jax.Array
    gradient: np.ndarray | jax.Array
    relative: np.ndarray | jax.Array


def correct_depth(
    uv: np.ndarray, depth: np.ndarray, camera: Camera, calibration: np.ndarray
) -> np.ndarray:
    """Depth (N,) at pixels (N, 2), metres, corrected; 0 stays 0."""
    return recorrect_depth(uv, depth, camera, np.zeros(COEFFICIENTS), calibration)


def recorrect_depth(
    uv: np.ndarray, depth: np.ndarray, camera: Camera, before: np.ndarray, after: np.ndarray
) -> np.ndarray:
    """Depth that was corrected by one calibration (12,), corrected by another instead."""
    x, y, _ = rays(uv, camera).T
    inverse = 1.0 / np.where(depth > 0, depth, 1.0)
    offset, factor = _polynomials(_monomials(x, y), before)
    inverse = (inverse - offset) / (1.0 + factor)
    offset, factor = _polynomials(_monomials(x, y), after)
    inverse = inverse * (1.0 + factor) + offset
    good = (depth > 0) & (inverse > 0)
    return np.where(good, 1.0 / np.where(good, inverse, 1.0), 0.0).astype(np.float32)


def correct_planes(planes: np.ndarray, camera: Camera, calibration: np.ndarray) -> np.ndarray:
    """Planes (..., R, C, 3), see `fit_planes`, of a depth image that is corrected."""
    x, y, _ = np.moveaxis(rays(grid_uv(camera), camera), -1, 0)
    inverse = planes[..., 0] * x + planes[..., 1] * y + planes[..., 2]
    offset, factor = _polynomials(_monomials(x, y), calibration)
    along = []
    for axis, derivatives in enumerate(_derivatives(x, y)):
        of_offset, of_factor = _polynomials(derivatives, calibration)
        along.append(of_offset + of_factor * inverse + planes[..., axis] * factor)
    here = offset + factor * inverse
    change = np.stack([*along, here - along[0] * x - along[1] * y], axis=-1)
    return np.where(inverse[..., None] > 0, planes + change, 0.0).astype(np.float32)


@program
@full_precision
def calibration_equations(
    planes: jax.Array,
    others: jax.Array,
    other_from_camera: jax.Array,
    camera: Camera,
    calibration: jax.Array,
) -> CalibrationEquations:
    """Normal equations of the calibration from the distances between surfaces.

    Args:
        planes: (R, C, 3) of one image, corrected by `calibration`.
        others: (B, R, C, 3) of B others, corrected too.
        other_from_camera: (B, 4, 4) their relative poses.
        camera: intrinsics.
        calibration: (12,) the correction.
    """
    points, normals, known = surface(planes, camera)

    def one(other, pose):
        found = counterparts(points, normals, known, other, pose, camera)
        moved, normal, error, used = found.moved, found.normal, found.error, found.used
        rays = points / jnp.where(known, points[:, 2], 1.0)[:, None] @ pose[:3, :3].T
        z = jnp.where(used, moved[:, 2], 1.0)
        # A surface that comes nearer by its inverse depth moves along its ray; so does the other.
        along = jnp.sum(normal * rays, axis=1) * points[:, 2] ** 2 / z**2
        along_other = jnp.sum(normal * moved, axis=1) / z
        rows = along_other[:, None] * _basis(moved) - along[:, None] * _basis(points)
        rows = jnp.where(used[:, None], rows, 0.0)
        rows = jnp.concatenate([rows, found.pose_rows], axis=1)
        spread = spread_of(error, used)
        share = jnp.minimum(INDEPENDENT / jnp.maximum(jnp.sum(used), 1), 1.0)
        weighed = rows.T * (share / spread**2 * cauchy_weight(error, spread))
        normal_matrix, right = weighed @ rows, weighed @ error
        # What an error of the relative pose explains as well is no evidence for a calibration.
        pose_matrix = normal_matrix[COEFFICIENTS:, COEFFICIENTS:] + jnp.diag(POSE_SIGMA**-2)
        across = normal_matrix[:COEFFICIENTS, COEFFICIENTS:]
        without = jax.scipy.linalg.solve(pose_matrix, across.T, assume_a="pos").T
        hessian = normal_matrix[:COEFFICIENTS, :COEFFICIENTS] - without @ across.T
        return hessian, right[:COEFFICIENTS] - without @ right[
            COEFFICIENTS:
        ] - hessian @ calibration

    hessian, gradient = jax.vmap(one)(others, other_from_camera)
    relative = jnp.where(known[:, None], _basis(points) * points[:, 2:], 0.0)
    return CalibrationEquations(
        hessian=jnp.sum(hessian, axis=0),
        gradient=jnp.sum(gradient, axis=0),
        relative=jnp.sum(relative, axis=0) / jnp.maximum(jnp.sum(known), 1),
    )


class DepthCalibrator:
    """Gathers equations and solves them.

    Args:
        prior: (12,) the correction without equations; default none.

    Attributes:
        prior: as given.
    """

    def __init__(self, prior: np.ndarray | None = None) -> None:
        self.prior = np.zeros(COEFFICIENTS) if prior is None else prior
        self._hessian = np.zeros((COEFFICIENTS, COEFFICIENTS))
        self._gradient = np.zeros(COEFFICIENTS)
        self._relative = np.zeros(COEFFICIENTS)

    def content(self) -> dict[str, np.ndarray]:
        """Everything that was gathered so far, as `restored` takes it."""
        return {
            "prior": self.prior,
            "hessian": self._hessian,
            "gradient": self._gradient,
            "relative": self._relative.copy(),
        }

    @classmethod
    def restored(cls, content: dict[str, np.ndarray]) -> "DepthCalibrator":
        """The estimator whose `content` this is.

        Raises:
            ValueError: arrays of other shapes, or not finite.
            KeyError: one is missing.
        """
        estimator = cls()
        for name, blank in estimator.content().items():
            values = np.asarray(content[name], np.float64)
            if values.shape != blank.shape or not np.isfinite(values).all():
                raise ValueError(
                    f"{name} of the depth calibration is not {blank.shape} finite numbers"
                )
            setattr(estimator, name if name == "prior" else f"_{name}", values)
        least, most = np.linalg.eigvalsh(estimator._hessian)[[0, -1]]
        if least < -1e-6 * max(most, 1.0):
            raise ValueError("hessian of the depth calibration is no sum of squares")
        return estimator

    def include(self, other: "DepthCalibrator") -> None:
        """Adds the evidence of another recording by the same sensor, without its prior."""
        self._hessian = self._hessian + other._hessian
        self._gradient = self._gradient + other._gradient
        self._relative = self._relative + other._relative

    def add(self, equations: CalibrationEquations) -> None:
        """Adds the evidence of one keyframe; older evidence fades a little."""
        self._hessian = MEMORY * self._hessian + np.asarray(equations.hessian, np.float64)
        self._gradient = MEMORY * self._gradient + np.asarray(equations.gradient, np.float64)
        self._relative += (1 - MEMORY) * (np.asarray(equations.relative) - self._relative)

    @property
    def calibration(self) -> np.ndarray:
        """(12,) the correction that explains most, shrunk where there is little evidence for it.

        Positive-part shrinkage (James and Stein 1961): none at all for an exact sensor.
        """
        weight = np.eye(COEFFICIENTS) / PRIOR_SIGMA**2
        weight += np.outer(self._relative, self._relative) / SCALE_SIGMA**2
        gradient = self._gradient + self._hessian @ self.prior
        change = -np.linalg.solve(self._hessian + weight, gradient)
        evidence = change @ self._hessian @ change / COEFFICIENTS
        return self.prior + max(0.0, 1.0 - LEAST_EVIDENCE / max(evidence, 1e-9)) * change


def _monomials(x, y) -> list:
    return [x**0, x, y, x * x, x * y, y * y]


def _derivatives(x, y) -> tuple[list, list]:
    """Of the monomials with respect to x, and to y."""
    zero, one = 0 * x, x**0
    return [zero, one, zero, 2 * x, y, zero], [zero, zero, one, zero, x, 2 * y]


def _polynomials(monomials: list, calibration: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is added to inverse depth, and by what share it grows."""
    half = COEFFICIENTS // 2
    return (
        sum(c * m for c, m in zip(calibration[:half], monomials, strict=True)),
        sum(c * m for c, m in zip(calibration[half:], monomials, strict=True)),
    )


def _basis(points: jax.Array) -> jax.Array:
    """(P, 12) change of inverse depth at points (P, 3) by each coefficient."""
    inverse = 1.0 / jnp.where(points[:, 2] > 0, points[:, 2], 1.0)
    monomials = _monomials(points[:, 0] * inverse, points[:, 1] * inverse)
    return jnp.stack(monomials + [m * inverse for m in monomials], axis=1)
