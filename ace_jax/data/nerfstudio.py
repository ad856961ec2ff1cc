"""Nerfstudio's `transforms.json` (Tancik et al., SIGGRAPH 2023), as `ns-process-data` writes it.

Poses are camera to world in OpenGL axes; intrinsics for all frames or for each; lens models OPENCV
and OPENCV_FISHEYE; pixel centres at +0.5, as in COLMAP. Depth, if there is any, is 16 bit PNG times
`depth_unit_scale_factor` (0.001 by default) metres; without depth the scale counts as unknown.
Frames without a pose are dropped and counted.
"""

from pathlib import Path
from typing import Any

import numpy as np

from ace_jax.data.arkit import OPENGL_FROM_OPENCV, camera_of, matrix, read_json
from ace_jax.data.frame import FrameSource
from ace_jax.data.image_recording import ImageRecording
from ace_jax.data.images import first_size
from ace_jax.data.places import inside, natural, own_path, with_slashes
from ace_jax.data.subset import SubsetSource
from ace_jax.errors import UserError
from ace_jax.geometry.distortion import Distortion, Fisheye, RadialTangential

FILE_NAME = "transforms.json"
_WHAT = 'it should hold {"fl_x": ..., "frames": [{"file_path", "transform_matrix"}, ...]}'
_PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV")


class Nerfstudio(ImageRecording):
    """One capture, in the natural order of file names, without times."""

    def __init__(self, path: str | Path, *, name: str | None = None) -> None:
        """Opens a capture.

        Args:
            path: the JSON file, or the folder that holds `transforms.json`.
            name: for messages; the folder's name by default.

        Raises:
            UserError: missing, unreadable, or an unsupported camera model.
        """
        path = Path(path)
        path = path / FILE_NAME if path.is_dir() else path
        folder, values = path.parent, read_json(path, _WHAT)
        name = name or folder.name
        entries = values.get("frames")
        good = isinstance(entries, list) and all(
            isinstance(e, dict) and isinstance(e.get("file_path"), str) for e in entries
        )
        if not good or not entries:
            raise UserError(f"{path}: no frames; {_WHAT}")
        entries = sorted(entries, key=lambda entry: natural(with_slashes(entry["file_path"])))
        self.file_names = [with_slashes(entry["file_path"]) for entry in entries]
        files = [inside(folder, file) for file in self.file_names]
        self.lists = {split: values.get(f"{split}_filenames") for split in ("train", "val", "test")}
        depth = [entry.get("depth_file_path") for entry in entries]
        merged = [values | entry for entry in entries]
        size = first_size(files, name) if "w" not in merged[0] or "h" not in merged[0] else None
        super().__init__(
            name,
            [_camera(entry, size, path) for entry in merged],
            files,
            [inside(folder, d) if isinstance(d, str) else None for d in depth]
            if any(isinstance(d, str) for d in depth)
            else None,
            names=self.file_names,
            timestamps=None,
            poses=np.stack([matrix(entry.get("transform_matrix")) for entry in entries]),
            recorded_from_camera=OPENGL_FROM_OPENCV,
            units_per_metre=1.0 / _depth_unit(values, path),
            distortion=[_lens(entry, path) for entry in merged],
            resize_depth=True,
        )
        self.metric = self.has_depth


def _depth_unit(values: dict[str, Any], path: Path) -> float:
    unit = values.get("depth_unit_scale_factor", 1e-3)
    if not isinstance(unit, int | float) or not 1e-9 < unit < 1e3:
        raise UserError(f"{path}: depth_unit_scale_factor {unit!r} is no length in metres")
    return float(unit)


def _camera(entry: dict[str, Any], size: tuple[int, int] | None, path: Path) -> Any:
    width, height = size or (entry.get("w"), entry.get("h"))
    focal = entry.get("fl_x")
    values = [focal, entry.get("fl_y", focal), entry.get("cx"), entry.get("cy")]
    try:  # pixel centres are at +0.5 there
        values[2:] = [float(value) - 0.5 for value in (entry["cx"], entry["cy"])]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: cx and cy are missing or no numbers ({error})") from error
    return camera_of(values, width, height, path)


def _lens(entry: dict[str, Any], path: Path) -> Distortion | None:
    model = entry.get("camera_model", "OPENCV")
    try:
        k1, k2, k3, k4, p1, p2 = (
            float(entry.get(key) or 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2")
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: a distortion coefficient is no number ({error})") from error
    if not np.isfinite([k1, k2, k3, k4, p1, p2]).all():
        raise UserError(f"{path}: a distortion coefficient is not finite")
    if model == "OPENCV_FISHEYE":
        return Fisheye(k1, k2, k3, k4)
    if model not in _PINHOLES:
        raise UserError(
            f"{path}: the camera model {model} is not supported; undistort the images first"
        )
    lens = RadialTangential(k1, k2, p1, p2, k3)
    return lens if any((k1, k2, p1, p2, k3)) else None


def open_named(rest: str, root: Path) -> Nerfstudio:
    """Opens `nerfstudio/PATH`, a folder or a JSON file."""
    return Nerfstudio(own_path(rest, root), name=f"nerfstudio/{rest.strip('/')}")


def open_split(scene: str, root: Path, split: str) -> FrameSource:
    """Opens the frames of `train_filenames` or `test_filenames`."""
    source = open_named(scene, root)
    chosen = source.lists[split]
    if not isinstance(chosen, list):
        raise UserError(f"nerfstudio/{scene} has no {split}_filenames")
    names = {with_slashes(name) for name in chosen if isinstance(name, str)}
    kept = [i for i, name in enumerate(source.file_names) if name in names]
    return SubsetSource(source, indices=kept)
