"""What an ordinary tracked frame asks of the device: calls of programs, arrays sent and returned.

  python benchmarks/frame_calls.py [--seq tum/freiburg1_rpy] [--data_root ../shared/data]

Of the frames after the tenth that make no keyframe and find their pose at once, the median and the
largest numbers, from the image to the pose, on the tracking thread. On an accelerator each call
and what it returns is a round trip; on a CPU a call costs 0.05 to 0.1 ms beside its work.
"""

import collections
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from absl import flags
from machine import stamp
from markdown import table

from ace_jax import errors
from ace_jax.data.registry import open_sequence
from ace_jax.programs import Program
from ace_jax.slam.run import SystemOptions, create_system

WARM = 10  # frames, in which the map begins
FRAMES = 60


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


def ordinary_frames(system: Any, frames: Any, after: int = WARM) -> list[Calls]:
    """The counts of the frames that become no keyframe, of a system that tracks `frames`."""
    found = []
    for index, frame in enumerate(frames):
        keyframes, calls = len(system.landmark_map.keyframes), Calls()
        with calls.counted():
            system.process(frame, system.observe(frame))
        if index >= after and len(system.landmark_map.keyframes) == keyframes:
            found.append(calls)
    return found


def main(_: Any) -> None:
    """Prints the table."""
    where = stamp()
    source = open_sequence(_SEQ.value, _DATA_ROOT.value, max_frames=WARM + FRAMES)
    system = create_system(source, SystemOptions())
    found = ordinary_frames(system, (source[i] for i in range(len(source))))
    system.finish()
    names = sorted({name for calls in found for name in calls.programs})
    columns: dict[str, Callable[[Calls], float]] = {
        "calls": lambda c: c.programs.total(),
        **{f"`{name}`": lambda c, name=name: c.programs[name] for name in names},
        "arrays sent": lambda c: c.sent,
        "kB sent": lambda c: c.sent_bytes / 1e3,
        "arrays returned": lambda c: c.returned,
    }
    rows = [
        [name, *(f"{of([value(c) for c in found]):.0f}" for of in (np.median, np.max))]
        for name, value in columns.items()
    ]
    print(f"{table(['of a frame', 'median', 'most'], rows)}\n")
    print(f"{len(found)} frames of {source.name}, {where}.")


if __name__ == "__main__":
    _SEQ = flags.DEFINE_string("seq", "tum/freiburg1_rpy", "the recording")
    _DATA_ROOT = flags.DEFINE_string("data_root", "../shared/data", "folder with tum/, ...")
    errors.run(main)
