"""The relocalizer: one map, one image, one pose.

relocalizer = Relocalizer.load("kitchen.safetensors")
result = relocalizer(image, camera)
if result.success:
    print(result.world_from_camera)
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.errors import UserError
from ace_jax.features import registry
from ace_jax.features.base import FeatureExtractor, Features
from ace_jax.features.selection import by_reliability
from ace_jax.geometry import rigid, robust_loss
from ace_jax.geometry.absolute_pose import estimate_absolute_pose
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.pose_refinement import Observations, refine_pose
from ace_jax.geometry.pose_result import PoseResult
from ace_jax.localization.landmark_search import Landmarks, first_rows, search, visible
from ace_jax.localization.scene_map import SceneMap, load_map
from ace_jax.models.landmark_attention import EMPTY
from ace_jax.models.shared_transformer import SharedTransformer, load_transformer

_GUIDED_RADIUS = 8.0  # pixels at 640 columns: what the first pose may be off by
_GUIDED_SIGMA = 1.5  # pixels at 640 columns
_MIN_GUIDED = 30  # matches without which a pose is not touched


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a query is answered.

    Attributes:
        max_queries: the most reliable features that are asked about (of equally reliable ones an
            even choice over the image); all of them if these fail.
        keep_share: share of the answers, the most certain, that vote.
        quantile_ratio: if set, instead: answers with s < ratio x the 10 % quantile of s vote
            (ACE-G takes 2).
        threshold: largest reprojection error of an inlier, pixels at 640 columns.
        min_inliers: fewer is a failure.
        guided_rounds: refinements of the pose by guided search, for maps of landmarks; 0 for none.
        guided_landmarks: landmarks in view that a refinement uses at most.
        guided_similarity: least similarity of a landmark and a feature in it.
        use_depth: let measured depth of the query, where given, take part in the refinement.
        seed: of the sampling; the same seed gives the same pose.
    """

    max_queries: int = 1024
    keep_share: float = 0.6
    quantile_ratio: float | None = None
    threshold: float = 10.0
    min_inliers: int = 20
    guided_rounds: int = 1
    guided_landmarks: int = 1024
    guided_similarity: float = 0.8
    use_depth: bool = True
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Localization:
    """The answer to one query.

    Attributes:
        success: whether a pose was found; without it the pose is the identity.
        world_from_camera: (4, 4) float64.
        num_inliers: correspondences that support the pose.
        covariance: (6, 6) of the left tangent (translation, rotation) of camera_from_world.
        uv: (N, 2) pixels of the correspondences.
        xyz: (N, 3) their scene coordinates, metres.
        scale: (N,) predicted standard deviation, metres.
        voted: (N,) bool, whether it passed the uncertainty filter.
        inliers: (N,) bool.
        ms: milliseconds by stage: features, head, solver.
        scene: name of the map that answered.
    """

    success: bool
    world_from_camera: np.ndarray
    num_inliers: int
    covariance: np.ndarray
    uv: np.ndarray
    xyz: np.ndarray
    scale: np.ndarray
    voted: np.ndarray
    inliers: np.ndarray
    ms: dict[str, float]
    scene: str


