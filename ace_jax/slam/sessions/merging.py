"""Merging of two sessions of overlapping places, see `map_joining`."""

from ace_jax.errors import UserError
from ace_jax.features.base import Features
from ace_jax.slam.config import MergeConfig
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.loops.map_joining import Overlap, adopt_map, find_overlap
from ace_jax.slam.mapping.landmark_map import LandmarkMap


def merge(first: LandmarkSlam, second: LandmarkMap) -> Overlap:
    """Brings the second map into the first one's system.

    Raises:
        UserError: they show no common place, or the merged map would be too large.
    """

    def locate(landmark_map: LandmarkMap, features: Features):
        found = first.tracker.locate(landmark_map, features)
        return None if found is None else found.camera_from_world

    overlap = find_overlap(locate, first.landmark_map, second)
    if overlap is None:
        raise UserError(
            "the two maps show no common place: at least "
            f"{MergeConfig.min_agreeing} keyframes of the second must be found in the first"
        )
    known = list(first.landmark_map.keyframes)
    try:
        joined = adopt_map(first.landmark_map, second, overlap.first_from_second, first.camera)
    except ValueError as error:
        raise UserError(f"the merged map is too large: {error}") from error
    for number in overlap.keyframes:
        first.mapping.tie([joined.keyframe[number]], known)
        first.mapping.queue.finish()
    first.finish()
    return overlap
