"""How often a tracked frame calls the device, and how much it sends there and back.

On an accelerator each call and what it returns is a round trip; on a CPU a call costs 0.05 to
0.1 ms beside its work.
"""

import collections
import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from slam_scene import RoomSource, make_system

from ace_jax.programs import Program

WARM = 4  # frames, in which the map begins


class Calls:
    """What one thread asks of the device while `counted` is open.

    Attributes:
        programs: calls by name.
        sent: arrays of the host that calls were given.
        sent_bytes: of these.
        returned: arrays that calls gave back.
    """

    def __init__(self) -> None:
        self.programs: collections.Counter[str] = collections.Counter()
        self.sent = self.sent_bytes = self.returned = 0

    @contextlib.contextmanager
    def counted(self) -> Iterator["Calls"]:
        """Counts what this thread asks; others are left out."""
        thread, call = threading.get_ident(), Program.__call__

        def counting_call(program: Program, *args: Any, **kwargs: Any) -> Any:
            found = call(program, *args, **kwargs)
            if threading.get_ident() == thread:
                self.programs[program.__name__] += 1
                given = [x for x in jax.tree.leaves((args, kwargs)) if isinstance(x, np.ndarray)]
                self.sent += len(given)
                self.sent_bytes += sum(x.nbytes for x in given)
                self.returned += len(jax.tree.leaves(found))
            return found

        Program.__call__ = counting_call
        try:
            yield self
        finally:
            Program.__call__ = call


def ordinary_frames(system: Any, frames: Any) -> list[Calls]:
    """The counts of the frames that become no keyframe, the first ones left out."""
    found = []
    for index, frame in enumerate(frames):
        keyframes, calls = len(system.landmark_map.keyframes), Calls()
        with calls.counted():
            system.process(frame, system.observe(frame))
        if index >= WARM and len(system.landmark_map.keyframes) == keyframes:
            found.append(calls)
    return found


def test_an_ordinary_frame_calls_few_programs():
    source = RoomSource(16)
    found = ordinary_frames(make_system(), (dataclasses.replace(source[i]) for i in range(16)))
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
