"""Landmarks from posed images: grown image by image, then refined against every image.

Growing: landmarks in view are searched for among an image's features; features with a known point
that show none become new ones. Refining: a landmark's point moves to fit all images that see it
(weighted Gauss-Newton, poses fixed), and its descriptor becomes the mean of what was seen.
"""

import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.geometry import se3
from ace_jax.geometry.camera import MIN_DEPTH, Camera, camera_of
from ace_jax.localization.landmark_search import Landmarks, first_rows, search, visible
from ace_jax.precision import full_precision

_KERNEL_PX = 2.0  # Geman-McClure scale of reprojection errors, pixels
_MAX_STEP = 0.1  # metres a landmark may move at once


@flax.struct.dataclass
class Tracks:
    """Landmarks with their history, M rows.

    Attributes:
        landmarks: the landmarks; while growing, their descriptors are sums over views.
        repeatability: (M,) share of the images in view that found each, when it was mapped.
        chances: (M,) images of the present run in whose view each was.
        recent: (M,) images of the present run that found it.
    """

    landmarks: Landmarks
    repeatability: jax.Array
    chances: jax.Array
    recent: jax.Array


def empty(capacity: int, dim: int) -> Tracks:
    """Room for so many landmarks."""
    return Tracks(
        landmarks=Landmarks(
            descriptors=jnp.zeros((capacity, dim)),
            points=jnp.zeros((capacity, 3)),
            origins=jnp.zeros((capacity, 3)),
            views=jnp.zeros(capacity, jnp.int32),
        ),
        repeatability=jnp.zeros(capacity),
        chances=jnp.zeros(capacity),
        recent=jnp.zeros(capacity),
    )


