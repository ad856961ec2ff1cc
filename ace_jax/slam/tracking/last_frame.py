"""Motion since the last tracked frame, without map or prediction: features, then dense alignment.

Its features are matched to the new ones wherever they are in the image: a wide step (few frames a
second, frames dropped, a fast turn) does not matter, only that both show the same. From there dense
alignment of features and all pixels together makes the motion precise. Features need texture and
sharp images; where there are too few of them (blur, a bare floor), all pixels alone still tell the
motion, if it is small.
"""

from collections.abc import Iterator, Sequence

import jax
import numpy as np

from ace_jax.data.frame import Frame
from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.dense_alignment import (
    DenseAlignment,
    DenseImage,
    align,
    dense_image,
    small_size,
)
from ace_jax.geometry.host_camera import unproject_to_world
from ace_jax.geometry.reprojection import CHI2_PIXEL, NoiseModel, Observations
from ace_jax.geometry.rigid import invert, transform
from ace_jax.geometry.rolling_shutter import MAX_INTERVAL
from ace_jax.localization.landmarks import MatchGates, landmarks_of
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.loops import verification
from ace_jax.slam.mapping.mapping_queue import Job
from ace_jax.slam.tracking.guided_pose import match_and_optimize, pixel_errors
from ace_jax.slam.tracking.joint_pose import FrameMotion


