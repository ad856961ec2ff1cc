"""Selection of frames: `--frames START:STOP:STEP` and the official train and test splits."""

import dataclasses
import operator
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ace_jax.data.frame import Frame, FrameSource, metric
from ace_jax.data.intrinsics import Intrinsics
from ace_jax.data.poses_file import with_poses
from ace_jax.data.recording import iterate
from ace_jax.data.registry import FORMATS, Format, find_format, open_sequence
from ace_jax.data.scaled import ScaledSource
from ace_jax.data.subset import SubsetSource
from ace_jax.errors import UserError

SPLITS = ("train", "test")


class Concatenation:
    """Several recordings of one camera, one after the other."""

    def __init__(self, sources: Sequence[FrameSource], name: str) -> None:
        """Joins the sources.

        Raises:
            UserError: their cameras differ.
        """
        if any(source.camera != sources[0].camera for source in sources):
            raise UserError(f"the sequences of {name} have different cameras; use them one by one")
        self._sources, self.name = list(sources), name
        self._ends = np.cumsum([len(source) for source in sources])
        self.camera = sources[0].camera
        self.has_depth = all(source.has_depth for source in sources)
        self.metric = all(metric(source) for source in sources)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Frame:
        index = operator.index(index)
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} frames, not one numbered {index}")
        part = int(np.searchsorted(self._ends, index, side="right"))
        source = self._sources[part]
        frame = source[index - int(self._ends[part]) + len(source)]
        return dataclasses.replace(frame, index=index)

    def __iter__(self) -> Iterator[Frame]:
        return iterate(self)

    def timestamps(self) -> np.ndarray:
        """(N,) float64 seconds, each within its own recording."""
        return np.concatenate([source.timestamps() for source in self._sources])

    def names(self) -> list[str]:
        """N frame names."""
        return [name for source in self._sources for name in source.names()]

    def poses(self) -> np.ndarray | None:
        """(N, 4, 4) float64 world_from_camera, NaN where a frame has none, or None."""
        parts = [source.poses() for source in self._sources]
        if all(part is None for part in parts):
            return None
        return np.concatenate(
            [
                np.full((len(source), 4, 4), np.nan) if part is None else part
                for part, source in zip(parts, self._sources, strict=True)
            ]
        )


def open_frames(
    name: str,
    data_root: str | Path,
    *,
    frames: str | None = None,
    split: str | None = None,
    poses: str | Path | None = None,
    focal: float | None = None,
    intrinsics: Intrinsics | None = None,
    scale: float | None = None,
) -> FrameSource:
    """Opens a recording, or a scene's official split, and takes the frames asked for.

    Args:
        name: see `registry.open_sequence`; with a split, of a scene (`7scenes/redkitchen`).
        data_root: folder that holds the data sets.
        frames: START:STOP:STEP as in Python's slices (each may be left out), or one number.
        split: "train" or "test", as the data set's authors define it.
        poses: a file whose poses replace the recording's own.
        focal: of the 7-Scenes colour camera, pixels.
        intrinsics: of a folder of images or a video, instead of those in a file.
        scale: metres for one unit of the poses, where these have a scale of their own.

    Raises:
        UserError: nothing there, a malformed selection, or nothing left.
    """
    if split is None:
        source = open_sequence(name, data_root, poses=poses, focal=focal, intrinsics=intrinsics)
    else:
        source = _open_split(name, Path(data_root), split, focal)
        if poses is not None:
            source = with_poses(source, poses)
    if scale is not None:
        source = ScaledSource(source, scale)
    if not frames:
        return source
    start, stop, step = parse_frames(frames, len(source))
    count = len(range(start, stop, step))
    if not count:
        raise UserError(f"--frames {frames} leaves none of the {len(source)} frames of {name}")
    return SubsetSource(source, start=start, stride=step, max_frames=count)


def parse_frames(text: str, count: int) -> tuple[int, int, int]:
    """Start, stop and step of `START:STOP:STEP` for so many frames; negative ones from the end.

    Raises:
        UserError: malformed.
    """
    parts = text.split(":")
    try:
        numbers = [int(part) if part.strip() else None for part in parts]
        if len(parts) == 1 and numbers[0] is not None:
            last = None if numbers[0] == -1 else numbers[0] + 1
            numbers = [numbers[0], last, 1]
        chosen = slice(*numbers)
        if len(parts) > 3 or (chosen.step is not None and chosen.step < 1):
            raise ValueError
        return chosen.indices(count)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"--frames {text!r} is not START:STOP:STEP, such as 0:600:6 or 700: (STEP at least 1)"
        ) from error


def _open_split(name: str, root: Path, split: str, focal: float | None) -> FrameSource:
    if split not in SPLITS:
        raise UserError(f"--split is {' or '.join(SPLITS)}, not {split!r}")
    found, scene = find_format(name.strip("/"))
    reader = found.load()
    if hasattr(reader, "open_split"):
        return reader.open_split(scene, root, split)
    if not hasattr(reader, "split_sequences"):
        having = ", ".join(kind for kind, known in FORMATS.items() if _has_splits(known))
        raise UserError(f"--split is for a scene of {having}; {name} has no official split")
    kind = name.strip("/").partition("/")[0]
    sources = [
        open_sequence(f"{kind}/{sequence}", root, focal=focal)
        for sequence in reader.split_sequences(scene, root, split)
    ]
    return Concatenation(sources, f"{kind}/{scene} ({split})")


def _has_splits(known: Format) -> bool:
    try:
        reader = known.load()
    except (ImportError, UserError):  # an extra that is not installed
        return False
    return hasattr(reader, "open_split") or hasattr(reader, "split_sequences")
