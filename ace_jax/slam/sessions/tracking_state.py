"""The state of tracking between two frames, as arrays: interrupted runs go on from it."""

from collections.abc import Mapping

import numpy as np

from ace_jax.localization.scene_map import part
from ace_jax.slam.frame_poses import State, TrackedFrame
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.mapping.keyframes import NO_LANDMARK
from ace_jax.slam.mapping.landmark_map import LandmarkMap
from ace_jax.slam.sessions.session import restored_map, session_entries


def tracking_state(system: LandmarkSlam) -> dict[str, np.ndarray]:
    """What `resume` takes; keyframes and landmarks are numbered as in `LandmarkMap.content`."""
    landmark, place = system.landmark_map.places()
    fused = {number for number, _ in system.landmark_map.edges.unlearned}
    mapping, recent = system.mapping, system.recent_frames.content()
    if "landmarks" in recent:
        recent["landmarks"] = landmark[recent["landmarks"]]
    unadjusted = [n for n in mapping.being_mapped if n in fused]
    unmapped = [n for n in mapping.being_mapped if n not in fused] + mapping.unmapped
    return {
        **{f"recent/{name}": x for name, x in recent.items()},
        **{f"air/{name}": x for name, x in system.free_space.content().items()},
        "tracks": np.array(system.state is State.TRACKING),
        "landmarks": landmark[system.last_landmarks],
        "descriptors": system.last_descriptors,
        "frames_since": np.array([system.selection.since_keyframe]),
        "age": np.array(mapping.queue.age),
        "unmapped": np.array([place[n] for n in unmapped if n in place], np.int64),
        "unadjusted": np.array([place[n] for n in unadjusted if n in place], np.int64),
    }


def maps_state(system: LandmarkSlam) -> dict[str, np.ndarray]:
    """The maps of a run beside the current one, as `restore_maps` takes them."""
    atlas = system.atlas
    session = -1 if atlas.session is None else atlas.session
    state = {
        "numbers": np.array([atlas.current, session, atlas.next_number, atlas.lost]),
        "others": np.array(list(atlas.others), np.int64),
    }
    for number, landmark_map in atlas.others.items():
        entries = session_entries(landmark_map, system.camera)
        state |= {f"{number}/{name}": values for name, values in entries.items()}
    return state


def restore_maps(system: LandmarkSlam, state: Mapping[str, np.ndarray]) -> None:
    """Gives a system that has a run's current map the other ones; nothing of earlier versions.

    Raises:
        ValueError: `state` is not complete.
        KeyError: a part of it is missing.
    """
    if not state:
        system.atlas.session = None
        return
    current, session, next_number, lost = state["numbers"].tolist()
    maps = {
        number: restored_map(part(state, f"{number}/"), system.camera, system.config.max_landmarks)
        for number in state["others"].tolist()
    }
    for landmark_map in maps.values():
        landmark_map.calibrator = system.landmark_map.calibrator  # of the same sensor
        landmark_map.shutter = system.landmark_map.shutter
    system.atlas.restore(maps, current, None if session < 0 else session, next_number)
    system.atlas.lost = lost


def resume(
    system: LandmarkSlam, frames: list[TrackedFrame], tracking: Mapping[str, np.ndarray]
) -> None:
    """Continues a run in a new system that has its map.

    Args:
        system: as created from the run's session.
        frames: those that were processed.
        tracking: what `tracking_state` returned; if that is empty, as in checkpoints of earlier
            versions, the camera is looked for in the map.

    Raises:
        ValueError: `tracking` does not fit the map or the features.
        KeyError: a part of it is missing.
    """
    system.poses.restore(frames)
    if not tracking:
        return
    landmark_map, landmarks = system.landmark_map, tracking["landmarks"]
    unmapped, unadjusted = (
        tracking[name].astype(np.int64).tolist() for name in ("unmapped", "unadjusted")
    )
    if (
        landmarks.shape != system.last_landmarks.shape
        or tracking["descriptors"].shape != system.last_descriptors.shape
        or not all(number in landmark_map.keyframes for number in unmapped + unadjusted)
        or (tracking["tracks"] and (not frames or frames[-1].camera_from_reference is None))
    ):
        raise ValueError("what was tracked last is not in the map")
    recent = part(tracking, "recent/")
    if "landmarks" in recent:
        recent["landmarks"] = _landmarks_in(landmark_map, recent["landmarks"])
    system.recent_frames.restore(recent)
    system.free_space.restore(part(tracking, "air/"))
    system.last_landmarks = _landmarks_in(landmark_map, landmarks)
    system.last_descriptors = tracking["descriptors"]
    system.selection.since_keyframe = int(tracking["frames_since"][0])
    system.state = State.TRACKING if tracking["tracks"] else State.LOST
    system.mapping.resume(unmapped, unadjusted, int(tracking["age"]))


def _landmarks_in(landmark_map: LandmarkMap, landmarks: np.ndarray) -> np.ndarray:
    """Landmarks of any shape, without those that are not in the map any more.

    Raises:
        ValueError: they are not numbers of landmarks.
    """
    if not np.issubdtype(landmarks.dtype, np.integer):
        raise ValueError("landmarks are not integers")
    if np.any((landmarks < NO_LANDMARK) | (landmarks >= landmark_map.capacity)):
        raise ValueError("landmarks are not in the map")
    return np.where(landmark_map.valid[landmarks], landmarks, NO_LANDMARK)
