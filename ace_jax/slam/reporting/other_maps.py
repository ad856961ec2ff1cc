"""Maps of a run that could not be joined with the main one, and their files."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ace_jax.data.pose_writers import write_trajectory_tum
from ace_jax.localization.scene_map import SceneMap, save_map
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.sessions.session import with_session


@dataclasses.dataclass(frozen=True)
class OtherMap:
    """A map in axes of its own: where it lies in the main one is not known.

    Attributes:
        number: as in `SlamPose.map_number` and in `metrics.json`.
        timestamps: (T,) seconds of the frames with a pose in it.
        world_from_camera: (T, 4, 4) float64, metres, OpenCV axes.
        session: the map with all that SLAM needs to go on from it.
    """

    number: int
    timestamps: np.ndarray
    world_from_camera: np.ndarray
    session: SceneMap


def other_maps(system: LandmarkSlam) -> tuple[OtherMap, ...]:
    """The maps of a finished run apart from the main one, oldest first."""
    return tuple(
        OtherMap(
            number,
            *system.poses.trajectory(live=False, number=number),
            with_session(system.scene_map(landmark_map), landmark_map),
        )
        for number, landmark_map in sorted(system.atlas.others.items())
    )


def write_other_maps(folder: Path, maps: Iterable[OtherMap]) -> None:
    """Writes `trajectory_mapN.tum` and `session_mapN.safetensors` of each; removes older ones."""
    for stale in [*folder.glob("trajectory_map*.tum"), *folder.glob("session_map*.safetensors")]:
        stale.unlink()  # of an earlier run
    for other in maps:
        name = f"map{other.number}"
        write_trajectory_tum(
            folder / f"trajectory_{name}.tum", other.timestamps, other.world_from_camera
        )
        save_map(folder / f"session_{name}.safetensors", other.session, half=True)
