"""Upper bound of the rejection of people: SLAM with ground-truth masks of moving people.

  python benchmarks/slam_masked.py [--rooms room0,room3] [--weights_dir DIR] [--docs PAGE.md]

People are where the depth differs from that of the same walk through the empty room. There, depth
becomes unknown, so that nothing on them can become a landmark or be registered.
"""

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from absl import flags
from machine import stamp
from markdown import publish, table

from ace_jax import errors, runtime
from ace_jax.data.frame import Frame, FrameSource
from ace_jax.data.registry import open_sequence
from ace_jax.data.subset import SubsetSource
from ace_jax.slam.run import SystemOptions, create_system, run
from ace_jax.synthetic.movers import COVERAGES

DIFFERENT = 0.02  # metres
MARGIN = 7  # pixels across; what is beside a person's outline is mixed with it
_PEOPLE = [f"-movers{percent}" for percent in COVERAGES]

_ROOMS = flags.DEFINE_list("rooms", ["room0"], "synthetic rooms")
_WEIGHTS_DIR = flags.DEFINE_string("weights_dir", None, "folder with XFeat's weights")
_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose table is replaced")


class MaskedPeople(SubsetSource):
    """A sequence without the depth of the people in it.

    Args:
        source: the sequence.
        empty: the same walk without people.
    """

    def __init__(self, source: FrameSource, empty: FrameSource) -> None:
        super().__init__(source)
        self._empty = empty

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        people = np.abs(frame.depth - self._empty[index].depth) > DIFFERENT
        people = cv2.dilate(people.astype(np.uint8), np.ones((MARGIN, MARGIN))) > 0
        depth = np.where(people, 0.0, frame.depth).astype(np.float32)
        return dataclasses.replace(frame, depth=depth)


def _cells(source: FrameSource) -> list[str]:
    """Coverage and errors of a run."""
    system = create_system(source, SystemOptions(weights_dir=_WEIGHTS_DIR.value))
    with tempfile.TemporaryDirectory() as out:
        metrics = run(source, system, Path(out)).metrics
    errors_m = (metrics["ate_rmse_m"], metrics["ate_live_rmse_m"])
    cells = ["-" if error is None else f"{100 * error:.2f}" for error in errors_m]
    return [f"{100 * metrics['coverage']:.1f}", *cells]


def masked() -> str:
    """The table."""
    rows = []
    rooms = {
        room: [_opened(f"synthetic/{room}{people}") for people in ("", *_PEOPLE)]
        for room in _ROOMS.value
    }
    for room, (empty, *walks) in rooms.items():
        rows.append([f"{room}, nobody", *_cells(empty), "", "", ""])
        for percent, walk in zip(COVERAGES, walks, strict=True):
            cells = [*_cells(walk), *_cells(MaskedPeople(walk, empty))]
            rows.append([f"{room}, {percent} % covered", *cells])
    figures = ["coverage %", "ATE RMSE cm", "live"]
    return table(["sequence", *figures, *(f"known: {figure}" for figure in figures)], rows)


def _opened(name: str) -> FrameSource:
    source = open_sequence(name, Path("data"))
    source.prepare()
    return source


def main(_: Sequence[str]) -> None:
    """Prints the table, and puts it into the docs."""
    runtime.enable_compilation_cache()
    where = stamp()
    publish("masked", f"{masked()}\n\n{where}.", _DOCS.value)


if __name__ == "__main__":
    errors.run(main)
