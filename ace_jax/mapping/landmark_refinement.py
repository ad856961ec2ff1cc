"""Landmarks from posed images: data association image by image, then structure-only refinement.

Growing: landmarks in view are matched with an image's features; features with a known point that
show none become new ones. Refining: a landmark's point moves to fit all images that see it
(weighted Gauss-Newton, poses fixed), and its descriptor becomes the mean of what was seen.
"""

import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.features.base import Features
from ace_jax.geometry import se3
from ace_jax.geometry.camera import MIN_DEPTH, Camera, camera_of
from ace_jax.localization.guided_matching import guided_match_on_device
from ace_jax.localization.landmarks import Landmarks, MatchGates, directions_to, visible
from ace_jax.precision import full_precision

_KERNEL_PX = 2.0  # Geman-McClure scale of reprojection errors, pixels; tuned on redkitchen
_STEPS = 4  # of Gauss-Newton in a round: a point in weak parallax needs several
_MAX_STEP = 0.1  # of its distance that a landmark may move in one step, against divergence
_LOOSE = 0.1  # of its distance: the standard deviation that damps a step
# Landmarks that an image shows at most. Sorting all rows of a building's would take twice the time
# of everything else; what one image sees, in rooms of 262,144 landmarks, is a few thousand.
_IN_VIEW = 1 << 15


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
            points=jnp.zeros((capacity, 3)),
            descriptors=jnp.zeros((capacity, 1, dim)),
            view_directions=jnp.zeros((capacity, 3)),
            distances=jnp.zeros(capacity),
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
    features: Features,
    gates: MatchGates,
) -> jax.Array:
    """(N,) row of the landmark that each feature shows, M for none: scatters drop that."""
    matches = guided_match_on_device(
        landmarks, features, camera_from_world, camera, gates, _IN_VIEW, established_first=True
    )
    return jnp.where(matches < 0, len(landmarks.views), matches)


@full_precision
def grow(
    tracks: Tracks,
    count: jax.Array,
    features: Features,
    points: jax.Array,
    has_point: jax.Array,
    camera: Camera,
    camera_from_world: jax.Array,
    gates: MatchGates,
) -> tuple[Tracks, jax.Array, jax.Array]:
    """Adds one image.

    Args:
        tracks: with room for M landmarks.
        count: () int32 rows in use.
        features: N features of the image.
        points: (N, 3) world coordinates, metres.
        has_point: (N,) bool.
        camera: intrinsics.
        camera_from_world: (4, 4).
        gates: of a match.

    Returns:
        The tracks, the new count, and (N,) int32 the row of the landmark that each feature shows,
        M for none.
    """
    landmarks = tracks.landmarks
    capacity = landmarks.points.shape[0]
    row = _shown(landmarks, camera, camera_from_world, features, gates)
    # Rows beyond the capacity are dropped by the scatters.
    descriptors = landmarks.descriptors.at[row, 0].add(features.descriptors, mode="drop")
    views = landmarks.views.at[row].add(1, mode="drop")
    fresh = features.mask & has_point & (row == capacity)
    slot = jnp.where(fresh, count + jnp.cumsum(fresh) - 1, capacity)
    centre = se3.invert(camera_from_world)[:3, 3]
    directions, distances = directions_to(centre, points)
    grown = Landmarks(
        points=landmarks.points.at[slot].set(points, mode="drop"),
        descriptors=descriptors.at[slot, 0].set(features.descriptors, mode="drop"),
        view_directions=landmarks.view_directions.at[slot].set(directions, mode="drop"),
        distances=landmarks.distances.at[slot].set(distances, mode="drop"),
        views=views.at[slot].set(1, mode="drop"),
    )
    count = jnp.minimum(count + fresh.sum(), capacity)
    return (
        tracks.replace(landmarks=grown),
        count,
        jnp.minimum(jnp.where(fresh, slot, row), capacity),
    )


