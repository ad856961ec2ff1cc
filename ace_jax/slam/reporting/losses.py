"""Tracking losses of a run: stretches without a pose, and maps that could not be joined."""

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

from ace_jax.slam.frame_poses import TrackedFrame
from ace_jax.slam.mapping.atlas import Atlas

_MOST_LINES = 5


@dataclasses.dataclass(frozen=True)
class Loss:
    """A stretch of frames without a pose.

    Attributes:
        first: index of its first frame,
        last: and of its last one.
        frames: how many there are.
        seconds: between the two.
        cause: the likely cause, as most of the frames have it; see `loss`.
    """

    first: int
    last: int
    frames: int
    seconds: float
    cause: str


def losses(frames: Sequence[TrackedFrame]) -> list[Loss]:
    """The stretches without a pose, oldest first."""
    found, stretch = [], []
    for frame in [*frames, None]:
        if frame is not None and frame.live_camera_from_world is None:
            stretch.append(frame)
        elif stretch:
            causes = collections.Counter(f.lost_because for f in stretch if f.lost_because)
            found.append(
                Loss(
                    first=stretch[0].index,
                    last=stretch[-1].index,
                    frames=len(stretch),
                    seconds=stretch[-1].timestamp - stretch[0].timestamp,
                    cause=causes.most_common(1)[0][0] if causes else "unknown",
                )
            )
            stretch = []
    return found


def maps_of(atlas: Atlas, frames: Sequence[TrackedFrame]) -> list[dict[str, Any]]:
    """The maps of a run for `metrics.json`: the main one, then those that stayed apart."""
    found = []
    for number in [atlas.current, *sorted(atlas.others)]:
        landmark_map = atlas.maps[number]
        of_map = [
            f.index for f in frames if f.map == number and f.live_camera_from_world is not None
        ]
        found.append(
            {
                "map": number,
                "frames_tracked": len(of_map),
                "first": min(of_map, default=None),
                "last": max(of_map, default=None),
                "keyframes": len(landmark_map.keyframes),
                "landmarks": len(landmark_map),
            }
        )
    return found


def states_of(frames: Sequence[TrackedFrame], atlas: Atlas) -> list[str]:
    """What to call the state of each frame in a figure."""

    def state(frame: TrackedFrame) -> str:
        if frame.live_camera_from_world is None:
            return f"lost: {frame.lost_because}"
        return "tracked" if frame.map == atlas.current else f"tracked in map {frame.map}"

    return [state(frame) for frame in frames]


def told(metrics: dict[str, Any]) -> list[str]:
    """Lines for people: maps that stayed apart, and where the camera was lost."""
    lines = []
    for entry in metrics.get("maps", [])[1:]:
        n = entry["map"]
        lines.append(
            f"map {n}: {entry['frames_tracked']} of the frames {entry['first']}-{entry['last']} "
            "are in a map of their own, nothing in it was recognised in the first; see "
            f"trajectory_map{n}.tum and session_map{n}.safetensors"
        )
    lost = metrics.get("lost", [])
    for loss in sorted(lost, key=lambda loss: -loss["frames"])[:_MOST_LINES]:
        frames = f"frames {loss['first']}-{loss['last']}"
        if loss["frames"] == 1:
            frames = f"frame {loss['first']}"
        lines.append(f"lost: {frames} ({loss['seconds']:.1f} s), {loss['cause']}")
    if len(lost) > _MOST_LINES:
        lines.append(f"lost: {len(lost) - _MOST_LINES} shorter stretches, see metrics.json")
    return lines
