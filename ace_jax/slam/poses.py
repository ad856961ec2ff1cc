"""Camera poses on the host: what keyframes and trajectories need of a rigid motion."""

import numpy as np

from ace_jax.data.rigid import project_to_so3


def orthonormalized(pose: np.ndarray) -> np.ndarray:
    """The (4, 4) float64 pose with its rotation projected to SO(3); float32 products drift off."""
    result = np.eye(4)
    result[:3, :3] = project_to_so3(pose[:3, :3].astype(np.float64))
    result[:3, 3] = pose[:3, 3]
    return result


def centre(camera_from_world: np.ndarray) -> np.ndarray:
    """(3,) centre of a (4, 4) camera in the world, metres."""
    return -camera_from_world[:3, :3].T @ camera_from_world[:3, 3]


def difference(pose: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Metres between the centres of two cameras (4, 4) camera_from_world, radians between them."""
    pose, other = np.asarray(pose, np.float64), np.asarray(other, np.float64)
    distance = np.linalg.norm(centre(pose) - centre(other))
    cosine = (np.trace(pose[:3, :3] @ other[:3, :3].T) - 1) / 2
    return float(distance), float(np.arccos(np.clip(cosine, -1, 1)))
