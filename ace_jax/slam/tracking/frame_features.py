"""Features of a frame, raw and with calibrated depth, and their noise."""

import math

import jax
import numpy as np

from ace_jax.data.depth_at_features import sample_depth
from ace_jax.data.frame import Frame
from ace_jax.features.base import FeatureExtractor, Features, finite_features
from ace_jax.features.similarity import similarity
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.depth_calibration import correct_depth
from ace_jax.geometry.reprojection import NoiseModel
from ace_jax.localization.landmarks import MatchGates
from ace_jax.slam.config import SlamConfig

MEDIAN_OF_RAYLEIGH = math.sqrt(2 * math.log(2))  # median distance over sigma of each coordinate


def blank_features(extractor: FeatureExtractor) -> Features:
    """Masked features of the extractor's shapes, to compile with."""
    count, dim = extractor.max_features, extractor.dim
    return Features(
        uv=np.zeros((count, 2), np.float32),
        descriptors=np.zeros((count, dim), np.float32),
        scores=np.zeros(count, np.float32),
        mask=np.zeros(count, bool),
        depth=np.zeros(count, np.float32),
    )


def match_gates(config: SlamConfig, camera: Camera, features: str) -> MatchGates:
    """What a match must satisfy with the extractor called `features`, at the radius of fusing."""
    return MatchGates(
        radius=np.float32(config.fuse_radius * camera.pixel_scale),
        min_cosine=similarity(features).min_cosine,
        match_ratio=config.match_ratio,
        cos_max_view_angle=float(np.cos(config.max_view_angle)),
        max_scale_change=config.max_scale_change,
    )


class FrameFeatures:
    """Measures the features of frames.

    Args:
        camera: intrinsics of the frames.
        extractor: of sparse features.
        config: constants of depth at features.
    """

    def __init__(self, camera: Camera, extractor: FeatureExtractor, config: SlamConfig) -> None:
        self._camera = camera
        self._extractor = extractor
        self._config = config
        self._planar_radius = config.planar_radius * camera.pixel_scale

    def raw(self, frame: Frame) -> Features:
        """Features on the host, with the sensor's depth.

        Raises:
            BadFrame: they are not finite.
        """
        features = jax.tree.map(np.asarray, finite_features(self._extractor, frame))
        if frame.depth is None:
            return features
        depth = sample_depth(frame.depth, features.uv, planar_radius=self._planar_radius)
        return features.replace(depth=depth)

    def calibrated(self, raw: Features, calibration: np.ndarray) -> Features:
        """Raw features with their depth corrected by the sensor's calibration.

        Args:
            raw: N features.
            calibration: (12,) the calibration, see `depth_calibration`.
        """
        depth = correct_depth(raw.uv, raw.depth, self._camera, calibration)
        depth = np.where(raw.mask & (depth < self._config.max_depth), depth, 0.0)
        return raw.replace(depth=depth.astype(np.float32))


class FeatureNoise:
    """A running estimate of the pixel noise, from the residuals of the frames tracked so far.

    One figure does not fit all cameras: residuals of a sharp global shutter are half those of a
    rolling one. Too wide gates let wrong matches in, too tight ones break tracking.

    Args:
        start: the model to start from; its pixel sigma is also the largest.
        least: the smallest pixel sigma.
        factor: sigma of the model over sigma of the residuals: errors that all residuals of a frame
            share hide in the pose.
        memory: frames over which residuals are averaged.
        residual: what was learned by an earlier run of the same camera, pixels; 0: nothing.

    Attributes:
        model: the model as learned so far.
        residual: the residuals' standard deviation of each coordinate, pixels.
    """

    def __init__(
        self,
        start: NoiseModel,
        least: float,
        factor: float,
        memory: float,
        residual: float = 0.0,
    ) -> None:
        self._most = start.pixel_sigma
        self._least = min(least, start.pixel_sigma)
        self._factor = factor
        self._memory = memory
        self.residual = residual or start.pixel_sigma / factor
        self.model = start.replace(pixel_sigma=self._sigma()) if residual else start

    @classmethod
    def of_config(cls, config: SlamConfig, camera: Camera, residual: float) -> "FeatureNoise":
        """As `config` says, in pixels of the camera."""
        pixel = camera.pixel_scale
        return cls(
            NoiseModel(config.pixel_sigma * pixel, config.inverse_depth_sigma),
            config.min_pixel_sigma * pixel,
            config.pixel_sigma_factor,
            config.noise_memory,
            residual,
        )

    def _sigma(self) -> float:
        return min(max(self._factor * self.residual, self._least), self._most)

    def learn(self, median_error: float) -> None:
        """Takes in a tracked frame: the median distance of inliers from their landmarks, pixels."""
        residual = median_error / MEDIAN_OF_RAYLEIGH
        self.residual += (residual - self.residual) / self._memory
        self.model = self.model.replace(pixel_sigma=self._sigma())