class Relocalizer:
    """Answers queries with one map.

    Args:
        scene_map: the map.
        extractor: its features; the map refuses others.
        settings: how to answer.
        name: of the scene, for several maps at once.
        transformer: the shared head, for a map that is a code.
    """

    def __init__(
        self,
        scene_map: SceneMap,
        extractor: FeatureExtractor,
        settings: Settings | None = None,
        name: str = "",
        transformer: SharedTransformer | None = None,
    ):
        scene_map.require_features(extractor)
        self.map, self.extractor = scene_map, extractor
        self.settings = settings or default_settings(scene_map)
        self.name = name or str(scene_map.info.get("sequence", ""))
        self._head = scene_map.create_head()
        variables = dict(scene_map.variables)
        if "params" not in variables:
            if transformer is None or transformer.checksum != scene_map.head_checksum:
                raise UserError(
                    "this map is a code for a transformer with other weights; pass --weights_dir "
                    "with those that it was mapped with"
                )
            variables["params"] = transformer.params
        self._variables = jax.tree.map(jnp.asarray, variables)
        self._code = None if scene_map.code is None else jnp.asarray(scene_map.code)
        self._landmarks = _landmarks(scene_map)

    @classmethod
    def load(
        cls, path: Path | str, weights_dir: Path | str | None = None, **changes: Any
    ) -> "Relocalizer":
        """The relocalizer of a map file.

        Args:
            path: the map.
            weights_dir: where the feature extractor's weights are, see `features.registry`.
            **changes: of the map's default `Settings`.

        Raises:
            UserError: the map or the weights are missing, damaged, or do not fit each other.
        """
        scene_map = load_map(path)
        options = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in scene_map.feature_options.items()
        }
        extractor = registry.create(scene_map.features, weights_dir=weights_dir, **options)
        settings = dataclasses.replace(default_settings(scene_map), **changes)
        transformer = None
        if scene_map.code is not None:
            weights = scene_map.info.get("transformer", "ace_g")
            transformer = load_transformer(weights, weights_dir)
        return cls(scene_map, extractor, settings, Path(path).stem, transformer)

    def __call__(
        self,
        image: np.ndarray,
        intrinsics: Camera | np.ndarray,
        depth: np.ndarray | None = None,
    ) -> Localization:
        """The pose of an image.

        Args:
            image: (H, W, 3) uint8, undistorted.
            intrinsics: a camera, or its (3, 3) matrix.
            depth: (H, W) metres, registered to the image, 0 where unknown; or None.
        """
        camera = as_camera(intrinsics, image.shape[1], image.shape[0])
        start = time.perf_counter()
        features = jax.block_until_ready(self.extractor.extract(image))
        ms = (time.perf_counter() - start) * 1e3
        result = self.locate(features, camera, depth)
        return dataclasses.replace(result, ms={"features": ms, **result.ms})

    def locate(
        self, features: Features, camera: Camera, depth: np.ndarray | None = None
    ) -> Localization:
        """The pose of an image whose features are known; arguments as for a call."""
        result = self._attempt(features, camera, depth, self.settings.max_queries)
        if not result.success and self.settings.max_queries < features.uv.shape[0]:
            again = self._attempt(features, camera, depth, features.uv.shape[0])
            spent = {stage: again.ms[stage] + result.ms[stage] for stage in again.ms}
            result = dataclasses.replace(again, ms=spent)
        return result

    def _attempt(
        self, features: Features, camera: Camera, depth: np.ndarray | None, queries: int
    ) -> Localization:
        settings = self.settings
        start = time.perf_counter()
        uv, xyz, scale, voted = jax.block_until_ready(
            answer_coordinates(
                self._head,
                self._variables,
                self._code,
                features,
                min(queries, features.uv.shape[0]),
                settings.keep_share,
                settings.quantile_ratio,
            )
        )
        coordinates_at = time.perf_counter()
        known = None
        if depth is not None and settings.use_depth:
            u, v = np.rint(np.asarray(uv)).astype(int).T
            height, width = depth.shape
            known = depth[np.clip(v, 0, height - 1), np.clip(u, 0, width - 1)]
        # A threshold in pixels means another angle on an image of another size.
        threshold = settings.threshold * camera.pixel_scale
        key = jax.random.key(settings.seed)
        pose = solve_pose(uv, xyz, voted, camera, key, known, threshold)
        transform = pose.camera_from_world
        if self._landmarks is not None:
            for _ in range(settings.guided_rounds):
                transform = guided_pose(
                    features,
                    self._landmarks,
                    camera,
                    transform,
                    pose.success,
                    min(settings.guided_landmarks, self._landmarks.points.shape[0]),
                    settings.guided_similarity,
                )
        transform, success, inliers, covariance = jax.device_get(
            (transform, pose.success, pose.inliers, pose.covariance)
        )
        solved_at = time.perf_counter()
        success = bool(success) and int(inliers.sum()) >= settings.min_inliers
        world_from_camera = np.eye(4)
        if success:
            world_from_camera = rigid.invert(transform.astype(np.float64))
        return Localization(
            success=success,
            world_from_camera=world_from_camera,
            num_inliers=int(inliers.sum()),
            covariance=covariance,
            uv=np.asarray(uv),
            xyz=np.asarray(xyz),
            scale=np.asarray(scale),
            voted=np.asarray(voted),
            inliers=inliers,
            ms={
                "head": (coordinates_at - start) * 1e3,
                "solver": (solved_at - coordinates_at) * 1e3,
            },
            scene=self.name,
        )

    def points(self) -> np.ndarray | None:
        """(M, 3) the map's landmarks, world, metres; None if it has none."""
        if self._landmarks is None:
            return None
        filled = np.asarray(self._landmarks.views) > 0
        return np.asarray(self._landmarks.points)[filled]

    def as_function(
        self, width: int, height: int
    ) -> tuple[Callable[..., dict[str, jax.Array]], dict[str, Any]]:
        """The way from features to a pose as one pure function, for export.

        Args:
            width: of the images, pixels.
            height: of the images, pixels.

        Returns:
            `function(arrays, features, intrinsics)` and its `arrays`: the map's. Intrinsics are
            (4,) fx, fy, cx, cy. The result has `camera_from_world` (4, 4), `success`,
            `num_inliers` and `covariance`, as a call's, which it equals.
        """
        settings = self.settings

        def attempt(
            arrays: dict[str, Any], features: Features, camera: Camera, queries: int
        ) -> dict[str, jax.Array]:
            # Barriers keep the stages apart, as separate programs are: sums are not reordered
            # across them, and the sampling sees the same bits.
            uv, xyz, _, voted = jax.lax.optimization_barrier(
                answer_coordinates(
                    self._head,
                    arrays["variables"],
                    arrays["code"],
                    features,
                    min(queries, features.uv.shape[0]),
                    settings.keep_share,
                    settings.quantile_ratio,
                )
            )
            threshold = settings.threshold * camera.pixel_scale
            key = jax.random.key(settings.seed)
            pose = solve_pose(uv, xyz, voted, camera, key, None, threshold)
            inliers = jnp.sum(pose.inliers)
            transform = pose.camera_from_world
            if arrays["landmarks"] is not None:
                landmarks = Landmarks(**arrays["landmarks"])
                for _ in range(settings.guided_rounds):
                    transform = guided_pose(
                        features,
                        landmarks,
                        camera,
                        jax.lax.optimization_barrier(transform),
                        pose.success,
                        min(settings.guided_landmarks, landmarks.points.shape[0]),
                        settings.guided_similarity,
                    )
            return {
                "camera_from_world": transform,
                "success": pose.success & (inliers >= settings.min_inliers),
                "num_inliers": inliers.astype(jnp.int32),
                "covariance": pose.covariance,
            }

        def function(
            arrays: dict[str, Any], features: Features, intrinsics: jax.Array
        ) -> dict[str, jax.Array]:
            camera = Camera(*intrinsics, width, height)
            first = attempt(arrays, features, camera, settings.max_queries)
            count = features.uv.shape[0]
            if settings.max_queries >= count:
                return first
            return jax.lax.cond(
                first["success"],
                lambda: first,
                lambda: attempt(arrays, features, camera, count),
            )

        landmarks = self._landmarks
        arrays = {
            "variables": self._variables,
            "code": self._code,
            "landmarks": None if landmarks is None else vars(landmarks),
        }
        return function, arrays


