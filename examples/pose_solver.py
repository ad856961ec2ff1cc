"""The pose solver alone: the camera pose from 2D-3D correspondences.

python examples/pose_solver.py
"""

import numpy as np

import ace_jax


def main() -> tuple[float, int]:
    """The error, metres, and the inliers of a pose from 200 matches, half of them wrong."""
    rng = np.random.default_rng(0)
    camera = ace_jax.Camera(525.0, 525.0, 319.5, 239.5, 640, 480)
    centre = np.array([0.3, -0.1, 0.2])  # of the camera, which looks along z
    points = rng.uniform([-2.0, -1.5, 2.0], [2.0, 1.5, 6.0], (200, 3))
    pixels = 525.0 * (points - centre)[:, :2] / (points - centre)[:, 2:] + [319.5, 239.5]
    pixels += rng.normal(0.0, 0.5, pixels.shape)
    pixels[::2] = rng.uniform(0, 480, (100, 2))
    result = ace_jax.estimate_absolute_pose(pixels, points, camera, seed=3, threshold=2.0)
    found = np.linalg.inv(result.camera_from_world)[:3, 3]
    print(f"success {result.success}, {result.num_inliers} inliers, camera at {found}")
    return float(np.linalg.norm(found - centre)), int(result.num_inliers)


if __name__ == "__main__":
    main()