def _normal_equations(
    points: jax.Array,
    shown: jax.Array,
    uv: jax.Array,
    cameras: jax.Array,
    camera_from_world: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Gauss-Newton's for points (M, 3) alone: J^T W J (M, 3, 3) and J^T W r (M, 3).

    A pixel of a larger image says less: the unit is a pixel at 640 columns.

    Args:
        points: world, metres.
        shown: (I, N) row of the point that each feature shows, M for none.
        uv: (I, N, 2) pixels of the features.
        cameras: (I, 6) intrinsics.
        camera_from_world: (I, 4, 4).
    """
    count = len(points)

    def image(sums: tuple, inputs: tuple[jax.Array, ...]) -> tuple[tuple, None]:
        normal, right = sums
        row, pixels, intrinsics, pose = inputs
        camera = camera_of(intrinsics)
        point = points[row] @ pose[:3, :3].T + pose[:3, 3]  # of a row M nothing is added
        z = jnp.maximum(point[:, 2], MIN_DEPTH)
        x, y = point[:, 0] / z, point[:, 1] / z
        expected = jnp.stack([camera.fx * x + camera.cx, camera.fy * y + camera.cy], axis=1)
        error = pixels - expected
        weight = 1.0 / (1.0 + jnp.sum(error**2, axis=1) / _KERNEL_PX**2) ** 2
        weight = weight / camera.pixel_scale**2
        ju = (camera.fx / z)[:, None] * (pose[0, :3] - x[:, None] * pose[2, :3])
        jv = (camera.fy / z)[:, None] * (pose[1, :3] - y[:, None] * pose[2, :3])
        outer = ju[:, :, None] * ju[:, None, :] + jv[:, :, None] * jv[:, None, :]
        push = ju * error[:, :1] + jv * error[:, 1:]
        normal = normal.at[row].add(weight[:, None, None] * outer, mode="drop")
        return (normal, right.at[row].add(weight[:, None] * push, mode="drop")), None

    zero = jnp.zeros((count, 3, 3)), jnp.zeros((count, 3))
    sums, _ = jax.lax.scan(image, zero, (shown, uv, cameras, camera_from_world))
    return sums


@flax.struct.dataclass
class Found:
    """What images show of M landmarks.

    Attributes:
        descriptors: (M, D) sums of the features that show each.
        chances: (M,) images in whose view each was.
        views: (M,) int32 images that found it.
    """

    descriptors: jax.Array
    chances: jax.Array
    views: jax.Array


def nothing_found(capacity: int, dim: int) -> Found:
    """Before the first image."""
    return Found(jnp.zeros((capacity, dim)), jnp.zeros(capacity), jnp.zeros(capacity, jnp.int32))


@full_precision
def search(
    landmarks: Landmarks,
    found: Found,
    features: Features,
    cameras: jax.Array,
    camera_from_world: jax.Array,
    gates: MatchGates,
    used: jax.Array,
) -> tuple[Found, jax.Array]:
    """Looks for M landmarks in some more images.

    Args:
        landmarks: the landmarks.
        found: in the images before.
        features: of B images, each array with a leading axis B; descriptors of any float type.
        cameras: (B, 6) intrinsics of the images, see `camera_rows`.
        camera_from_world: (B, 4, 4).
        gates: of a match; each image has its own `radius` (B,).
        used: (B,) bool; the other images are padding.

    Returns:
        What is found in all of them, and (B, N) int32 the row of the landmark that each feature
        shows, M for none.
    """

    def match(carry: Found, inputs: tuple[jax.Array, ...]) -> tuple[Found, jax.Array]:
        image, intrinsics, pose, radius, real = inputs
        image = image.replace(
            descriptors=image.descriptors.astype(jnp.float32), mask=image.mask & real
        )
        camera, its_gates = camera_of(intrinsics), gates.replace(radius=radius)
        row = _shown(landmarks, camera, pose, image, its_gates)
        _, seen = visible(landmarks, pose, camera, its_gates)
        carry = Found(
            descriptors=carry.descriptors.at[row].add(image.descriptors, mode="drop"),
            chances=carry.chances + (seen & real),
            views=carry.views.at[row].add(1, mode="drop"),
        )
        return carry, row

    return jax.lax.scan(match, found, (features, cameras, camera_from_world, gates.radius, used))


@full_precision
def refine(
    tracks: Tracks,
    found: Found,
    shown: jax.Array,
    uv: jax.Array,
    cameras: jax.Array,
    camera_from_world: jax.Array,
    known: jax.Array | int = 0,
) -> Tracks:
    """Moves landmarks to where all images see them: one round; do two or three with `search`.

    Args:
        tracks: M landmarks.
        found: of them in I images.
        shown: (I, N) int32 the row of the landmark that each feature shows, M for none.
        uv: (I, N, 2) pixels of the features.
        cameras: (I, 6) intrinsics of the images.
        camera_from_world: (I, 4, 4).
        known: so many first rows are from an earlier map: they keep point, descriptor and views.

    Returns:
        Landmarks with moved points, averaged descriptors and counted views. One that no image
        sees keeps its point and has zero views.
    """
    landmarks = tracks.landmarks
    count = len(landmarks.views)
    old = jnp.arange(count) < known
    away = jnp.nan_to_num(landmarks.distances, nan=1.0)
    # A landmark that all images see from one side hardly moves along the ray.
    damping = 1.0 / jnp.maximum(_LOOSE * away, 1e-6) ** 2

    def step(_: int, points: jax.Array) -> jax.Array:
        information, right = _normal_equations(points, shown, uv, cameras, camera_from_world)
        damped = information + damping[:, None, None] * jnp.eye(3)
        move = jnp.linalg.solve(damped, right[..., None])[..., 0]
        length = jnp.linalg.norm(move, axis=1, keepdims=True)
        move = move * jnp.minimum(1.0, _MAX_STEP * away[:, None] / jnp.maximum(length, 1e-9))
        return jnp.where(old[:, None], points, points + move)

    points = jax.lax.fori_loop(0, _STEPS, step, landmarks.points)
    keep = (old | (found.views == 0))[:, None, None]
    moved = landmarks.with_points(points)
    share = found.views / jnp.maximum(found.chances, 1.0)
    return Tracks(
        landmarks=moved.replace(
            descriptors=jnp.where(keep, landmarks.descriptors, found.descriptors[:, None]),
            views=jnp.where(old, landmarks.views, found.views),
        ),
        repeatability=jnp.where(old, tracks.repeatability, share),
        chances=found.chances,
        recent=found.views.astype(jnp.float32),
    )
