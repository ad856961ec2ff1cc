"""How precisely features are placed: learned from the residuals of the frames tracked so far.

One figure does not fit all cameras: residuals of a sharp global shutter are half those of a rolling
one. Too wide gates let wrong matches in, too tight ones break tracking.
"""

import math

from ace_jax.geometry.reprojection import NoiseModel

MEDIAN_OF_RAYLEIGH = math.sqrt(2 * math.log(2))  # median distance over sigma of each coordinate


class FeatureNoise:
    """A running estimate of the pixel noise.

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

    def _sigma(self) -> float:
        return min(max(self._factor * self.residual, self._least), self._most)

    def learn(self, median_error: float) -> None:
        """Takes in a tracked frame: the median distance of inliers from their landmarks, pixels."""
        residual = median_error / MEDIAN_OF_RAYLEIGH
        self.residual += (residual - self.residual) / self._memory
        self.model = self.model.replace(pixel_sigma=self._sigma())
