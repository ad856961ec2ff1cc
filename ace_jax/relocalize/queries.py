"""Query images from single files, with intrinsics from a file, EXIF or a flag."""

import dataclasses
import math
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from ace_jax.data.frame import BadFrame, Frame
from ace_jax.data.images import image_size, read_rgb
from ace_jax.data.intrinsics import FILE_NAME, Intrinsics, pixels_of, read_intrinsics
from ace_jax.data.map_free import ImageIntrinsics
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera

SUFFIXES = (".jpg", ".jpeg", ".png")
_EXIF_IFD, _FOCAL_35MM = 0x8769, 0xA405
# What Pillow says of damaged headers, and of sizes that OpenCV does not read out of them.
_UNREADABLE = (
    *(OSError, ValueError, SyntaxError, LookupError, TypeError, struct.error),
    Image.DecompressionBombError,
)
_FILM_WIDTH = 36.0  # mm, of the 35 mm film that EXIF's equivalent focal length refers to


class ImageQueries:
    """Image files in the order of their names; a `FrameSource` without poses.

    Attributes:
        camera: of the first image; each frame carries its own.
    """

    has_depth = False

    def __init__(self, path: str | Path, intrinsics: str | None = None) -> None:
        """Opens one image or a folder of images.

        Args:
            path: the image or the folder.
            intrinsics: a file as `intrinsics.json`, or map-free's `intrinsics.txt` with a line for
                each image, or `fx,fy,cx,cy`, or `f` in pixels; None for the folder's
                `intrinsics.json` (that of the recording, if the folder is its `rgb`), else each
                image's EXIF.

        Raises:
            UserError: no images there, or their intrinsics are not known.
        """
        path = Path(path)
        if path.is_dir():
            self._files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        else:
            self._files = [path] if path.is_file() else []
        if not self._files:
            raise UserError(f"no image (PNG or JPEG) at {path}")
        self.name = str(path)
        self._intrinsics = _given(intrinsics, self._files[0].parent)
        self.camera = self._first_camera()

    def _first_camera(self) -> Camera:
        for file in self._files:
            try:
                return self._camera(file)
            except BadFrame:
                continue
        raise UserError(f"none of the {len(self._files)} images at {self.name} can be read")

    def _camera(self, file: Path) -> Camera:
        width, height = image_size(file)
        known = self._intrinsics
        if known is not None:
            camera = (
                known.camera_of(file)
                if isinstance(known, ImageIntrinsics)
                else known.camera(width, height)
            )
            if (camera.width, camera.height) != (width, height):
                raise UserError(
                    f"{file} has {width} x {height} pixels, its intrinsics are for "
                    f"{camera.width} x {camera.height}"
                )
            return camera
        focal = exif_focal(file, width, height)
        if focal is None:
            raise UserError(
                f"{file} does not tell its focal length; pass --intrinsics FILE, "
                f"--intrinsics fx,fy,cx,cy or put {FILE_NAME} beside it"
            )
        return Camera(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Frame:
        file = self._files[index]
        camera = self._camera(file)
        return Frame(
            index=index,
            name=file.name,
            timestamp=float(index),
            rgb=read_rgb(file),
            depth=None,
            camera=camera,
        )

    def timestamps(self) -> np.ndarray:
        """(N,) positions."""
        return np.arange(len(self), dtype=np.float64)

    def names(self) -> list[str]:
        """N file names."""
        return [file.name for file in self._files]

    def poses(self) -> None:
        """Images have none."""
        return None


@dataclasses.dataclass(frozen=True)
class _FocalLength:
    """One focal length, the principal point in the image's centre."""

    focal: float

    def camera(self, width: int, height: int) -> Camera:
        return Camera(self.focal, self.focal, (width - 1) / 2, (height - 1) / 2, width, height)


def _given(text: str | None, folder: Path) -> Intrinsics | ImageIntrinsics | _FocalLength | None:
    if text is None:
        # In a recording, `rgb` and its intrinsics are side by side.
        places = [folder, folder.parent] if folder.name == "rgb" else [folder]
        found = [place / FILE_NAME for place in places if (place / FILE_NAME).is_file()]
        return _undistorted(read_intrinsics(found[0]), found[0]) if found else None
    if Path(text).is_file() and Path(text).suffix == ".txt":
        return ImageIntrinsics(text)
    if Path(text).is_file():
        return _undistorted(read_intrinsics(Path(text)), Path(text))
    try:
        numbers = pixels_of(text)
    except ValueError as error:
        raise UserError(
            f"--intrinsics {text!r} is neither a file nor fx,fy,cx,cy nor a focal length"
        ) from error
    if len(numbers) not in (1, 4):
        raise UserError(f"--intrinsics {text!r}: give fx,fy,cx,cy or one focal length, in pixels")
    return _FocalLength(numbers[0]) if len(numbers) == 1 else Intrinsics(*numbers)


def _undistorted(intrinsics: Intrinsics, path: Path) -> Intrinsics:
    if any(intrinsics.distortion):
        raise UserError(
            f"{path} states lens distortion; undistort the images first, or use --seq folder/PATH"
        )
    return intrinsics


def exif_focal(file: Path, width: int, height: int) -> float | None:
    """Focal length in pixels from EXIF's 35 mm equivalent, None if it is not there."""
    try:
        with Image.open(file) as image:
            value = image.getexif().get_ifd(_EXIF_IFD).get(_FOCAL_35MM)
    except _UNREADABLE as error:
        raise BadFrame(f"{file} cannot be read: {error}") from error
    try:
        focal = float(value) / _FILM_WIDTH * max(width, height)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return focal if 0 < focal < math.inf else None
