"""Indoor-6 (Do et al., "Learning to detect scene landmarks", CVPR 2022): colour only.

`indoor6/scene1/images/image-NNNNNN.{color.jpg,pose.txt,intrinsics.txt}`: poses are 3 x 4, world to
camera; intrinsics are `width height focal cx cy`. The splits are lists of file names in
`train_test_val.pkl`, a pickle, which is interpreted as plain data and never executed.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ace_jax.data.frame import FrameSource
from ace_jax.data.image_recording import ImageRecording
from ace_jax.data.places import existing, natural, read_text
from ace_jax.data.subset import SubsetSource
from ace_jax.data.twelve_scenes import checked
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.pickle_reader import PickleError, PickleReader

URL = "https://github.com/microsoft/SceneLandmarkLocalization"
_MAX_PICKLE = 64 << 20  # bytes


class Indoor6(ImageRecording):
    """One scene, all its images in the order of their names."""

    def __init__(self, folder: str | Path, *, name: str | None = None) -> None:
        """Opens a scene.

        Args:
            folder: holds `images/`.
            name: for messages; the folder's name by default.

        Raises:
            UserError: something is missing or unreadable.
        """
        folder = Path(folder)
        name = name or folder.name
        files = sorted(folder.glob("images/*.color.jpg"), key=lambda path: natural(path.name))
        stems = [path.name.removesuffix(".color.jpg") for path in files]
        places = [folder / "images" / stem for stem in stems]
        super().__init__(
            name,
            [_camera(place.with_name(f"{place.name}.intrinsics.txt")) for place in places],
            files,
            names=[path.name for path in files],
            timestamps=None,
            poses=np.array(
                [_pose(place.with_name(f"{place.name}.pose.txt")) for place in places]
            ).reshape(-1, 4, 4),
        )


def _camera(path: Path) -> Camera:
    text = read_text(path, "it should hold 'width height focal cx cy'")
    try:
        width, height, focal, cx, cy = (float(value) for value in text.split()[:5])
        camera = Camera(focal, focal, cx, cy, int(width), int(height))
    except (ValueError, OverflowError) as error:
        raise UserError(f"{path}: {error}; it should hold 'width height focal cx cy'") from error
    return checked(camera, path)


def _pose(path: Path) -> np.ndarray:
    """world_from_camera; NaN without a file, infinite where it is unreadable."""
    try:
        values = np.array([float(value) for value in path.read_text().split()])
        camera_from_world = np.vstack([values[:12].reshape(3, 4), [0, 0, 0, 1]])
        return np.linalg.inv(camera_from_world)  # not rigid yet: as the file rounds it
    except FileNotFoundError:
        return np.full((4, 4), np.nan)
    except (OSError, ValueError, np.linalg.LinAlgError):
        return np.full((4, 4), np.inf)


def read_plain_pickle(path: Path) -> Any:
    """A pickle of dictionaries, lists, numbers and strings; anything else is refused.

    Raises:
        UserError: missing, damaged, or it names code.
    """

    def refuse(module: str, name: str) -> Any:
        raise PickleError(f"it names {module}.{name}")

    def refuse_persistent(_: Any) -> Any:
        raise PickleError("it refers to other files")

    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_PICKLE)
        return PickleReader(data, refuse, refuse_persistent).load()[0]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; it comes with the data set") from error
    except PickleError as error:
        raise UserError(f"{path} is no list of names: {error}") from error


def _folder(rest: str, root: Path) -> Path:
    how = f"download it as {URL} says and unpack it there"
    return existing(root / "indoor6" / rest, f"indoor6/{rest}", how)


def open_named(rest: str, root: Path) -> Indoor6:
    """Opens `indoor6/SCENE`."""
    return Indoor6(_folder(rest, root), name=f"indoor6/{rest}")


def open_split(scene: str, root: Path, split: str) -> FrameSource:
    """Opens a scene's official split."""
    folder = _folder(scene, root)
    path = folder / "train_test_val.pkl"
    lists = read_plain_pickle(path)
    names = lists.get(split) if isinstance(lists, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path} has no list of names for {split!r}")
    source = Indoor6(folder, name=f"indoor6/{scene} ({split})")
    chosen = set(names)
    return SubsetSource(source, indices=[i for i, n in enumerate(source.names()) if n in chosen])