def default_settings(scene_map: SceneMap) -> Settings:
    """What suits the map's kind of head."""
    if scene_map.head == "map_code_transformer":
        return Settings(max_queries=1 << 20, quantile_ratio=2.0)
    if scene_map.head != "landmark_attention" or scene_map.features.endswith("dense"):
        # One answer per cell: coarse positions, many of them poor, and no keypoints to search for.
        return Settings(guided_rounds=0, keep_share=0.3)
    config = scene_map.info.get("landmark_options", {})
    similarity = config.get("min_similarity", Settings.guided_similarity)
    # On redkitchen 0-699 the right map has 62 inliers and more, maps of other places 27 at most.
    return Settings(max_queries=512, threshold=4.0, min_inliers=30, guided_similarity=similarity)


def locate_among(
    relocalizers: Sequence[Relocalizer],
    image: np.ndarray,
    intrinsics: Camera | np.ndarray,
    depth: np.ndarray | None = None,
) -> Localization:
    """Which of several scenes an image shows, and from where: the answer with the most inliers.

    Features are extracted once for all maps that share them. Its arguments are those of a
    relocalizer's call.
    """
    camera = as_camera(intrinsics, image.shape[1], image.shape[0])
    extracted: dict[int, tuple[Features, float]] = {}
    answers = []
    for relocalizer in relocalizers:
        kind = id(relocalizer.extractor)
        if kind not in extracted:
            start = time.perf_counter()
            features = jax.block_until_ready(relocalizer.extractor.extract(image))
            extracted[kind] = features, (time.perf_counter() - start) * 1e3
        answers.append(relocalizer.locate(extracted[kind][0], camera, depth))
    best = max(answers, key=lambda answer: (answer.success, answer.num_inliers))
    ms = {stage: sum(answer.ms[stage] for answer in answers) for stage in best.ms}
    return dataclasses.replace(best, ms={"features": sum(t for _, t in extracted.values()), **ms})


def load_maps(
    paths: Sequence[Path | str], weights_dir: Path | str | None = None, **changes: Any
) -> list[Relocalizer]:
    """Relocalizers of several maps; those with the same features share one extractor."""
    loaded: list[Relocalizer] = []
    for path in paths:
        new = Relocalizer.load(path, weights_dir, **changes)
        for other in loaded:
            same = (new.map.features, new.map.feature_options, new.map.feature_checksum)
            if same == (
                other.map.features,
                other.map.feature_options,
                other.map.feature_checksum,
            ):
                new.extractor = other.extractor
                break
        loaded.append(new)
    return loaded


