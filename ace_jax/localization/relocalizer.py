"""The relocalizer: the camera pose of an image in a map.

    relocalizer = Relocalizer.load("kitchen.safetensors")
    result = relocalizer(image, camera)
    if result.success:
        print(result.world_from_camera)

Many images are asked about in batches: `relocalizer.locate_many(images, cameras)`.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from ace_jax.data.inputs import ImageLike, Intrinsics, as_camera, as_depth, as_image
from ace_jax.errors import UserError
from ace_jax.features import registry
from ace_jax.features.base import FeatureExtractor, Features
from ace_jax.features.stored import HLOC
from ace_jax.geometry import rigid
from ace_jax.geometry.camera import Camera, camera_rows
from ace_jax.localization.localize import (
    ONE,
    Correspondences,
    MapArrays,
    QueryPose,
    attempt,
    localize,
    queries_of,
    steps_of_many,
)
from ace_jax.localization.places import places_of
from ace_jax.localization.scene_map import SceneMap, load_map
from ace_jax.localization.settings import Settings, default_settings
from ace_jax.localization.stored_landmarks import landmarks_of
from ace_jax.weights.shared_transformer import SharedTransformer, load_transformer

BATCH = 16  # images that one program answers; more would not be faster on a CPU


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
        ms: milliseconds by stage: features, head, solver; of a batch, an image's share.
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
        landmarks = landmarks_of(scene_map)
        places = None if landmarks is None else places_of(scene_map.extra, len(landmarks.points))
        self._known = jax.tree.map(
            jnp.asarray, MapArrays(variables, scene_map.code, landmarks, places)
        )

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
        return cls.of(load_map(path), weights_dir, name=Path(path).stem, **changes)

    @classmethod
    def of(
        cls,
        scene_map: SceneMap,
        weights_dir: Path | str | None = None,
        extractor: FeatureExtractor | None = None,
        name: str = "",
        **changes: Any,
    ) -> "Relocalizer":
        """The relocalizer of a map, with the networks that belong to it; see `load`.

        Args:
            scene_map: the map.
            weights_dir: where their weights are.
            extractor: the map's features, if they are there already.
            name: of the scene.
            **changes: of the map's default `Settings`.
        """
        if extractor is None and scene_map.features == HLOC:
            raise UserError(
                "this map is of hloc's features, which queries bring along: pass --hloc_features "
                "FILE (in Python: extractor=)"
            )
        if extractor is None:
            options = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in scene_map.feature_options.items()
            }
            extractor = registry.create(scene_map.features, weights_dir=weights_dir, **options)
        transformer = None
        if scene_map.code is not None:
            weights = scene_map.info.get("transformer", "ace_g")
            transformer = load_transformer(weights, weights_dir)
        settings = default_settings(scene_map).replace(**changes)
        return cls(scene_map, extractor, settings, name, transformer)

    def __call__(
        self,
        image: ImageLike,
        intrinsics: Intrinsics,
        depth: ArrayLike | None = None,
    ) -> Localization:
        """The pose of an image.

        Args:
            image: (H, W, 3) uint8, undistorted; or a file, grey, floats, see `as_image`.
            intrinsics: a camera, its (3, 3) matrix or [fx, fy, cx, cy].
            depth: (H, W) metres, registered to the image, 0 where unknown; or None.

        Raises:
            UserError: the inputs are none of these.
        """
        image = as_image(image)
        camera = as_camera(intrinsics, image.shape[1], image.shape[0])
        known = None if depth is None else as_depth(depth, image.shape[:2])
        features, ms = timed_features(self.extractor, image)
        result = self.locate(features, camera, known)
        return dataclasses.replace(result, ms={"features": ms, **result.ms})

    def locate(
        self, features: Features, camera: Camera, depth: np.ndarray | None = None
    ) -> Localization:
        """The pose of an image whose features are known; arguments as for a call."""
        features = _with_depth(features, depth)
        times = _Times()
        row, count = camera_rows([camera])[0].astype(np.float32), features.uv.shape[0]
        settings = self._settings(depth is not None)
        # As `localize`, but a further attempt is compiled only when one is needed.
        for queries in queries_of(settings, self._known, count):
            answer = attempt(self._head, settings, self._known, features, row, queries, times, ONE)
            pose, inliers, found = jax.device_get(answer)
            if pose.success:
                break
        return self._localization(pose, inliers, found, times.ms)

    def locate_many(
        self,
        images: Sequence[ImageLike],
        intrinsics: Sequence[Intrinsics],
        depths: Sequence[ArrayLike | None] | None = None,
    ) -> list[Localization]:
        """The poses of images, as calls one by one would find them, from one compiled program.

        Args:
            images: K images as for a call, of any sizes.
            intrinsics: of each image, as for a call.
            depths: of each image (H, W) metres as for a call, or None.

        Raises:
            UserError: intrinsics do not fit an image, or are fewer or more than the images.
        """
        pixels = [as_image(image, f"image {i}") for i, image in enumerate(images)]
        cameras = cameras_of(pixels, intrinsics)
        extracted = [timed_features(self.extractor, image) for image in pixels]
        known = depths and [
            None if depth is None else as_depth(depth, image.shape[:2])
            for depth, image in zip(depths, pixels, strict=True)
        ]
        found = self.locate_features([features for features, _ in extracted], cameras, known)
        return [
            dataclasses.replace(answer, ms={"features": ms, **answer.ms})
            for answer, (_, ms) in zip(found, extracted, strict=True)
        ]

    def locate_features(
        self,
        features: Sequence[Features],
        cameras: Sequence[Camera],
        depths: Sequence[np.ndarray | None] | None = None,
    ) -> list[Localization]:
        """As `locate_many`, of images whose features are known."""
        depths = [None] * len(features) if depths is None else depths
        use_depth = any(depth is not None for depth in depths)
        rows = camera_rows(cameras).astype(np.float32)
        # Dense features are as many as the image is large; batches are of equal ones.
        counts = [f.uv.shape[0] for f in features]
        answers: dict[int, Localization] = {}
        for count in dict.fromkeys(counts):
            alike = [i for i, n in enumerate(counts) if n == count]
            for start in range(0, len(alike), BATCH):
                chosen = alike[start : start + BATCH]
                padded = (chosen + chosen[:1] * BATCH)[:BATCH]
                batch = jax.tree.map(
                    lambda *arrays: jnp.stack(arrays),
                    *(_with_depth(features[i], depths[i]) for i in padded),
                )
                found = self._batch(batch, rows[padded], len(chosen), use_depth)
                answers |= dict(zip(chosen, found, strict=True))
        return [answers[i] for i in range(len(features))]

    def _batch(
        self, features: Features, cameras: np.ndarray, used: int, use_depth: bool
    ) -> list[Localization]:
        """Answers to the first `used` images of a batch, see `locate`."""
        times, settings = _Times(), self._settings(use_depth)
        count = features.uv.shape[1]
        answers: dict[int, tuple] = {}
        asked = np.arange(BATCH) < used
        for queries in queries_of(settings, self._known, count):
            answer = jax.device_get(
                attempt(
                    self._head,
                    settings,
                    self._known,
                    features,
                    cameras,
                    queries,
                    times,
                    steps_of_many(asked),
                )
            )
            for i in np.flatnonzero(asked).tolist():
                answers[i] = jax.tree.map(lambda x, i=i: x[i], answer)
            asked = asked & ~answer[0].success
            if not asked.any():
                break
        ms = {stage: total / used for stage, total in times.ms.items()}
        return [self._localization(*answers[i], ms) for i in range(used)]

    def _settings(self, has_depth: bool) -> Settings:
        return self.settings.replace(use_depth=self.settings.use_depth and has_depth)

    def _localization(
        self,
        pose: QueryPose,
        inliers: np.ndarray,
        found: Correspondences,
        ms: dict[str, float],
    ) -> Localization:
        world_from_camera = np.eye(4)
        if pose.success:
            world_from_camera = rigid.invert(pose.camera_from_world.astype(np.float64))
        return Localization(
            success=bool(pose.success),
            world_from_camera=world_from_camera,
            num_inliers=int(pose.num_inliers),
            covariance=pose.covariance,
            uv=found.uv,
            xyz=found.xyz,
            scale=found.scale,
            voted=found.voted,
            inliers=inliers,
            ms=dict(ms),
            scene=self.name,
        )

    def points(self) -> np.ndarray | None:
        """(M, 3) the map's landmarks, world, metres; None if it has none."""
        landmarks = self._known.landmarks
        return None if landmarks is None else np.asarray(landmarks.points)

    def as_function(
        self, width: int, height: int
    ) -> tuple[Callable[..., dict[str, jax.Array]], MapArrays]:
        """The way from features to a pose as one pure function, to compile, batch or export.

        Args:
            width: of the images, pixels.
            height: of the images, pixels.

        Returns:
            `function(arrays, features, intrinsics)` and its `arrays`: the map's. Intrinsics are
            (4,) fx, fy, cx, cy. The result has `camera_from_world` (4, 4), `success`,
            `num_inliers` and `covariance`, as a call's, which it equals.
        """
        settings = self.settings.replace(use_depth=False)

        def function(
            arrays: MapArrays, features: Features, intrinsics: jax.Array
        ) -> dict[str, jax.Array]:
            camera = jnp.concatenate([intrinsics, jnp.array([width, height], intrinsics.dtype)])
            return vars(localize(self._head, settings, arrays, features, camera))

        return function, self._known


