"""Modules that a tracked frame passes on its way from the reader to its pose.

  python benchmarks/frame_path.py [--seq tum/freiburg1_rpy] [--data_root ../shared/data]

Counts the files of `ace_jax` whose functions run for the first frame after the tenth that makes no
keyframe. Compiled programs count once they are called, not the modules they were traced from.
"""

import sys
from types import FrameType
from typing import Any

from absl import flags

from ace_jax import errors
from ace_jax.data.registry import open_sequence
from ace_jax.slam.run import SystemOptions, create_system

_SEQ = flags.DEFINE_string("seq", "tum/freiburg1_rpy", "the recording")
_DATA_ROOT = flags.DEFINE_string("data_root", "../shared/data", "folder with tum/, ...")
WARM = 10  # frames; programs are compiled then


def main(_: Any) -> None:
    """Prints the files and their number."""
    source = open_sequence(_SEQ.value, _DATA_ROOT.value)
    system = create_system(source, SystemOptions())
    modules: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        _, found, path = frame.f_code.co_filename.rpartition("/ace_jax/")
        if event == "call" and found:
            modules.add(path)

    for index in range(len(source)):
        before = len(system.landmark_map.keyframes)
        modules.clear()
        sys.setprofile(note)
        frame = source[index]
        system.process(frame, system.observe(frame))
        sys.setprofile(None)
        if index >= WARM and len(system.landmark_map.keyframes) == before:
            break
    print("\n".join(sorted(modules)))
    print(f"{len(modules)} files for frame {index}")


if __name__ == "__main__":
    errors.run(main)
