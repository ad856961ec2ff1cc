"""12-Scenes (Valentin et al., "Learning to navigate the energy landscape", 3DV 2016).

`12scenes/apt1/kitchen/{info.txt, split.txt, data/frame-NNNNNN.{color.jpg,depth.png,pose.txt}}`.
Colour is 1296 x 968, depth 640 x 480 in millimetres; `info.txt` has both cameras' intrinsics. Depth
is looked up at the colour pixels. Poses are camera to world. The first sequence of `split.txt` is
the test split, the others are for training.
"""

import re
from pathlib import Path

import numpy as np

from ace_jax.data.frame import FrameSource
from ace_jax.data.image_recording import ImageRecording
from ace_jax.data.places import existing, last_two, read_text
from ace_jax.data.poses_file import read_pose_files
from ace_jax.data.registration import DepthResampling
from ace_jax.data.subset import SubsetSource
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import camera_from_matrix

URL = "https://graphics.stanford.edu/projects/reloc/"
FRAMES_PER_SECOND = 30.0
UNITS_PER_METRE = 1000.0
_COLOUR = re.compile(r"frame-(\d+)\.color\.(?:jpg|jpeg|png)")
_KIND = "an info.txt has lines 'm_colorWidth = 1296', ..., as 12-Scenes and ScanNet do"


class TwelveScenes(ImageRecording):
    """One scene, all its sequences in the order of frame numbers."""

    def __init__(self, folder: str | Path, *, name: str | None = None) -> None:
        """Opens a scene.

        Args:
            folder: holds `info.txt` and `data/`.
            name: for messages; the folder's last two names by default.

        Raises:
            UserError: something is missing or unreadable.
        """
        folder = Path(folder)
        name = name or last_two(folder)
        colour_camera, depth_camera = read_info(folder / "info.txt")
        data = folder / "data"
        found = data.iterdir() if data.is_dir() else []
        files = {int(m[1]): m[0] for m in (_COLOUR.fullmatch(path.name) for path in found) if m}
        self.numbers = sorted(files)
        stems = [files[number].split(".")[0] for number in self.numbers]
        depth = [data / f"{stem}.depth.png" for stem in stems]
        super().__init__(
            name,
            colour_camera,
            [data / files[number] for number in self.numbers],
            depth if any(path.exists() for path in depth) else None,
            names=stems,
            timestamps=np.array(self.numbers) / FRAMES_PER_SECOND,
            poses=read_pose_files([data / f"{stem}.pose.txt" for stem in stems]),
            units_per_metre=UNITS_PER_METRE,
            to_colour=DepthResampling(depth_camera, colour_camera),
        )


def read_info(path: Path) -> tuple[Camera, Camera]:
    """Colour and depth camera of an `info.txt`.

    Raises:
        UserError: missing, or lacks a value.
    """
    entries = {}
    for line in read_text(path, _KIND).splitlines():
        key, _, value = line.partition("=")
        entries[key.strip()] = value.split()
    return _camera(entries, "Color", path), _camera(entries, "Depth", path)


def _camera(entries: dict[str, list[str]], which: str, path: Path) -> Camera:
    prefix = f"m_{which.lower()}"
    try:
        k = np.array([float(v) for v in entries[f"m_calibration{which}Intrinsic"]]).reshape(4, 4)
        width, height = (int(entries[f"{prefix}{side}"][0]) for side in ("Width", "Height"))
        camera = camera_from_matrix(k, width, height)
    except (KeyError, ValueError, IndexError, OverflowError) as error:
        raise UserError(f"{path}: no {which.lower()} camera ({error}); {_KIND}") from error
    return checked(camera, path)


def checked(camera: Camera, path: Path) -> Camera:
    """The camera, if it is one.

    Raises:
        UserError: a size or a focal length is not positive, or a number is not finite.
    """
    values = tuple(float(v) for v in camera.intrinsics)
    small = 0 < camera.width < 65536 and 0 < camera.height < 65536
    if not (np.isfinite(values).all() and min(camera.fx, camera.fy) > 0 and small):
        raise UserError(f"{path}: impossible intrinsics {values}, {camera.width} x {camera.height}")
    return camera


def _folder(rest: str, root: Path) -> Path:
    how = f"download apt1, apt2, office1 and office2 from {URL} and unpack them there"
    return existing(root / "12scenes" / rest, f"12scenes/{rest}", how)


def open_named(rest: str, root: Path) -> TwelveScenes:
    """Opens `12scenes/PLACE/SCENE`, such as `12scenes/apt1/kitchen`."""
    return TwelveScenes(_folder(rest, root), name=f"12scenes/{rest}")


def open_split(scene: str, root: Path, split: str) -> FrameSource:
    """Opens the frames of a split: test is the first sequence, train the others."""
    folder = _folder(scene, root)
    text = read_text(folder / "split.txt", "it comes with the data set")
    spans = re.findall(r"start\s*=\s*(\d+)\s*;\s*end\s*=\s*(\d+)", text)
    if not spans:
        raise UserError(f"{folder / 'split.txt'} names no sequence: 'start=0 ; end=356'")
    chosen = spans[:1] if split == "test" else spans[1:]
    source = TwelveScenes(folder, name=f"12scenes/{scene} ({split})")
    ranges = [(int(start), int(end)) for start, end in chosen]
    kept = [
        i
        for i, number in enumerate(source.numbers)
        if any(start <= number <= end for start, end in ranges)
    ]
    return SubsetSource(source, indices=kept)
