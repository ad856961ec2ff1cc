"""Live view of SLAM: reads the system's state and changes nothing."""

import numpy as np

from ace_jax.data.frame import BadFrame
from ace_jax.slam.landmark_slam import LandmarkSlam, State
from ace_jax.slam.mapping.keyframes import NO_LANDMARK
from ace_jax.slam.stream import Observation
from ace_jax.viewer.live import LiveView, View


class SlamView:
    """Hands a run's frames to a live view.

    Args:
        live: the view.
    """

    def __init__(self, live: LiveView) -> None:
        self._live = live
        self._keyframes = 0, 0

    def frame(
        self,
        system: LandmarkSlam,
        observation: Observation,
        world_from_camera: np.ndarray | None,
        ground_truth: np.ndarray | None,
        milliseconds: float,
    ) -> None:
        """Shows the frame that was just processed; takes microseconds."""
        frame = observation.frame
        if isinstance(frame, BadFrame):
            return
        picture = {}
        if self._live.wants_picture():
            picture = {"rgb": frame.rgb, **_features(system, observation)}
        self._live.show(
            View(
                index=frame.index,
                timestamp=frame.timestamp,
                camera=frame.camera,
                world_from_camera=world_from_camera,
                ground_truth=ground_truth,
                milliseconds={"frame": milliseconds, **system.times.newest},
                keyframes=self._new_keyframes(system),
                note="" if system.state is State.TRACKING else system.state.value,
                **picture,
            )
        )

    def finish(self, system: LandmarkSlam) -> None:
        """Shows the finished map."""
        self._live.show_map(*system.points(), always=False)

    def _new_keyframes(self, system: LandmarkSlam) -> np.ndarray | None:
        keyframes = system.landmark_map.keyframes
        shown = system.atlas.current, len(keyframes)
        if shown == self._keyframes:
            return None
        self._keyframes = shown
        return np.array([keyframe.centre for keyframe in keyframes.values()])


def landmarks_seen(system: LandmarkSlam, observation: Observation) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) pixels of the newest frame's features, and (N,) their landmarks or NO_LANDMARK."""
    mask = np.asarray(observation.features.mask)
    uv = np.asarray(observation.features.uv)[mask]
    if len(system.last_landmarks) != len(mask):
        return uv, np.full(len(uv), NO_LANDMARK)
    return uv, system.last_landmarks[mask]


def _features(system: LandmarkSlam, observation: Observation) -> dict[str, np.ndarray]:
    """uv, xyz and sigma of the features; those without a landmark have NaN.

    A landmark's deviation follows from its first-order depth noise, sigma d^2, averaged over the
    keyframes that see it.
    """
    uv, slots = landmarks_seen(system, observation)
    xyz, sigma = np.full((len(uv), 3), np.nan), np.full(len(uv), np.nan)
    known = slots != NO_LANDMARK
    landmark_map, found = system.landmark_map, slots[known]
    xyz[known] = landmark_map.points[found]
    noise = system.config.inverse_depth_sigma * landmark_map.distances[found] ** 2
    sigma[known] = noise / np.sqrt(np.maximum(landmark_map.observations[found], 1))
    return {"uv": uv, "xyz": xyz, "sigma": sigma}
