"""Readers of recordings: frames per second, and detection of planted faults.

  python benchmarks/readers.py [--tables speed,faults] [--data_root DIR] [--docs docs/datasets.md]

`speed` reads real recordings through the prefetcher as SLAM does, on `--cores` cores; the layouts
for which there is no real file are exports of the same frames. `faults` plants each fault that
`python -m ace_jax.data check` knows into both real recordings and says what it found. Damaged files
are read by `reliability.py --tables files`.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
from absl import flags, logging
from machine import stamp, use_cores
from markdown import asked, publish, table

from ace_jax import errors
from ace_jax.data.export import export
from ace_jax.data.folder import Folder
from ace_jax.data.frame import BadFrame, FrameSource
from ace_jax.data.prefetch import Prefetcher
from ace_jax.data.registry import open_sequence
from ace_jax.data.seven_scenes import SevenScenes
from ace_jax.data.subset import SubsetSource
from ace_jax.data.verbs.check import check

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from data_faults import FAULTS, VARIANTS, copy

_TABLES = flags.DEFINE_list("tables", ["speed", "faults"], "which tables")
_DATA_ROOT = flags.DEFINE_string("data_root", "../shared/data", "folder with 7scenes/ and tum/")
_CORES = flags.DEFINE_integer("cores", 2, "processor cores to use", lower_bound=1)
_FRAMES = flags.DEFINE_integer("frames", 300, "frames to read for the table of speeds")
_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose tables are replaced")

KITCHEN, FREIBURG = "7scenes/redkitchen/seq-01", "tum/freiburg1_rpy"


# Speed.


def _rate(source: FrameSource, workers: int, ahead: int) -> tuple[float, float]:
    """Frames and processor seconds: frames a second, and CPU milliseconds a frame."""
    start, cpu, count = time.perf_counter(), time.process_time(), 0
    with Prefetcher(source, ahead=ahead, workers=workers) as frames:
        for frame in frames:
            count += not isinstance(frame, BadFrame)
    return (
        count / (time.perf_counter() - start),
        1e3 * (time.process_time() - cpu) / max(count, 1),
    )


def _as_published(source: SevenScenes, folder: Path, count: int) -> FrameSource:
    """The first frames with PNG colour, which the official set has; depth and poses as they are."""
    folder.mkdir(parents=True)
    for i in range(count):
        colour, depth = source.files(i)
        stem = colour.name.split(".")[0]
        cv2.imwrite(str(folder / f"{stem}.color.png"), cv2.imread(str(colour)))
        for path in (depth, colour.with_name(f"{stem}.pose.txt")):
            shutil.copy(path, folder / path.name)
    return SevenScenes(folder)


def speed_rows(root: Path) -> Iterator[list[str]]:
    """Frames a second of every layout, the best of three runs."""
    cv2.setNumThreads(1)  # the prefetcher's threads are the parallel ones
    with tempfile.TemporaryDirectory() as folder:
        sources = [
            ("7-Scenes, depth registered at reading", open_sequence(KITCHEN, root), "JPEG + PNG"),
            ("TUM, lens undistorted at reading", open_sequence(FREIBURG, root), "PNG + PNG"),
        ]
        published = _as_published(sources[0][1], Path(folder) / "7scenes/png/seq-01", 60)
        sources.insert(0, ("7-Scenes as published, depth registered", published, "PNG + PNG"))
        clean = SubsetSource(sources[1][1], max_frames=60)
        kinds = {"7scenes": "7scenes/e/seq-01", "replica": "Replica/e", "colmap": "e", "ace": "a"}
        for layout, place in kinds.items():
            export(clean, Path(folder) / place, layout)
            name = {"7scenes": place, "replica": "replica/e"}.get(layout, f"{layout}/{place}")
            stored = "JPEG + PNG" if layout == "replica" else "PNG + PNG"
            sources.append((f"{layout}, exported", open_sequence(name, folder), stored))
        for title, source, stored in sources:
            part = SubsetSource(source, max_frames=_FRAMES.value)
            rates = [_rate(part, workers=_CORES.value, ahead=16) for _ in range(3)]
            rate, cpu = max(rates)
            yield [title, stored, f"{rate:.0f}", f"{cpu:.1f}", f"{len(part)}"]


# Faults.


def fault_rows(root: Path) -> Iterator[list[str]]:
    """What `check` says to every planted fault."""
    logging.set_verbosity(logging.ERROR)
    plants = {fault: (fault, plant) for fault, plant in FAULTS.items()} | VARIANTS
    cells: dict[str, list[str]] = {"none (clean)": []} | {title: [] for title in plants}
    for name in (KITCHEN, FREIBURG):
        whole = check(open_sequence(name, root))
        cells["none (clean)"].append(_found(whole, None))
        with tempfile.TemporaryDirectory() as folder:
            clean = Path(folder) / "clean"
            export(open_sequence(name, root, max_frames=120), clean, "folder")
            for title, (fault, plant) in plants.items():
                target = copy(clean, Path(folder) / "planted")
                plant(target)
                cells[title].append(_found(check(Folder(target)), fault))
                shutil.rmtree(target)
    for title, found in cells.items():
        yield [title, *found]


def _found(report, fault: str | None) -> str:
    names = [finding.fault for finding in report.findings]
    seen = ", ".join(names) or "nothing"
    return seen if names == ([fault] if fault else []) else f"**{seen}**"


def main(_: Sequence[str]) -> None:
    """Makes the tables."""
    use_cores(_CORES.value)
    root = Path(_DATA_ROOT.value)
    made = {
        "speed": (
            ["recording, 640x480", "files", "frames/s", "CPU ms a frame", "frames"],
            speed_rows,
        ),
        "faults": (["planted", "found in redkitchen", "found in freiburg1_rpy"], fault_rows),
    }
    where = stamp(("opencv-python-headless", "pillow", "numpy"))
    for name, (header, rows) in zip(_TABLES.value, asked(made, _TABLES.value), strict=True):
        publish(name, f"{table(header, list(rows(root)))}\n\n({where})", _DOCS.value)


if __name__ == "__main__":
    errors.run(main)
