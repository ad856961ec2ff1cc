"""Finds sequences of the papers' benchmarks under a data root, and whether they are complete."""

import dataclasses
import re
from pathlib import Path

from published_protocols import Benchmark

from ace_jax.data.frame import FrameSource
from ace_jax.data.indoor6 import read_plain_pickle
from ace_jax.data.places import NotHere
from ace_jax.data.registry import open_sequence
from ace_jax.data.selection import open_frames
from ace_jax.errors import UserError

# Of a recording without its official split: what is mapped, and what is asked about.
PART_MAPPED, PART_ASKED = 0.75, 0.875


@dataclasses.dataclass(frozen=True)
class Found:
    """A sequence or scene that is here.

    Attributes:
        frames: what is run, for people: `all 2000 frames`, `120 of 723 frames`.
        whole: whether these are all frames of the benchmark, so that figures can be compared.
        map_flags: of SLAM, or of mapping.
        query_flags: of relocalization.
        problem: why it cannot be run; None where it can.
    """

    frames: str
    whole: bool
    map_flags: tuple[str, ...] = ()
    query_flags: tuple[str, ...] = ()
    problem: str | None = None


def find(known: Benchmark, sequence: str, root: Path) -> Found | None:
    """Looks for a sequence; None if nothing of it is there."""
    name = f"{known.kind}/{sequence}"
    source = problem = None
    try:
        source = open_sequence(name, root, needs_depth=known.task == "slam")
    except NotHere:
        return None
    except UserError as error:  # of a scene also: it has several sequences
        problem = str(error)
    if known.task == "slam":
        if source is None:
            return Found("", False, problem=problem)
        return _recording(known, sequence, name, len(source))
    return _scene(known, sequence, name, root, source)


def _recording(known: Benchmark, sequence: str, name: str, count: int) -> Found:
    expected = known.sequences[sequence]
    if not isinstance(expected, int):
        return Found(f"{count} frames", False, (f"--seq={name}",))
    whole = known.same and count >= known.least * expected
    frames = f"all {count} frames" if whole else f"{count} of {expected} frames"
    return Found(frames, whole, (f"--seq={name}",))


def _scene(
    known: Benchmark, scene: str, name: str, root: Path, source: FrameSource | None
) -> Found | None:
    poses = {}
    if known.poses:
        poses = {s: root / known.poses.format(scene=scene, split=s) for s in ("train", "test")}
        if not all(path.is_file() for path in poses.values()):
            return _part_of(name, root, source, other_poses=True)
    try:
        counts = tuple(len(open_frames(name, root, split=split)) for split in ("train", "test"))
        expected = known.sequences[scene] or _declared(known.kind, scene, root)
    except UserError as error:
        return _part_of(name, root, source) or Found("", False, problem=str(error))
    flags = [
        (f"--seq={name}", f"--split={split}", *([f"--poses={poses[split]}"] if poses else []))
        for split in ("train", "test")
    ]
    complete = expected is not None and all(
        here >= known.least * there for here, there in zip(counts, expected, strict=True)
    )
    of = ("", "") if complete or expected is None else tuple(f" of {count}" for count in expected)
    frames = f"{counts[1]}{of[1]} queries, {counts[0]}{of[0]} mapping images"
    return Found(frames, known.same and complete, *flags)


def _part_of(
    name: str, root: Path, source: FrameSource | None, other_poses: bool = False
) -> Found | None:
    """A scene with one recording and no official split: its first frames against its last ones."""
    if source is None or len(source) < 2:
        return None
    flags = []
    if other_poses:
        files = sorted((root / name).glob("*sfm*.txt"))
        if not files:
            return None
        flags = [f"--poses={files[0]}"]
    mapped, asked = (round(share * len(source)) for share in (PART_MAPPED, PART_ASKED))
    return Found(
        f"a part: frames 0-{mapped - 1} mapped, {asked}-{len(source) - 1} asked",
        False,
        (f"--seq={name}", f"--frames=0:{mapped}", *flags),
        (f"--seq={name}", f"--frames={asked}:", *flags),
    )


def _declared(kind: str, scene: str, root: Path) -> tuple[int, int] | None:
    """Training and test images that the scene's own list of the official split names."""
    folder = root / kind / scene
    if kind == "12scenes":
        text = (folder / "split.txt").read_text()
        spans = re.findall(r"start\s*=\s*(\d+)\s*;\s*end\s*=\s*(\d+)", text)
        counts = [int(end) - int(start) + 1 for start, end in spans]
        return sum(counts[1:]), counts[0]
    if kind == "indoor6":
        lists = read_plain_pickle(folder / "train_test_val.pkl")
        return len(lists["train"]), len(lists["test"])
    return None
