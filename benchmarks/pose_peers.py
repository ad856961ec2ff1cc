"""The compared absolute-pose solvers behind one signature.

All have the same threshold, confidence and limit of minimal samples, and otherwise their defaults.
"""

from collections.abc import Callable

import cv2
import jax
import numpy as np
import poselib
import pycolmap
from pose_problems import HEIGHT, WIDTH, Problem

from ace_jax.geometry.absolute_pose import estimate_absolute_pose
from ace_jax.geometry.camera import Camera

THRESHOLD = 4.0
CONFIDENCE = 0.9999
MAX_SAMPLES = 20_000

Solve = Callable[[], np.ndarray]
solve_in_jax = jax.jit(estimate_absolute_pose)


def ace_jax(problem: Problem, seed: int, use_depth: bool = False) -> Solve:
    """Ours: arrays of the host in, the pose back on the host.

    Padded to a multiple of 250 points, so that images of similar size share a compiled program.
    """
    missing = -len(problem.points_2d) % 250
    uv, points = (
        np.pad(x.astype(np.float32), ((0, missing), (0, 0)))
        for x in (problem.points_2d, problem.points_3d)
    )
    mask = np.arange(len(uv)) < len(uv) - missing if missing else None
    depth = np.pad(problem.depth.astype(np.float32), (0, missing)) if use_depth else None
    camera = Camera(problem.focal, problem.focal, *problem.centre, WIDTH, HEIGHT)
    key = jax.random.key(seed)

    def solve() -> np.ndarray:
        result = solve_in_jax(uv, points, camera, key, mask=mask, depth=depth)
        return np.asarray(result.camera_from_world, np.float64)

    return solve


def ace_jax_depth(problem: Problem, seed: int) -> Solve:
    """Ours with the depth image of the camera whose pose is asked for."""
    return ace_jax(problem, seed, use_depth=True)


def pose_lib(problem: Problem, seed: int, min_samples: int = 1000) -> Solve:
    """PoseLib."""
    params = [problem.focal, problem.focal, *problem.centre]
    camera = {"model": "PINHOLE", "width": WIDTH, "height": HEIGHT, "params": params}
    options = {
        "max_reproj_error": THRESHOLD,
        "success_prob": CONFIDENCE,
        "max_iterations": MAX_SAMPLES,
        "min_iterations": min_samples,
        "seed": seed,
    }

    def solve() -> np.ndarray:
        pose, _ = poselib.estimate_absolute_pose(
            problem.points_2d, problem.points_3d, camera, options, {}
        )
        return _square(pose.Rt)

    return solve


def pose_lib_100(problem: Problem, seed: int) -> Solve:
    """PoseLib, told that 100 minimal samples may be enough."""
    return pose_lib(problem, seed, 100)


def _open_cv(flag: int) -> Callable[[Problem, int], Solve]:
    def prepare(problem: Problem, seed: int) -> Solve:
        cx, cy = problem.centre
        matrix = np.array([[problem.focal, 0, cx], [0, problem.focal, cy], [0, 0, 1.0]])

        def solve() -> np.ndarray:
            cv2.setRNGSeed(seed)
            found, rotation, translation, _ = cv2.solvePnPRansac(
                problem.points_3d,
                problem.points_2d,
                matrix,
                None,
                flags=flag,
                reprojectionError=THRESHOLD,
                confidence=CONFIDENCE,
                iterationsCount=MAX_SAMPLES,
            )
            if not found:
                return np.eye(4)
            return _square(np.concatenate([cv2.Rodrigues(rotation)[0], translation], axis=1))

        return solve

    return prepare


def colmap(problem: Problem, seed: int) -> Solve:
    """COLMAP, whose pixel centres lie at halves."""
    centre = [c + 0.5 for c in problem.centre]
    camera = pycolmap.Camera(
        model="PINHOLE", width=WIDTH, height=HEIGHT, params=[problem.focal] * 2 + centre
    )
    pixels = problem.points_2d + 0.5
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.max_error = THRESHOLD
    options.ransac.confidence = CONFIDENCE
    options.ransac.min_inlier_ratio = 0.05
    options.ransac.max_num_trials = MAX_SAMPLES
    options.ransac.random_seed = seed

    def solve() -> np.ndarray:
        found = pycolmap.estimate_and_refine_absolute_pose(
            pixels, problem.points_3d, camera, options
        )
        return np.eye(4) if found is None else _square(found["cam_from_world"].matrix())

    return solve


def _square(pose: np.ndarray) -> np.ndarray:
    return np.concatenate([pose, [[0.0, 0.0, 0.0, 1.0]]])


SOLVERS: dict[str, Callable[[Problem, int], Solve]] = {
    "ace_jax": ace_jax,
    "PoseLib": pose_lib,
    "PoseLib, min. 100": pose_lib_100,
    "OpenCV P3P": _open_cv(cv2.SOLVEPNP_P3P),
    "OpenCV SQPNP": _open_cv(cv2.SOLVEPNP_SQPNP),
    "OpenCV MAGSAC": _open_cv(cv2.USAC_MAGSAC),
    "COLMAP": colmap,
}
