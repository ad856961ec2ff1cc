"""Landmarks: points in the world with descriptors, and from where each has been seen.

One form for SLAM, mapping and relocalization, on the host (NumPy) or on the device (JAX).
"""

from types import ModuleType

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.features.base import Features
from ace_jax.geometry import host_camera, rigid, se3
from ace_jax.geometry.camera import MIN_DEPTH, Camera, project
from ace_jax.precision import full_precision


@flax.struct.dataclass
class Landmarks:
    """M landmarks.

    Attributes:
        points: (M, 3) world, metres.
        descriptors: (M, S, D) S appearances of each, zero where there are fewer.
        view_directions: (M, 3) mean unit direction from the landmark to the cameras that saw it.
        distances: (M,) metres, mean distance of those cameras; NaN if they are unknown.
        views: (M,) int32 number of images in which it was found; 0 for an empty row.
    """

    points: jax.Array
    descriptors: jax.Array
    view_directions: jax.Array
    distances: jax.Array
    views: jax.Array

    @property
    def mask(self) -> jax.Array:
        """(M,) bool, rows that hold a landmark."""
        return self.views > 0

    @property
    def viewpoints(self) -> jax.Array:
        """(M, 3) mean camera centre from which each was seen, world, metres; NaN if unknown."""
        return self.points + self.distances[:, None] * self.view_directions

    def with_points(self, points: jax.Array) -> "Landmarks":
        """The same landmarks elsewhere, seen from the same places."""
        directions, distances = directions_to(self.viewpoints, points)
        return self.replace(points=points, view_directions=directions, distances=distances)


@flax.struct.dataclass
class MatchGates:
    """What a match of a landmark and a feature must satisfy.

    Attributes:
        radius: pixels between the landmark's projection and the feature.
        min_cosine: least cosine similarity of their descriptors.
        match_ratio: largest ratio of the descriptor distances to the best and to the second-best
            feature (Lowe, IJCV 2004); used by `guided_match` alone.
        cos_max_view_angle: cosine of the largest angle between the mean and the present direction
            of view. By default 53 degrees, beyond which descriptors no longer match (measured on
            7-Scenes redkitchen).
        max_scale_change: largest ratio of mean and present distance, and of present and mean;
            1.7 by default, likewise.
    """

    radius: jax.Array | float
    min_cosine: jax.Array | float
    match_ratio: float = 1.0
    cos_max_view_angle: float = 0.6
    max_scale_change: float = 1.7


def _namespace(array: jax.Array) -> ModuleType:
    """The module of an array's functions; NumPy's arrays have `__array_namespace__` from 2.0 on."""
    return np if isinstance(array, np.ndarray) else jnp


def directions_to(viewpoints: jax.Array, points: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Unit directions (M, 3) from points (M, 3) to one viewpoint (3,) or M, and distances (M,)."""
    xp = _namespace(points)
    to_viewpoint = viewpoints - points
    distances = xp.sqrt(xp.sum(to_viewpoint**2, axis=1))
    return to_viewpoint / xp.maximum(distances, 1e-6)[:, None], distances


def landmarks_of(features: Features, points: np.ndarray, viewpoint: np.ndarray) -> Landmarks:
    """Features of one image as landmarks, on the host; those without depth are none.

    Args:
        features: N features.
        points: (N, 3) where they are, metres, any axes.
        viewpoint: (3,) of the camera, the same axes.
    """
    directions, distances = directions_to(viewpoint, points)
    return Landmarks(
        points=points.astype(np.float32),
        descriptors=np.asarray(features.descriptors)[:, None],
        view_directions=directions,
        distances=distances,
        views=(features.mask & (features.depth > 0)).astype(np.int32),
    )


@full_precision
def visible(
    landmarks: Landmarks, camera_from_world: jax.Array, camera: Camera, gates: MatchGates
) -> tuple[jax.Array, jax.Array]:
    """Projections of landmarks, and which of them a camera can see and would recognise.

    Args:
        landmarks: M landmarks, on the host or on the device; so is the result.
        camera_from_world: (4, 4).
        camera: intrinsics.
        gates: on direction and distance of view.

    Returns:
        (M, 2) pixels, finite also for landmarks that cannot be seen, and (M,) bool.
    """
    xp = _namespace(landmarks.points)
    if xp is np:
        in_camera = rigid.transform(camera_from_world, landmarks.points)
        uv, centre = host_camera.project(in_camera, camera), rigid.centre(camera_from_world)
    else:
        in_camera = se3.transform(camera_from_world, landmarks.points)
        uv, centre = project(in_camera, camera), se3.invert(camera_from_world)[:3, 3]
    u, v = uv.T
    to_camera = centre - landmarks.points
    distance = xp.sqrt(xp.einsum("pi,pi->p", to_camera, to_camera))
    along = xp.einsum("pi,pi->p", to_camera, landmarks.view_directions)
    ratio = distance / xp.maximum(landmarks.distances, 1e-6)
    alike = (
        (along / xp.maximum(distance, 1e-6) > gates.cos_max_view_angle)
        & (ratio < gates.max_scale_change)
        & (ratio > 1 / gates.max_scale_change)
    ) | xp.isnan(landmarks.distances)
    inside = (u >= 0) & (u <= camera.width - 1) & (v >= 0) & (v <= camera.height - 1)
    in_front = in_camera[:, 2] > MIN_DEPTH
    return xp.where(xp.isfinite(uv), uv, 0.0), landmarks.mask & in_front & inside & alike
