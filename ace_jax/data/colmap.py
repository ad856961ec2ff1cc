"""COLMAP models (Schoenberger and Frahm, CVPR 2016): `cameras` and `images`, as text or binary.

A project's folder holds `images/` and the model, in `sparse/0`, `sparse` or at the top; `depth/`
(our exports: 16 bit, millimetres, by image name) is optional. Pixel centres are at +0.5 there:
0.5 is taken off the principal point. Poses are world to camera, quaternion w first. Lens
distortion is removed at reading. Formats: COLMAP's documentation, "Output Format".
"""

import dataclasses
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ace_jax.data.frame import FrameSource
from ace_jax.data.image_recording import ImageRecording
from ace_jax.data.places import colmap_model, inside, natural, own_folder, read_text, with_slashes
from ace_jax.data.places import images as images_in
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.distortion import Distortion, Fisheye, RadialTangential
from ace_jax.geometry.rigid import from_quaternion, invert

UNITS_PER_METRE = 1000.0
_MAX_SIDE = 65536  # pixels; a forged file must not ask for more
_MAX_NAME = 4096  # bytes
_HOLDS = "images/ and a model (cameras.txt and images.txt, or .bin) in sparse/0, sparse or beside"


@dataclasses.dataclass(frozen=True)
class Model:
    """One of COLMAP's camera models.

    Attributes:
        name: as in `cameras.txt`.
        count: how many parameters it has.
        lens: fx, fy, cx, cy and the distortion (or None) of its parameters.
    """

    name: str
    count: int
    lens: Callable[..., tuple[float, float, float, float, Distortion | None]]


# By id, as in `cameras.bin`; None: a model that the rest of the code cannot undo.
MODELS: dict[int, Model | str] = {
    0: Model("SIMPLE_PINHOLE", 3, lambda f, cx, cy: (f, f, cx, cy, None)),
    1: Model("PINHOLE", 4, lambda fx, fy, cx, cy: (fx, fy, cx, cy, None)),
    2: Model("SIMPLE_RADIAL", 4, lambda f, cx, cy, k: (f, f, cx, cy, RadialTangential(k))),
    3: Model("RADIAL", 5, lambda f, cx, cy, *k: (f, f, cx, cy, RadialTangential(*k))),
    4: Model("OPENCV", 8, lambda fx, fy, cx, cy, *k: (fx, fy, cx, cy, RadialTangential(*k))),
    5: Model("OPENCV_FISHEYE", 8, lambda fx, fy, cx, cy, *k: (fx, fy, cx, cy, Fisheye(*k))),
    6: Model("FULL_OPENCV", 12, lambda fx, fy, cx, cy, *k: (fx, fy, cx, cy, RadialTangential(*k))),
    7: "FOV",
    8: Model("SIMPLE_RADIAL_FISHEYE", 4, lambda f, cx, cy, k: (f, f, cx, cy, Fisheye(k))),
    9: Model("RADIAL_FISHEYE", 5, lambda f, cx, cy, *k: (f, f, cx, cy, Fisheye(*k))),
    10: "THIN_PRISM_FISHEYE",
}


@dataclasses.dataclass(frozen=True)
class Image:
    """One line of `images`: name, camera, and (4, 4) world_from_camera."""

    name: str
    camera_id: int
    world_from_camera: np.ndarray


class Colmap(ImageRecording):
    """The registered images of a model, in the natural order of their names."""

    def __init__(self, folder: str | Path, *, name: str | None = None) -> None:
        """Opens a project.

        Args:
            folder: see the module.
            name: for messages; the folder's name by default.

        Raises:
            UserError: something is missing, damaged, or of an unsupported camera model.
        """
        folder = Path(folder)
        name = name or folder.name
        cameras, entries = read_model(model_folder(folder))
        if not entries:
            raise UserError(f"{name}: the model has no registered images")
        entries = sorted(entries, key=lambda entry: natural(entry.name))
        missing = {entry.camera_id for entry in entries} - cameras.keys()
        if missing:
            raise UserError(f"{name}: images have camera {min(missing)}, which the model lacks")
        depth = images_in(folder / "depth")
        super().__init__(
            name,
            [cameras[entry.camera_id][0] for entry in entries],
            [inside(folder / "images", entry.name) for entry in entries],
            [depth.get(Path(entry.name).stem) for entry in entries] if depth else None,
            names=[entry.name for entry in entries],
            timestamps=None,
            poses=np.stack([entry.world_from_camera for entry in entries]),
            units_per_metre=UNITS_PER_METRE,
            distortion=[cameras[entry.camera_id][1] for entry in entries],
            resize_depth=True,
        )
        self.metric = self.has_depth  # a model of images alone knows no scale


