"""How often a tracked frame calls the device, and how much it sends there and back."""

import dataclasses

import numpy as np
from repository import REPO
from slam_scene import RoomSource, make_system


def test_an_ordinary_frame_calls_few_programs(monkeypatch):
    monkeypatch.syspath_prepend(REPO / "benchmarks")
    import frame_calls

    source, system = RoomSource(16), make_system()
    found = frame_calls.ordinary_frames(
        system, (dataclasses.replace(source[i]) for i in range(16)), after=4
    )
    assert len(found) >= 4
    # A pose of the last frame's landmarks and one of the local map, with another of each from the
    # landmarks that were seen often; features of SIFT are found on the host.
    assert np.median([calls.programs.total() for calls in found]) <= 5
    assert max(calls.programs.total() for calls in found) <= 14
    assert {name for calls in found for name in calls.programs} <= {
        "refine_pose_with_gating",
        "rigid_motion",
    }
    assert max(calls.returned for calls in found) <= 2 * 14
    assert max(calls.sent_bytes for calls in found) < 300_000
