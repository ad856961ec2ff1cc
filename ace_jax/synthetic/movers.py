"""Paths of people who walk through the camera's view (host code, float64)."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ace_jax.synthetic.trajectory import RATE

# wanted share of the image in percent: (people, nearest distance in metres)
COVERAGES = {20: (2, 1.35), 40: (3, 1.0), 60: (4, 0.72)}
_WRAP = np.deg2rad(80.0)  # to the side of the camera's heading; beyond it nobody is in view
_LAG = 0.5  # seconds; people do not follow the tremor of the camera


def make_movers(poses: np.ndarray, percent: int, seed: int) -> np.ndarray:
    """People who cross the view from side to side at their own pace, and come again.

    Those who left on one side come back on the other, out of view: so a few suffice.

    Args:
        poses: (N, 4, 4) world_from_camera.
        percent: a key of `COVERAGES`, about the share of the image that they cover on average.
        seed: of their paths.

    Returns:
        (N, M, 3) x, y in metres and yaw in radians of each at every frame.
    """
    count, nearest = COVERAGES[percent]
    rng = np.random.default_rng([seed, percent, 7])
    times = np.arange(len(poses)) / RATE
    forward = poses[:, :3, 2]
    heading = np.unwrap(np.arctan2(forward[:, 1], forward[:, 0]))
    smooth = np.concatenate([poses[:, :2, 3], heading[:, None]], -1)
    smooth = gaussian_filter1d(smooth, _LAG * RATE, axis=0, mode="nearest")
    out = np.empty((len(poses), count, 3))
    for k in range(count):
        pace = np.deg2rad(rng.uniform(14, 24)) * (-1) ** k
        side = (k + rng.uniform(0.2, 0.8)) / count * 2 * _WRAP + pace * times
        side = side + 0.06 * np.sin(2 * np.pi * (times / rng.uniform(2, 4) + rng.random()))
        side = np.mod(side, 2 * _WRAP) - _WRAP
        swing = np.sin(2 * np.pi * (times / rng.uniform(3, 6) + rng.random()))
        radius = nearest + 0.25 * rng.random() + 0.12 * swing
        bearing = smooth[:, 2] + side
        out[:, k, 0] = smooth[:, 0] + radius * np.cos(bearing)
        out[:, k, 1] = smooth[:, 1] + radius * np.sin(bearing)
        # they look where they go, and about
        about = 0.5 * np.sin(2 * np.pi * (times / rng.uniform(2, 5) + rng.random()))
        out[:, k, 2] = bearing + np.sign(pace) * np.pi / 2 + about
    return out