def model_folder(folder: Path) -> Path:
    """Where a project's model is.

    Raises:
        UserError: nowhere.
    """
    place = colmap_model(folder)
    if place is None:
        raise UserError(f"{folder}: no COLMAP model; it should hold {_HOLDS}")
    return place


def read_model(
    folder: Path,
) -> tuple[dict[int, tuple[Camera, Distortion | None]], list[Image]]:
    """Cameras by id and registered images of a model; binary files are preferred.

    Raises:
        UserError: damaged, or of an unsupported camera model.
    """
    binary = (folder / "images.bin").is_file()
    read = _read_binary if binary else _read_text
    try:
        return read(folder)
    except (ValueError, IndexError, struct.error, OverflowError) as error:
        raise UserError(f"{folder}: the COLMAP model is damaged ({error}); export it again") from (
            error
        )
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from error


def make_camera(
    model: Model | str, width: int, height: int, parameters: list[float]
) -> tuple[Camera, Distortion | None]:
    """A camera with pixel centres at integers, and its distortion.

    Raises:
        UserError: the model is not supported.
        ValueError: impossible numbers.
    """
    if isinstance(model, str):
        raise UserError(
            f"the camera model {model} is not supported; run `colmap image_undistorter` first"
        )
    if len(parameters) != model.count:
        raise ValueError(f"{model.name} has {model.count} parameters, not {len(parameters)}")
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        raise ValueError(f"an image of {width} x {height}")
    if not np.isfinite(parameters).all():
        raise ValueError("a camera parameter is not finite")
    fx, fy, cx, cy, lens = model.lens(*parameters)
    if min(fx, fy) <= 0:
        raise ValueError("a focal length that is not positive")
    if lens is not None and not any(dataclasses.astuple(lens)):
        lens = None if isinstance(lens, RadialTangential) else lens
    return Camera(fx, fy, cx - 0.5, cy - 0.5, width, height), lens


def _model(name: str) -> Model | str:
    for model in MODELS.values():
        if name == (model if isinstance(model, str) else model.name):
            return model
    return name


def _image(name: str, camera_id: int, wxyz_xyz: np.ndarray) -> Image:
    camera_from_world = from_quaternion(wxyz_xyz[:4], wxyz_xyz[4:])
    return Image(with_slashes(name), camera_id, invert(camera_from_world))


def _lines(path: Path) -> Iterator[str]:
    for line in read_text(path, "a COLMAP model needs it").splitlines():
        if not line.startswith("#"):
            yield line


def _read_text(folder: Path) -> tuple[dict, list[Image]]:
    cameras = {}
    for line in _lines(folder / "cameras.txt"):
        fields = line.split()
        if fields:
            number, model, width, height, *parameters = fields
            cameras[int(number)] = make_camera(
                _model(model), int(width), int(height), [float(value) for value in parameters]
            )
    # Every second line lists an image's points, and may be empty.
    entries = []
    for line in list(_lines(folder / "images.txt"))[::2]:
        if line.strip():
            fields = line.split(maxsplit=9)
            pose = np.array([float(value) for value in fields[1:8]])
            entries.append(_image(fields[9].strip(), int(fields[8]), pose))
    return cameras, entries


class _Bytes:
    """Little-endian numbers from a buffer; running out is a `struct.error`."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, layout: str) -> tuple:
        values = struct.unpack_from(f"<{layout}", self._data, self._at)
        self.skip(struct.calcsize(f"<{layout}"))
        return values

    def skip(self, count: int) -> None:
        self._at += count
        if self._at > len(self._data):
            raise struct.error("the file ends early")

    def name(self) -> str:
        end = self._data.index(b"\0", self._at, self._at + _MAX_NAME)
        text = self._data[self._at : end].decode()
        self._at = end + 1
        return text


def _read_binary(folder: Path) -> tuple[dict, list[Image]]:
    data = _Bytes((folder / "cameras.bin").read_bytes())
    cameras = {}
    for _ in range(data.take("Q")[0]):
        number, kind, width, height = data.take("iiQQ")
        model = MODELS.get(kind, f"number {kind}")
        count = 0 if isinstance(model, str) else model.count
        cameras[number] = make_camera(model, width, height, list(data.take(f"{count}d")))
    data = _Bytes((folder / "images.bin").read_bytes())
    entries = []
    for _ in range(data.take("Q")[0]):
        _, *pose, camera_id = data.take("i7di")
        entries.append(_image(data.name(), camera_id, np.array(pose)))
        data.skip(24 * data.take("Q")[0])  # points: x, y, and the 3D point's id
    return cameras, entries


def open_named(rest: str, root: Path) -> FrameSource:
    """Opens `colmap/PATH`."""
    return Colmap(own_folder(rest, root, _HOLDS), name=f"colmap/{rest.strip('/')}")
