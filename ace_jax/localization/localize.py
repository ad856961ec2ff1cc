"""From features to a pose in a scene map: pure functions that compile, batch and export.

Features -> scene coordinates with their uncertainty (the map's head) -> the most certain vote in
RANSAC-PnP -> refinement by guided matching with all landmarks in view.

A camera is a row (6,) of `camera.camera_rows`, so that images of all sizes share the programs.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from ace_jax.features.base import Features
from ace_jax.features.selection import by_reliability
from ace_jax.geometry import robust_loss
from ace_jax.geometry.absolute_pose import estimate_absolute_pose
from ace_jax.geometry.batch import over_images, where_asked
from ace_jax.geometry.camera import camera_of
from ace_jax.geometry.pose_refinement import refine_pose
from ace_jax.geometry.reprojection import DEFAULT_NOISE, NoiseModel, Observations, residuals_of
from ace_jax.localization.guided_matching import guided_match_on_device
from ace_jax.localization.landmarks import Landmarks, MatchGates
from ace_jax.localization.places import Places, landmarks_near, nearest_places, rows_of
from ace_jax.localization.settings import Settings
from ace_jax.programs import program

# Guided matching: the search radius in pixels at 640 columns, and the scales of the loss (Cauchy's,
# as PoseLib's) on a landmark's error: wide first, for the first pose decides which matches pull.
_GUIDED_RADIUS, _GUIDED_SIGMAS = 8.0, (5.0, 1.25)
# A pose from few features may be further off: a pass before, with one of so many landmarks.
_WIDE_RADIUS, _WIDE_SIGMAS, _WIDE_SHARE = 16.0, (5.0,), 4
_GUIDED_STEPS = 5  # of Gauss-Newton on each scale; it has converged by then
_GUIDED_INLIER = 2.0  # pixels at 640 columns, of a match that confirms the refined pose


@flax.struct.dataclass
class MapArrays:
    """What a map computes with.

    Attributes:
        variables: of the head.
        code: (M, C) the map code, or None.
        landmarks: for guided matching, or None.
        places: of a large map: a query attends to the landmarks of those that look like it.
    """

    variables: dict[str, Any]
    code: jax.Array | None
    landmarks: Landmarks | None
    places: Places | None = None


@flax.struct.dataclass
class Correspondences:
    """Scene coordinates of N features, as the map predicts them.

    Attributes:
        uv: (N, 2) pixels.
        xyz: (N, 3) scene coordinates, world, metres.
        scale: (N,) predicted standard deviation, metres.
        voted: (N,) bool, whether it is among the most certain.
        depth: (N,) measured z-depth, metres, 0 where unknown.
        near: (K,) int32 rows of the landmarks of the places that look like the image, M beyond
            their number; None: all.
    """

    uv: jax.Array
    xyz: jax.Array
    scale: jax.Array
    voted: jax.Array
    depth: jax.Array
    near: jax.Array | None = None


@flax.struct.dataclass
class QueryPose:
    """The pose of a query.

    Attributes:
        camera_from_world: (4, 4).
        success: () bool.
        num_inliers: () int32.
        covariance: (6, 6) of the left tangent (translation, rotation) of camera_from_world.
    """

    camera_from_world: jax.Array
    success: jax.Array
    num_inliers: jax.Array
    covariance: jax.Array


def apart(_: str, value: Any) -> Any:
    """Keeps the stages apart within one program, as separate programs are.

    Sums are not reordered across them, so that the sampling sees the same bits.
    """
    return jax.lax.optimization_barrier(value)


def localize(
    head: Any, settings: Settings, known: MapArrays, features: Features, camera: jax.Array
) -> QueryPose:
    """The pose of an image: from its most reliable features, and if these fail from all of them.

    Args:
        head: the map's head, a Flax module.
        settings: how to answer.
        known: the map's arrays.
        features: of the image; their depth, where it is known, takes part if `settings.use_depth`.
        camera: (6,) intrinsics.
    """
    counts = queries_of(settings, known, features.uv.shape[0])

    def answer(number: int) -> QueryPose:
        pose, _, _ = attempt(head, settings, known, features, camera, counts[number])
        if number + 1 == len(counts):
            return pose
        return jax.lax.cond(pose.success, lambda: pose, lambda: answer(number + 1))

    return answer(0)


def queries_of(settings: Settings, known: MapArrays, count: int) -> list[int]:
    """How many of an image's features are asked about, attempt by attempt until one succeeds."""
    few = [settings.first_queries] if _is_guided(settings, known) else []
    return sorted({min(n, count) for n in (*few, settings.max_queries, count)})


def _is_guided(settings: Settings, known: MapArrays) -> bool:
    return known.landmarks is not None and settings.guided_rounds > 0


