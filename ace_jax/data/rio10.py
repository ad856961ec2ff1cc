"""RIO10 (Wald et al., "Beyond controlled environments", ECCV 2020): rooms that change.

`rio10/scene01/seq01_01/frame-NNNNNN.{color.jpg,pose.txt,rendered.depth.png}` (also `scene01/seq01/`
between). seqXX_01 is for training, seqXX_02 for validation, the others are test sequences without
poses. Poses are camera to world; depth is rendered from the scans, in millimetres, registered.
Intrinsics: `camera.yaml` of the sequence (`model: [fx, fy, cx, cy]`), else the published values.
"""

import re
from pathlib import Path

import numpy as np

from ace_jax.data.image_recording import ImageRecording
from ace_jax.data.images import first_size
from ace_jax.data.places import existing, read_text
from ace_jax.data.poses_file import read_pose_files
from ace_jax.data.twelve_scenes import checked
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera

URL = "https://github.com/WaldJohannaU/RIO10"
FRAMES_PER_SECOND = 30.0
UNITS_PER_METRE = 1000.0
FOCAL_AND_CENTRE = (756.026, 756.832, 270.418, 492.889)
_COLOUR = re.compile(r"frame-(\d+)\.color\.(?:jpg|jpeg|png)")


class Rio10(ImageRecording):
    """One sequence."""

    def __init__(self, folder: str | Path, *, name: str | None = None) -> None:
        """Opens a sequence.

        Args:
            folder: the sequence's folder.
            name: for messages; the folder's name by default.

        Raises:
            UserError: no frames, or unreadable intrinsics.
        """
        folder = Path(folder)
        name = name or folder.name
        files = {int(m[1]): m[0] for m in map(_COLOUR.fullmatch, _names(folder)) if m}
        numbers = sorted(files)
        if not numbers:
            raise UserError(f"{name}: no frame-NNNNNN.color.jpg in {folder}")
        colour = [folder / files[number] for number in numbers]
        stems = [files[number].split(".")[0] for number in numbers]
        depth = [folder / f"{stem}.rendered.depth.png" for stem in stems]
        super().__init__(
            name,
            _camera(folder / "camera.yaml", first_size(colour, name)),
            colour,
            depth if any(path.exists() for path in depth) else None,
            names=[f"{folder.name}/{stem}" for stem in stems],
            timestamps=np.array(numbers) / FRAMES_PER_SECOND,
            poses=read_pose_files([folder / f"{stem}.pose.txt" for stem in stems]),
            units_per_metre=UNITS_PER_METRE,
        )


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _camera(path: Path, size: tuple[int, int]) -> Camera:
    if not path.exists():
        return Camera(*FOCAL_AND_CENTRE, *size)
    text = read_text(path, "it should hold 'model: [fx, fy, cx, cy]'")
    found = re.search(r"model:\s*\[([^\]]*)\]", text)
    try:
        values = [float(value) for value in found[1].split(",")] if found else []
    except ValueError:
        values = []
    if len(values) != 4:
        raise UserError(f"{path}: no line 'model: [fx, fy, cx, cy]'")
    fx, fy, cx, cy = values
    return checked(Camera(fx, fy, cx, cy, *size), path)


def open_named(rest: str, root: Path) -> Rio10:
    """Opens `rio10/SCENE/SEQ`, such as `rio10/scene01/seq01_01`."""
    scene, _, sequence = rest.partition("/")
    folder = root / "rio10" / scene
    how = f"fill in the form at {URL}, download the sequences and unpack them there"
    existing(folder, f"rio10/{scene}", how)
    nested = folder / sequence.partition("_")[0] / sequence
    folder = nested if nested.is_dir() else folder / sequence
    return Rio10(existing(folder, f"rio10/{rest}", how), name=f"rio10/{rest}")


def split_sequences(scene: str, root: Path, split: str) -> list[str]:
    """train is seqXX_01; "test" here is the validation sequence seqXX_02, which has poses."""
    number = scene.removeprefix("scene")
    return [f"{scene}/seq{number}_{'01' if split == 'train' else '02'}"]