class LastFrame:
    """Keeps one frame and its features.

    Args:
        camera: intrinsics of the frames.
        config: constants.
        gates: of guided matching; the radius is that of the pass.
        seed: of RANSAC.

    Attributes:
        frame: the last tracked frame, if it has depth.
    """

    def __init__(self, camera: Camera, config: SlamConfig, gates: MatchGates, seed: int) -> None:
        self._camera, self._config = camera, config
        self._gates, self._seed = gates, np.uint32(seed % 2**32)
        self.frame: Frame | None = None
        self._features: Features | None = None
        self._small: DenseImage | None = None
        self._asked: tuple[tuple[np.ndarray, ...], FrameMotion | None] | None = None

    def warm_up(self, features: Features, noise: NoiseModel) -> list[Job]:
        """Calls that compile everything, with blank input."""
        width, height = small_size(self._camera)
        blank, start = DenseImage(*np.zeros((2, height, width), np.float32)), np.eye(4)
        return [
            lambda: self._dense(blank, blank, start, _observations(features), noise),
            lambda: self._align(features, features, noise, 0),
        ]

    def remember(self, frame: Frame, features: Features) -> None:
        """Takes a tracked frame and its features, unrolled."""
        self.frame = None if frame.depth is None else frame
        self._features, self._small, self._asked = features, None, None

    def poses_of(
        self,
        frame: Frame,
        features: Sequence[Features],
        last: np.ndarray | None,
        predicted: np.ndarray | None,
        noise: NoiseModel,
    ) -> Iterator[np.ndarray]:
        """(4, 4) float32 camera_from_world of a new frame: by features, then by all pixels.

        Args:
            frame: the new one.
            features: of it, with depth; others are asked where the first ones tell nothing.
            last: (4, 4) camera_from_world of the remembered frame, as known now; None: there is
                none.
            predicted: (4, 4) camera_from_world by the motion before; None: the camera is lost.
            noise: standard deviations.
        """
        if self.frame is None or last is None or frame.depth is None:
            return
        for asked in features:
            motion = self.by_features(asked, last, noise)
            pose = None if motion is None else self.by_both(frame, asked, motion, last, noise)
            if pose is not None:
                yield pose
                break
        # A camera that is lost for longer than that has moved too far.
        if predicted is None and frame.timestamp - self.frame.timestamp > MAX_INTERVAL:
            return
        if (pose := self.by_pixels(frame, last, predicted, noise)) is not None:
            yield pose

    def by_features(
        self, features: Features, last: np.ndarray | None, noise: NoiseModel
    ) -> FrameMotion | None:
        """Pose of a new frame by mutual matches and RANSAC, then guided matching; or None.

        However few features agree: see `FrameMotion.seen`. Asked again about the same features, it
        has the same answer at once.

        Args:
            features: of the new frame, with depth.
            last: (4, 4) camera_from_world of the remembered frame, as known now; None: there is
                none.
            noise: standard deviations.
        """
        if self.frame is None or last is None:
            return None
        asked = features.uv, features.mask, last
        known = self._asked
        if known is None or not all(map(np.array_equal, known[0], asked)):
            known = self._asked = asked, self._by_features(features, last, noise)
        return known[1]

    def _by_features(
        self, features: Features, last: np.ndarray, noise: NoiseModel
    ) -> FrameMotion | None:
        block, aligned = self._align(self._features, features, noise, self.frame.index)
        if not bool(aligned.success):
            return None
        config, pose = self._config, np.asarray(aligned.camera_from_world)
        for radius in (config.coarse_radius, config.fine_radius):
            gates = self._gates.replace(radius=np.float32(radius * self._camera.pixel_scale))
            found = match_and_optimize(block, features, pose, self._camera, gates, noise)
            pose = found.camera_from_world
        if found.num_inliers == 0:
            return None
        points = transform(invert(last), block.points[np.maximum(found.matches, 0)])
        return FrameMotion(
            (np.asarray(pose, np.float64) @ last).astype(np.float32),
            points.astype(np.float32),
            found.matches >= 0,
        )

    def _align(self, last: Features, features: Features, noise: NoiseModel, draw: int):
        """The last frame's features as landmarks, in its camera's axes, and the pose among them."""
        camera = self._camera
        points = unproject_to_world(last.uv, last.depth, camera, np.eye(4)).astype(np.float32)
        block = landmarks_of(last, points, np.zeros(3, np.float32))
        aligned = verification.align(
            block,
            features,
            camera,
            noise,
            self._gates.min_cosine,
            self._seed,
            np.int32(draw),
            self._config.loops,
        )
        return block, aligned

    def by_both(
        self,
        frame: Frame,
        features: Features,
        motion: FrameMotion,
        last: np.ndarray,
        noise: NoiseModel,
    ) -> np.ndarray | None:
        """Pose by features and all pixels together; None: few features, and pixels do not agree.

        Args:
            frame: the new one.
            features: N of it.
            motion: by these features, however few.
            last: (4, 4) camera_from_world of the remembered frame, as known now.
            noise: standard deviations.

        Returns:
            (4, 4) float32 camera_from_world.
        """
        points = transform(last, motion.points).astype(np.float32)
        observations = _observations(features, points, motion.seen)
        start = motion.camera_from_world @ invert(last)
        found = self._dense(self._template(), self._image(frame), start, observations, noise)
        config = self._config
        if np.sum(motion.seen) < config.min_inliers:
            errors = pixel_errors(points, features.uv, found.pose, self._camera)[motion.seen]
            near = errors < np.sqrt(CHI2_PIXEL) * noise.pixel_sigma
            confirmed = _accepted(found, *config.confirming, config.dense_deviation)
            if not confirmed or np.mean(near) < 0.5:
                return None
        return (np.asarray(found.pose, np.float64) @ last).astype(np.float32)

    def by_pixels(
        self, frame: Frame, last: np.ndarray, predicted: np.ndarray | None, noise: NoiseModel
    ) -> np.ndarray | None:
        """Pose by dense alignment (Newcombe et al. 2011; Kerl et al. 2013), or None.

        Args:
            frame: the new one.
            last: (4, 4) camera_from_world of the remembered frame, as known now.
            predicted: (4, 4) camera_from_world that is tried first; then the last pose is.
            noise: standard deviations, which no feature is there to make use of.

        Returns:
            (4, 4) float32 camera_from_world.
        """
        template, image = self._template(), self._image(frame)
        starts = [np.eye(4)]
        if predicted is not None:
            starts.insert(0, predicted @ invert(last))
        config, nothing = self._config, _observations(self._features)
        for start in starts:
            found = self._dense(template, image, start, nothing, noise)
            least = config.dense_agreement, config.dense_overlap
            if _accepted(found, *least, config.dense_deviation):
                return (np.asarray(found.pose, np.float64) @ last).astype(np.float32)
        return None

    def _dense(
        self,
        template: DenseImage,
        image: DenseImage,
        start: np.ndarray,
        observations: Observations,
        noise: NoiseModel,
    ) -> DenseAlignment:
        start = start.astype(np.float32)
        found = align(template, image, self._camera, start, observations, noise)
        return jax.tree.map(np.asarray, found)  # compared on the host, nothing compiles

    def _template(self) -> DenseImage:
        """The remembered frame, small."""
        if self._small is None:
            self._small = self._image(self.frame)
        return self._small

    def _image(self, frame: Frame) -> DenseImage:
        return dense_image(frame.rgb, frame.depth, self._camera)


def _accepted(
    found: DenseAlignment, agreement: float, overlap: float, deviation: tuple[float, float]
) -> bool:
    """Whether enough pixels agree, of a part of the image that is large enough."""
    return bool(
        found.agreement > agreement
        and found.overlap > overlap
        and found.deviation[0] < deviation[0]
        and found.deviation[1] < deviation[1]
    )


def _observations(
    features: Features, points: np.ndarray | None = None, seen: np.ndarray | None = None
) -> Observations:
    """N features as observations of points (N, 3); only those that are `seen` (N,) count."""
    count, known = len(features.mask), features.depth > 0
    points = np.zeros((count, 3)) if points is None else points
    return Observations(
        np.asarray(points, np.float32).T,
        np.asarray(features.uv, np.float32).T,
        np.zeros(count, np.float32) if seen is None else seen.astype(np.float32),
        np.where(known, 1.0 / np.where(known, features.depth, 1.0), 0.0).astype(np.float32),
    )