class _Times:
    """Milliseconds by stage, told of the result of each."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, stage: str, result: Any) -> Any:
        result, before = jax.block_until_ready(result), self._last
        self._last = time.perf_counter()
        self.ms[stage] = self.ms.get(stage, 0.0) + (self._last - before) * 1e3
        return result


def timed_features(extractor: FeatureExtractor, image: np.ndarray) -> tuple[Features, float]:
    """Features of an image (H, W, 3), and how many milliseconds they took."""
    start = time.perf_counter()
    features = jax.block_until_ready(extractor.extract(image))
    return features, (time.perf_counter() - start) * 1e3


def _with_depth(features: Features, depth: np.ndarray | None) -> Features:
    """The features with what an image's depth (H, W) says at them."""
    if depth is None:
        return features
    u, v = np.rint(np.asarray(features.uv)).astype(int).T
    height, width = depth.shape
    known = depth[np.clip(v, 0, height - 1), np.clip(u, 0, width - 1)]
    return features.replace(depth=known)


def cameras_of(images: Sequence[np.ndarray], intrinsics: Sequence[Intrinsics]) -> list[Camera]:
    """The cameras of images, see `as_camera`.

    Raises:
        UserError: there are more or fewer of them, or one does not fit its image.
    """
    if len(images) != len(intrinsics):
        raise UserError(f"{len(images)} images need as many intrinsics, not {len(intrinsics)}")
    return [
        as_camera(one, image.shape[1], image.shape[0])
        for image, one in zip(images, intrinsics, strict=True)
    ]