def as_camera(intrinsics: Camera | np.ndarray, width: int, height: int) -> Camera:
    """A camera from itself or from a (3, 3) matrix.

    Raises:
        UserError: the matrix is not one, or the camera is of another image size.
    """
    if not isinstance(intrinsics, Camera):
        matrix = np.asarray(intrinsics, np.float64)
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or matrix[0, 0] <= 0:
            raise UserError(
                "intrinsics must be a Camera or a (3, 3) matrix [fx 0 cx; 0 fy cy; 0 0 1]"
            )
        fx, fy, cx, cy = (float(matrix[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
        return Camera(fx, fy, cx, cy, width, height)
    if (intrinsics.width, intrinsics.height) != (width, height):
        raise UserError(
            f"the image has {width} x {height} pixels, its intrinsics are for "
            f"{intrinsics.width} x {intrinsics.height}"
        )
    return intrinsics


def _landmarks(scene_map: SceneMap) -> Landmarks | None:
    """All landmarks of a map of landmarks, the head's first."""
    if scene_map.head != "landmark_attention":
        return None
    params, extra = scene_map.variables["params"], scene_map.extra
    unknown = np.full(params["points"].shape, np.nan, np.float32)
    parts = [(params["descriptors"], params["points"], extra.get("origins", unknown))]
    views = [params["bias"] > EMPTY / 2]
    if "detail_points" in extra:
        parts.append(tuple(extra[f"detail_{k}"] for k in ("descriptors", "points", "origins")))
        views.append(np.ones(len(extra["detail_points"]), bool))
    descriptors, points, origins = (jnp.concatenate(x) for x in zip(*parts, strict=True))
    return Landmarks(descriptors, points, origins, jnp.concatenate(views).astype(jnp.int32))


@functools.partial(jax.jit, static_argnames=("head", "count", "keep_share", "quantile_ratio"))
def answer_coordinates(
    head: Any,
    variables: dict[str, Any],
    code: jax.Array | None,
    features: Features,
    count: int,
    keep_share: float,
    quantile_ratio: float | None,
) -> tuple[jax.Array, ...]:
    """uv, xyz, scale and who votes, of the `count` most reliable features."""
    descriptors, uv, mask = features.descriptors, features.uv, features.mask
    if count < uv.shape[0]:
        rows = by_reliability(features.scores, uv, mask)[:count]
        descriptors, uv, mask = descriptors[rows], uv[rows], mask[rows]
    inputs = (descriptors,) if code is None else (descriptors, code)
    out = head.apply(variables, *inputs)
    scale = jnp.where(mask & jnp.isfinite(out.scale), out.scale, jnp.inf)
    ordered = jnp.sort(scale)
    present = jnp.maximum(jnp.sum(jnp.isfinite(scale)), 1)
    if quantile_ratio is None:
        last = jnp.ceil(keep_share * present).astype(jnp.int32) - 1
        limit = ordered[jnp.clip(last, 0, count - 1)]
    else:
        limit = quantile_ratio * ordered[(0.1 * (present - 1)).astype(jnp.int32)]
    voted = mask & jnp.isfinite(scale) & (scale <= limit)
    return uv, out.xyz, out.scale, voted


@jax.jit
def solve_pose(
    uv: jax.Array,
    xyz: jax.Array,
    voted: jax.Array,
    camera: Camera,
    key: jax.Array,
    depth: jax.Array | None,
    threshold: float,
) -> PoseResult:
    """The robust pose of correspondences; see `estimate_absolute_pose`."""
    return estimate_absolute_pose(
        uv, xyz, camera, key, mask=voted, depth=depth, threshold=threshold
    )


@functools.partial(jax.jit, static_argnames="count")
def guided_pose(
    features: Features,
    landmarks: Landmarks,
    camera: Camera,
    camera_from_world: jax.Array,
    success: jax.Array,
    count: int,
    min_similarity: float,
) -> jax.Array:
    """The pose refined on all landmarks that it sees; unchanged without enough of them."""
    scale = camera.pixel_scale
    seen, expected = visible(landmarks, camera, camera_from_world)
    rows, meant = first_rows(seen, count)
    sighting = search(
        landmarks.descriptors[rows],
        expected[rows],
        meant,
        features.descriptors,
        features.uv,
        features.mask,
        _GUIDED_RADIUS * scale,
        min_similarity,
    )
    refined = refine_pose(
        camera_from_world,
        Observations(
            landmarks.points[rows].T,
            features.uv[sighting.feature].T,
            sighting.found.astype(jnp.float32),
        ),
        camera,
        pixel_sigma=_GUIDED_SIGMA * scale,
        loss=robust_loss.geman_mcclure,
        num_steps=5,
    )
    good = success & refined.success & (sighting.found.sum() >= _MIN_GUIDED)
    return jnp.where(good, refined.camera_from_world, camera_from_world)
