"""Cambridge Landmarks (Kendall et al., "PoseNet", ICCV 2015): outdoor, colour only.

`cambridge/KingsCollege/{dataset_train.txt, dataset_test.txt, reconstruction.nvm, seq1/*.png}`. The
lists have, after three header lines, `file X Y Z W P Q R`: the camera's centre and the quaternion
(w first) that turns world into camera axes. Focal lengths, one per image, are in VisualSFM's
`reconstruction.nvm`; its radial distortion is small and left alone, as ACE does. The principal
point is the middle of the image.
"""

from pathlib import Path

import numpy as np

from ace_jax.data.frame import BadFrame, FrameSource
from ace_jax.data.image_recording import ImageRecording
from ace_jax.data.images import image_size
from ace_jax.data.places import existing, inside, read_text
from ace_jax.data.poses_file import image_stem
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import from_quaternion, invert

URL = "https://www.repository.cam.ac.uk/handle/1810/251342"
SPLITS = ("train", "test")


class Cambridge(ImageRecording):
    """One scene's split, or all of it; without times: the images are of several videos."""

    def __init__(
        self, folder: str | Path, *, splits: tuple[str, ...] = SPLITS, name: str | None = None
    ) -> None:
        """Opens a scene.

        Args:
            folder: the scene's folder.
            splits: `train`, `test` or both.
            name: for messages; the folder's name by default.

        Raises:
            UserError: a list is missing or unreadable.
        """
        folder = Path(folder)
        name = name or folder.name
        entries = [entry for s in splits for entry in _entries(folder / f"dataset_{s}.txt")]
        focals = read_nvm_focals(folder / "reconstruction.nvm")
        stems = [image_stem(file) for file, _ in entries]
        unknown = [stem for stem in stems if stem not in focals]
        if unknown:
            raise UserError(f"{name}: reconstruction.nvm has no focal length for {unknown[0]}")
        files = [inside(folder, file) for file, _ in entries]
        super().__init__(
            name,
            [_camera(path, focals[stem]) for path, stem in zip(files, stems, strict=True)],
            files,
            names=stems,
            timestamps=None,
            poses=np.array([pose for _, pose in entries]).reshape(-1, 4, 4),
        )


def _entries(path: Path) -> list[tuple[str, np.ndarray]]:
    what = "its lines are 'file X Y Z W P Q R'"
    entries = []
    for line in read_text(path, f"{what}, after three lines of header").splitlines()[3:]:
        fields = line.split()
        if not fields:
            continue
        try:
            values = np.array([float(value) for value in fields[1:8]])
            camera_from_world = from_quaternion(values[3:7], np.zeros(3))
        except (ValueError, IndexError) as error:
            raise UserError(f"{path}: {error}; {what}") from error
        camera_from_world[:3, 3] = -camera_from_world[:3, :3] @ values[:3]
        entries.append((fields[0], invert(camera_from_world)))
    return entries


def read_nvm_focals(path: Path) -> dict[str, float]:
    """Focal lengths in pixels by image name without suffix, of an NVM_V3 file's first model.

    Raises:
        UserError: missing or unreadable.
    """
    lines = [line for line in read_text(path, "it has the focal lengths").splitlines() if line]
    try:
        if not lines[0].startswith("NVM_V3"):
            raise ValueError("no NVM_V3 file")
        count = int(lines[1])
        rows = [line.split() for line in lines[2 : 2 + count]]
        if len(rows) < count:
            raise ValueError(f"{count} cameras announced, {len(rows)} there")
        return {image_stem(row[0]): float(row[1]) for row in rows}
    except (ValueError, IndexError) as error:
        raise UserError(f"{path} is unreadable: {error}") from error


def _camera(path: Path, focal: float) -> Camera:
    try:
        width, height = image_size(path)
    except BadFrame:  # the reader will say so when it comes to this frame
        width, height = 1920, 1080
    if not 0 < focal < 1e6:
        raise UserError(f"{path}: impossible focal length {focal} in reconstruction.nvm")
    return Camera(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)


def _folder(rest: str, root: Path) -> Path:
    how = f"download it from {URL} and unpack it there"
    return existing(root / "cambridge" / rest, f"cambridge/{rest}", how)


def open_named(rest: str, root: Path) -> Cambridge:
    """Opens `cambridge/SCENE`: training images, then test images."""
    return Cambridge(_folder(rest, root), name=f"cambridge/{rest}")


def open_split(scene: str, root: Path, split: str) -> FrameSource:
    """Opens a scene's official split."""
    name = f"cambridge/{scene} ({split})"
    return Cambridge(_folder(scene, root), splits=(split,), name=name)
