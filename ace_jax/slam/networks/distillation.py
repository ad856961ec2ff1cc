"""SLAM with a scene-coordinate network that is distilled online from bundle-adjusted keyframes.

A network trained online on two CPU cores localizes a frame to some centimetres: enough to
initialise tracking in every frame and to relocalize, too little to extend a map with. Here the
network's pose initialises guided matching (the feature-matching data association of ACE-SLAM),
keyframes are adjusted together with landmarks, and the network is trained on the adjusted
keyframes. The saved map is the network alone.
"""

import dataclasses

import jax
import numpy as np

from ace_jax.data.frame import Frame
from ace_jax.features.base import FeatureExtractor, Features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import difference
from ace_jax.localization.landmarks import Landmarks
from ace_jax.localization.scene_map import SceneMap, feature_fields
from ace_jax.models.scene_coordinate_heads import create_head
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.frame_poses import TrackedFrame
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.mapping.landmark_map import LandmarkMap
from ace_jax.slam.networks.config import HEAD_OPTIONS, NetworkConfig
from ace_jax.slam.networks.network_mapping import NetworkMap
from ace_jax.slam.reporting.stage_times import StageClock
from ace_jax.slam.tracking.tracker import Coarse, Tracker


@dataclasses.dataclass(kw_only=True)
class NetworkTracker(Tracker):
    """Relocalizes every frame by the network; guided matching starts from there.

    The motion prediction competes with it (`_better`): where the network has seen little it is
    wrong by 10 cm and more, and then neighbouring landmarks of similar looks are mistaken for each
    other (redkitchen 0-299: 4.0 cm without the choice). Landmark attention is the last resort, as
    in `Tracker`, when neither start is any good.

    Attributes:
        network: the map.
        located: frames whose coarse pose was found from the network's.
    """

    network: NetworkMap
    located: int = 0

    def coarse(
        self,
        landmark_map: LandmarkMap,
        features: Features,
        predicted: np.ndarray | None,
        last_landmarks: np.ndarray,
        last_descriptors: np.ndarray,
        draw: int,
    ) -> Coarse | None:
        """See `Tracker.coarse`."""
        found = self._locate(features, jax.random.fold_in(jax.random.key(self.seed), draw))
        block = self._last_seen(landmark_map, last_landmarks, last_descriptors)
        well_observed = self.well_observed(landmark_map, last_landmarks)
        start = self._better(block, well_observed, features, found, predicted)
        last = last_landmarks, last_descriptors
        coarse = super().coarse(landmark_map, features, start, *last, draw)
        if coarse is None and predicted is None and start is not None:
            coarse = super().coarse(landmark_map, features, None, *last, draw)
        if start is found is not None and coarse is not None:
            self.located += not coarse.relocalized
        return coarse

    def _better(
        self,
        last: Landmarks,
        well_observed: np.ndarray,
        features: Features,
        found: np.ndarray | None,
        predicted: np.ndarray | None,
    ) -> np.ndarray | None:
        """The network's pose `found`, or the prediction if that explains the last landmarks better.

        Guided matching from each either ends in the same pose, or one of them is mistaken; then
        the network's must have found clearly more of the last frame's landmarks.
        """
        if found is None or predicted is None:
            return predicted if found is None else found
        from_found, from_predicted = (
            self._match(last, features, pose, self.config.coarse_radius, well_observed)
            for pose in (found, predicted)
        )
        inliers, needed = int(from_found.num_inliers), int(from_predicted.num_inliers)
        apart, _ = difference(from_found.camera_from_world, from_predicted.camera_from_world)
        if apart > self.network.config.same_pose:
            needed *= self.network.config.inlier_factor
        return found if inliers >= needed else predicted

    def _locate(self, features: Features, key: jax.Array) -> np.ndarray | None:
        _, result, _ = self.network.locate(features, None, key)
        if not bool(result.success) or int(result.num_inliers) < self.config.min_inliers:
            return None
        return np.asarray(result.camera_from_world)


class DistilledNetworkSlam(LandmarkSlam):
    """SLAM with a network that learns from a landmark map; the network is what is saved.

    Args:
        camera: intrinsics of the frames.
        extractor: features.
        head: "tri_mlp" or "homogeneous_mlp".
        config: constants of the loop.
        network: constants of the network.
        seed: random seed.
        head_options: sizes of the head; default `HEAD_OPTIONS`.
        feature_options: how `extractor` was made, noted in the map.
        mapping_lag: how mapping runs beside tracking, see `MappingQueue`.
    """

    def __init__(
        self,
        camera: Camera,
        extractor: FeatureExtractor,
        head: str = "tri_mlp",
        config: SlamConfig | None = None,
        network: NetworkConfig | None = None,
        seed: int = 0,
        head_options: dict | None = None,
        feature_options: dict | None = None,
        mapping_lag: int | None = 0,
    ):
        self._head_options = dict(head_options or HEAD_OPTIONS[head])
        self.network = NetworkMap(
            head,
            create_head(head, **self._head_options),
            extractor.dim,
            extractor.max_features,
            camera,
            network or NetworkConfig(),
            jax.random.key(seed),
        )
        super().__init__(
            camera,
            extractor,
            config,
            seed,
            feature_options=feature_options,
            mapping_lag=mapping_lag,
            new_maps=False,  # the network is of one scene
        )
        self._inlier_ratios: dict[int, float] = {}  # of keyframes, by number
        self.tracker = NetworkTracker(**vars(self.tracker), network=self.network)
        self.network.warm_up(self.measured)

    def _step(self, frame: Frame, raw: Features | None, clock: StageClock) -> TrackedFrame:
        """The landmark map's step, then the network learns from it."""
        known = self.landmark_map.keyframes.next_number
        tracked = super()._step(frame, raw, clock)
        if tracked.live_camera_from_world is None:
            return tracked
        features = self.measured
        new = self.landmark_map.keyframes.next_number > known
        pose = self.poses.corrected(tracked)
        if not known:
            self.network.start(features)
        self.network.hold(features, pose)
        if new:
            self.network.add(features, pose, known)
            self._inlier_ratios[known] = self.landmark_map.keyframes[known].inlier_ratio
        self._correct_keyframes()
        steps = self.network.config.steps if known else self.network.config.first_steps
        self._train(steps, frame.index)
        clock.lap("training")
        return tracked

    def _correct_keyframes(self) -> None:
        for place, number in enumerate(self.network.keyframe_at):
            self.network.camera_from_world[place] = self.landmark_map.keyframes.pose_of(number)

    def _train(self, steps: int, frame_index: int) -> None:
        ratios = np.array([self._inlier_ratios[number] for number in self.network.keyframe_at])
        window = self.network.window(ratios, frame_index)
        self.network.train_on(window, steps, frame_index)

    def finish(self) -> None:
        """The last corrections, then training on all keyframes alike."""
        super().finish()
        if not self.network.keyframe_at:
            return
        self._correct_keyframes()
        self.network.train_evenly(self.network.config.final_steps)

    def scene_map(self) -> SceneMap:
        """The network."""
        return SceneMap(
            head=self.network.head_name,
            head_options=self._head_options,
            variables=self.network.variables(),
            **feature_fields(self.extractor, self._feature_options),
            camera=self.camera,
            mean=self.landmark_map.keyframes.mean_centre(),
        )