@program(static_argnums=(0, 3))
def scene_coordinates(
    head: Any, settings: Settings, known: MapArrays, queries: int, features: Features
) -> Correspondences:
    """Scene coordinates of the `queries` most reliable features.

    Of `settings.first_queries` or fewer, of features strong and weak alike: the strongest ones
    alone may lie on one thing that was moved since.
    """
    descriptors, uv, mask, depth = (
        features.descriptors,
        features.uv,
        features.mask,
        features.depth,
    )
    count = uv.shape[0]
    if queries < count:
        rows = by_reliability(features.scores, uv, mask)
        if queries <= settings.first_queries:
            step = jnp.maximum(mask.sum() / queries, 1.0)
            rows = rows[(step * jnp.arange(queries)).astype(jnp.int32)]
        rows = rows[:queries]
        descriptors, uv, mask, depth = descriptors[rows], uv[rows], mask[rows], depth[rows]
    inputs = (descriptors,) if known.code is None else (descriptors, known.code)
    variables, near = known.variables, None
    if known.places is not None:
        found = nearest_places(known.places, features.descriptors, features.mask)
        # The first attempt is most of a query's time, and others follow.
        share = 2 if queries <= settings.first_queries < count else 1
        rows = min(max(settings.head_rows // share, 1), head.landmarks)
        total = len(known.landmarks.points)
        near = landmarks_near(known.places, found, rows, head.landmarks, total)
        head, variables = head.clone(landmarks=rows), rows_of(variables, near[:rows])
    out = head.apply(variables, *inputs)
    scale = jnp.where(mask & jnp.isfinite(out.scale), out.scale, jnp.inf)
    ordered = jnp.sort(scale)
    present = jnp.maximum(jnp.sum(jnp.isfinite(scale)), 1)
    if settings.quantile_ratio is None:
        last = jnp.ceil(settings.keep_share * present).astype(jnp.int32) - 1
        limit = ordered[jnp.clip(last, 0, queries - 1)]
    else:
        limit = settings.quantile_ratio * ordered[(0.1 * (present - 1)).astype(jnp.int32)]
    voted = mask & jnp.isfinite(scale) & (scale <= limit)
    return Correspondences(uv, out.xyz, out.scale, voted, depth, near)


@program
def robust_pose(
    settings: Settings, guided: bool, found: Correspondences, camera: jax.Array
) -> tuple[QueryPose, jax.Array]:
    """The pose that most correspondences agree with, and its inliers (N,).

    They are at least `settings.min_inliers`; if guided matching follows, which confirms a pose, as
    few as it needs are enough.
    """
    camera = camera_of(camera)
    # The certain ones are drawn more often; a third of the samples is enough then (redkitchen).
    largest = jnp.max(jnp.where(found.voted, found.scale, 0.0))
    pose = estimate_absolute_pose(
        found.uv,
        found.xyz,
        camera,
        jax.random.key(settings.seed),
        mask=found.voted,
        weights=1.0 / (1.0 + (found.scale / jnp.maximum(largest, 1e-9)) ** 2),
        depth=found.depth if settings.use_depth else None,
        # A threshold in pixels means another angle on an image of another size.
        threshold=settings.threshold * camera.pixel_scale,
    )
    num_inliers = jnp.sum(pose.inliers).astype(jnp.int32)
    fewer = jnp.minimum(settings.min_inliers, settings.min_guided)
    least = jnp.where(guided, fewer, settings.min_inliers)
    return (
        QueryPose(
            camera_from_world=pose.camera_from_world,
            success=pose.success & (num_inliers >= least),
            num_inliers=num_inliers,
            covariance=pose.covariance,
        ),
        pose.inliers,
    )


@program(static_argnums=1)
def guided_pose(
    landmarks: Landmarks,
    most: int,
    settings: Settings,
    few: bool,
    features: Features,
    camera: jax.Array,
    pose: QueryPose,
    near: jax.Array | None = None,
) -> QueryPose:
    """The pose refined on the first `most` landmarks in view, if enough of them are found.

    If `near` (K,) is given, they are among those rows: of other places many would be in view too,
    but for the walls between; and the cost does not grow with the map.

    It is a success if it was one with `settings.min_inliers`, or if `settings.min_guided` landmarks
    confirm it: found near their projections, where other places of the map do not compete, they
    say more than as many answers of the head. A pose from few features needs `settings.sure_guided`
    in any case.
    """
    camera, few = camera_of(camera), jnp.asarray(few)
    scale = camera.pixel_scale
    pixels, start = features.uv.T, pose.camera_from_world

    def matched(
        pose: jax.Array, radius: float, most: int, sigmas: Sequence[float]
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        gates = MatchGates(
            radius * scale,
            settings.guided_similarity,
            max_scale_change=settings.guided_scale_change,
        )
        matches = guided_match_on_device(landmarks, features, pose, camera, gates, most, among=near)
        found, points = matches >= 0, landmarks.points[matches].T
        observations = Observations(points, pixels, found.astype(jnp.float32))

        def refined(pose: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
            result = refine_pose(
                pose,
                observations,
                camera,
                NoiseModel(sigma, DEFAULT_NOISE.inverse_depth_sigma),
                loss=robust_loss.cauchy,
                num_steps=_GUIDED_STEPS,
            )
            return result.camera_from_world, result.success

        # A loop over the scales, so that the refinement is compiled once.
        pose, successes = jax.lax.scan(refined, pose, jnp.array(sigmas) * scale)
        return pose, successes[-1], found, points

    now = jax.lax.cond(
        few,
        lambda: matched(start, _WIDE_RADIUS, most // _WIDE_SHARE, _WIDE_SIGMAS)[0],
        lambda: start,
    )
    now, success, found, points = matched(now, _GUIDED_RADIUS, most, _GUIDED_SIGMAS)
    least = jnp.where(few, settings.sure_guided, settings.min_guided)
    found = found & (success & (found.sum() >= least))
    now = jnp.where(pose.success & found.any(), now, start)
    residuals = residuals_of(now, points, pixels, None, camera, NoiseModel(scale, 1.0))
    confirmed = jnp.sum(found & residuals.in_front & (residuals.pixel < _GUIDED_INLIER**2))
    enough = (~few & (pose.num_inliers >= settings.min_inliers)) | (confirmed >= least)
    return pose.replace(camera_from_world=now, success=pose.success & enough)


@dataclasses.dataclass(frozen=True)
class Steps:
    """The compiled steps of `attempt`."""

    scene_coordinates: Callable[..., Correspondences]
    robust_pose: Callable[..., tuple[QueryPose, jax.Array]]
    guided_pose: Callable[..., QueryPose]


ONE = Steps(scene_coordinates, robust_pose, guided_pose)


def steps_of_many(asked: jax.Array) -> Steps:
    """The steps for a batch of images, those that are asked about (B,); the others are padding.

    Features, cameras, correspondences and poses have a leading axis B.
    """
    return Steps(
        functools.partial(_scene_coordinates_of_many, asked),
        functools.partial(_robust_poses, asked),
        functools.partial(_guided_poses, asked),
    )


def _of_many(
    step: Callable[..., Any], shared: int, static: Sequence[int] = ()
) -> Callable[..., Any]:
    """A step compiled for a batch: `asked` (B,), then so many arguments shared by all images."""

    def batched(asked: jax.Array, *args: Any) -> Any:
        of_one = functools.partial(where_asked, functools.partial(step, *args[:shared]))
        return over_images(of_one)(asked, *args[shared:])

    return program(batched, static_argnums=tuple(1 + i for i in static))


_scene_coordinates_of_many = _of_many(scene_coordinates, 4, static=(0, 3))
_robust_poses = _of_many(robust_pose, 2)
_guided_poses = _of_many(guided_pose, 4, static=(1,))


def attempt(
    head: Any,
    settings: Settings,
    known: MapArrays,
    features: Features,
    camera: jax.Array,
    queries: int,
    stage: Callable[[str, Any], Any] = apart,
    steps: Steps = ONE,
) -> tuple[QueryPose, jax.Array, Correspondences]:
    """The pose from the `queries` most reliable features.

    Args:
        head: see `localize`, as for the others.
        settings: how to answer.
        known: the map's arrays.
        features: of the image, or of the images of a batch.
        camera: (6,) intrinsics, or (B, 6).
        queries: how many features are asked about, see `queries_of`; static.
        stage: given the name ("head", "solver") and the result of each step; returns the result.
        steps: for one image, or for a batch (`steps_of_many`).

    Returns:
        The pose, its inliers (N,), and the correspondences that it comes from; or those of the
        batch.
    """
    count = features.uv.shape[-2]
    queries = min(queries, count)
    found = stage("head", steps.scene_coordinates(head, settings, known, queries, features))
    # Another program than the refinement's, which depends on the map's size: maps share this one.
    guided, of_pose = _is_guided(settings, known), settings.of_the_pose()
    pose, inliers = stage("solver", steps.robust_pose(of_pose, guided, found, camera))
    few = queries <= settings.first_queries and queries < count  # others follow, if need be
    for _ in range(settings.guided_rounds if guided else 0):
        pose = stage(
            "solver",
            steps.guided_pose(
                known.landmarks,
                settings.guided_landmarks,
                of_pose,
                few,
                features,
                camera,
                pose,
                found.near,
            ),
        )
    return pose, inliers, found
