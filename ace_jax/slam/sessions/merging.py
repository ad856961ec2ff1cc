"""Two maps of places that overlap become one.

Keyframes of the second map are relocalized in the first; the motion that most of them agree on
brings the second map's world into the first's. Then its keyframes and landmarks move over, and
fusing and bundle adjustment join the two where they overlap.
"""

import dataclasses

import numpy as np

from ace_jax.errors import UserError
from ace_jax.geometry.rigid import difference, invert, orthonormalized, transform
from ace_jax.slam.config import MergeConfig
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.mapping.landmark_map import LandmarkMap


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Where two maps meet.

    Attributes:
        first_from_second: (4, 4) world of the second map to world of the first, metres.
        keyframes: numbers of the second map's keyframes that agree on it.
        found: keyframes of the second map that were relocalized at all.
    """

    first_from_second: np.ndarray
    keyframes: tuple[int, ...]
    found: int


def find_overlap(first: LandmarkSlam, second: LandmarkMap) -> Overlap | None:
    """The motion between two maps that most keyframes agree on; None where too few do."""
    motions, numbers = [], []
    for number, keyframe in second.keyframes.items():
        pose = first.tracker.locate(first.landmark_map, keyframe.features)
        if pose is not None:
            motions.append(invert(pose) @ keyframe.camera_from_world)
            numbers.append(number)
    if not motions:
        return None
    # Compared where the cameras are: a rotation about a far origin would look like a translation.
    centres = np.array([second.keyframes[n].centre for n in numbers])
    poses = np.array(motions)
    there = transform(poses, centres)
    distance = np.linalg.norm(there - there[np.arange(len(there)), np.arange(len(there))], axis=2)
    _, turned = difference(poses[:, None], poses)
    agree = (distance < MergeConfig.max_disagreement[0]) & (
        turned < MergeConfig.max_disagreement[1]
    )
    best = int(np.argmax(agree.sum(1)))
    members = np.flatnonzero(agree[best])
    if len(members) < MergeConfig.min_agreeing:
        return None
    mean = poses[members].mean(0)
    return Overlap(
        first_from_second=orthonormalized(mean),
        keyframes=tuple(numbers[m] for m in members),
        found=len(numbers),
    )


def merge(first: LandmarkSlam, second: LandmarkMap) -> Overlap:
    """Brings the second map into the first one's system.

    Raises:
        UserError: they show no common place, or the merged map would be too large.
    """
    overlap = find_overlap(first, second)
    if overlap is None:
        raise UserError(
            "the two maps show no common place: at least "
            f"{MergeConfig.min_agreeing} keyframes of the second must be found in the first"
        )
    move = overlap.first_from_second
    landmarks, keyframes, observed = second.content()
    landmarks["points"] = transform(move, landmarks["points"])
    landmarks["view_directions"] = landmarks["view_directions"] @ move[:3, :3].T
    back = invert(move)
    keyframes = [
        dataclasses.replace(k, camera_from_world=orthonormalized(k.camera_from_world @ back))
        for k in keyframes
    ]
    landmark_map, known = first.landmark_map, first.landmark_map.keyframes.next_number
    _, place = second.places()
    try:
        landmark_map.adopt(landmarks, keyframes, observed, second.depth_calibration, first.camera)
    except ValueError as error:
        raise UserError(f"the merged map is too large: {error}") from error
    landmark_map.edges.adopt(second.edges.content(place), known, len(keyframes))
    landmark_map.calibrator.include(second.calibrator)
    landmark_map.calibrate_depth(landmark_map.calibrator.calibration, first.camera)
    for number in overlap.keyframes:
        first.mapping.queue.submit(
            first.mapping.mapper.refine(landmark_map, [known + place[number]])
        )
        first.mapping.queue.finish()
    first.finish()
    return overlap