def _shown(
    landmarks: Landmarks,
    camera: Camera,
    camera_from_world: jax.Array,
    features: jax.Array,
    uv: jax.Array,
    mask: jax.Array,
    radius: jax.Array | float,
    min_similarity: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(N,) row of the landmark that each feature shows, M for none; (M,) in view; (M, 2) where."""
    seen, expected = visible(landmarks, camera, camera_from_world)
    rows, meant = first_rows(seen, len(seen))
    sighting = search(
        landmarks.descriptors,
        expected[rows],
        meant,
        features,
        uv,
        mask,
        radius,
        min_similarity,
        rows=rows,
        # Else what one image saw takes features away from the landmark that it should have been.
        established=landmarks.views[rows] > 1,
    )
    # Of an image's few features instead of the many landmarks in view, all else is cheap.
    shown = jnp.full(len(uv), len(seen), jnp.int32)
    found = jnp.where(sighting.found, sighting.feature, len(uv))
    return shown.at[found].set(rows.astype(jnp.int32), mode="drop"), seen, expected


@full_precision
def grow(
    tracks: Tracks,
    count: jax.Array,
    features: jax.Array,
    uv: jax.Array,
    mask: jax.Array,
    points: jax.Array,
    has_point: jax.Array,
    camera: Camera,
    camera_from_world: jax.Array,
    radius: float,
    min_similarity: float,
) -> tuple[Tracks, jax.Array, jax.Array]:
    """Adds one image.

    Args:
        tracks: with room.
        count: () int32 rows in use.
        features: (N, D) unit descriptors of the image.
        uv: (N, 2) pixels.
        mask: (N,) bool.
        points: (N, 3) world coordinates, metres.
        has_point: (N,) bool.
        camera: intrinsics.
        camera_from_world: (4, 4).
        radius: search radius, pixels.
        min_similarity: of a match.

    Returns:
        The tracks, the new count, and (N,) int32 the row of the landmark that each feature shows,
        M for none.
    """
    landmarks = tracks.landmarks
    capacity = landmarks.points.shape[0]
    row, _, _ = _shown(
        landmarks, camera, camera_from_world, features, uv, mask, radius, min_similarity
    )
    # Rows beyond the capacity are dropped by the scatters.
    descriptors = landmarks.descriptors.at[row].add(features, mode="drop")
    views = landmarks.views.at[row].add(1, mode="drop")
    fresh = mask & has_point & (row == capacity)
    slot = jnp.where(fresh, count + jnp.cumsum(fresh) - 1, capacity)
    centre = se3.inverse(camera_from_world)[:3, 3]
    grown = Landmarks(
        descriptors=descriptors.at[slot].set(features, mode="drop"),
        points=landmarks.points.at[slot].set(points, mode="drop"),
        origins=landmarks.origins.at[slot].set(centre, mode="drop"),
        views=views.at[slot].set(1, mode="drop"),
    )
    count = jnp.minimum(count + fresh.sum(), capacity)
    return (
        tracks.replace(landmarks=grown),
        count,
        jnp.minimum(jnp.where(fresh, slot, row), capacity),
    )


@full_precision
def refine(
    tracks: Tracks,
    features: jax.Array,
    uv: jax.Array,
    mask: jax.Array,
    cameras: jax.Array,
    camera_from_world: jax.Array,
    radius: jax.Array,
    min_similarity: float,
    known: jax.Array | int = 0,
) -> tuple[Tracks, jax.Array]:
    """One round over all images; call it two or three times.

    Args:
        tracks: M landmarks.
        features: (I, N, D) descriptors of the images, any float type.
        uv: (I, N, 2) pixels.
        mask: (I, N) bool.
        cameras: (I, 6) intrinsics of the images, see `camera_rows`.
        camera_from_world: (I, 4, 4).
        radius: (I,) search radius, pixels.
        min_similarity: of a match.
        known: so many first rows are from an earlier map: they keep point, descriptor and views.

    Returns:
        Landmarks with moved points, averaged descriptors and counted views. One that no image
        sees keeps its point and has zero views. And (I, N) int32, the row of the landmark that
        each feature shows, M for none.
    """
    landmarks = tracks.landmarks
    count, dim = landmarks.descriptors.shape

    def image(carry: tuple, inputs: tuple[jax.Array, ...]) -> tuple[tuple, jax.Array]:
        normal, right, total, chances, found_in = carry
        descriptors, pixels, used, intrinsics, pose, reach = inputs
        camera = camera_of(intrinsics)
        descriptors = descriptors.astype(jnp.float32)
        row, seen, expected = _shown(
            landmarks, camera, pose, descriptors, pixels, used, reach, min_similarity
        )
        error = pixels - expected[row]  # of a row M, which is none, nothing is added below
        squared = jnp.sum(error**2, axis=1)
        weight = 1.0 / (1.0 + squared / _KERNEL_PX**2) ** 2
        point = landmarks.points[row] @ pose[:3, :3].T + pose[:3, 3]
        z = jnp.maximum(point[:, 2], MIN_DEPTH)
        x, y = point[:, 0] / z, point[:, 1] / z
        ju = (camera.fx / z)[:, None] * (pose[0, :3] - x[:, None] * pose[2, :3])
        jv = (camera.fy / z)[:, None] * (pose[1, :3] - y[:, None] * pose[2, :3])
        outer = ju[:, :, None] * ju[:, None, :] + jv[:, :, None] * jv[:, None, :]
        normal = normal.at[row].add(weight[:, None, None] * outer, mode="drop")
        push = ju * error[:, :1] + jv * error[:, 1:]
        right = right.at[row].add(weight[:, None] * push, mode="drop")
        total = total.at[row].add(descriptors, mode="drop")
        found_in = found_in.at[row].add(1, mode="drop")
        return (normal, right, total, chances + seen, found_in), row

    start = (
        jnp.zeros((count, 3, 3)),
        jnp.zeros((count, 3)),
        jnp.zeros((count, dim)),
        jnp.zeros(count),
        jnp.zeros(count, jnp.int32),
    )
    inputs = (features, uv, mask, cameras, camera_from_world, radius)
    (normal, right, total, chances, found_in), shown = jax.lax.scan(image, start, inputs)
    # A landmark that all images see from one side hardly moves along the ray.
    trace = jnp.trace(normal, axis1=1, axis2=2)
    damping = (0.1 + 1e-3 * trace)[:, None, None] * jnp.eye(3)
    step = jnp.linalg.solve(normal + damping, right[..., None])[..., 0]
    length = jnp.linalg.norm(step, axis=1, keepdims=True)
    step = step * jnp.minimum(1.0, _MAX_STEP / jnp.maximum(length, 1e-9))
    old = jnp.arange(count) < known
    keep = (old | (found_in == 0))[:, None]
    refined = Tracks(
        landmarks=Landmarks(
            descriptors=jnp.where(keep, landmarks.descriptors, total),
            points=landmarks.points + jnp.where(old[:, None], 0.0, step),
            origins=landmarks.origins,
            views=jnp.where(old, landmarks.views, found_in),
        ),
        repeatability=jnp.where(old, tracks.repeatability, found_in / jnp.maximum(chances, 1.0)),
        chances=chances,
        recent=found_in.astype(jnp.float32),
    )
    return refined, shown
