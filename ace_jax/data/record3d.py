"""Record3D's export of an iPhone recording: `metadata.json`, `rgb/N.jpg`, `depth/N.png`.

`metadata.json` has `w`, `h`, `K` (3 x 3, column by column), `perFrameIntrinsicCoeffs` (fx, fy, cx,
cy of each frame), `poses` (qx, qy, qz, qw, tx, ty, tz; camera to world, ARKit's axes, which are
OpenGL's), `frameTimestamps` and `fps`. Depth is read from `depth/N.png`, 16 bit, millimetres, of
any size (the sensor's is 192 x 256); EXR depth has to be converted to it.
"""

from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from ace_jax.data.arkit import OPENGL_FROM_OPENCV, camera_of, read_json
from ace_jax.data.image_recording import ImageRecording
from ace_jax.data.images import first_size
from ace_jax.data.places import images, natural, own_folder
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import from_quaternion

UNITS_PER_METRE = 1000.0
_WHAT = "metadata.json, rgb/ and depth/, as Record3D exports them"


class Record3D(ImageRecording):
    """One recording; image N belongs to entry N of the lists of `metadata.json`."""

    def __init__(self, folder: str | Path, *, name: str | None = None) -> None:
        """Opens an export.

        Args:
            folder: holds `metadata.json`.
            name: for messages; the folder's name by default.

        Raises:
            UserError: something is missing or unreadable.
        """
        folder = Path(folder)
        name = name or folder.name
        path = folder / "metadata.json"
        values = read_json(path, f"the folder should hold {_WHAT}")
        colour = {stem: file for stem, file in images(folder / "rgb").items() if stem.isdecimal()}
        stems = sorted(colour, key=natural)
        if not stems:
            raise UserError(f"{name}: no numbered images in {folder / 'rgb'}")
        numbers = [int(stem) for stem in stems]
        depth = images(folder / "depth")
        if not depth and any(folder.glob("depth/*.exr")):
            logging.warning("%s: EXR depth is not read; convert it to 16 bit PNG, in mm", name)
        files = [colour[stem] for stem in stems]
        size = first_size(files, name)
        super().__init__(
            name,
            [_camera(values, number, size, path) for number in numbers],
            files,
            [depth.get(stem) for stem in stems] if depth else None,
            names=stems,
            timestamps=_times(values, numbers, path),
            poses=_poses(values, numbers, path),
            recorded_from_camera=OPENGL_FROM_OPENCV,
            units_per_metre=UNITS_PER_METRE,
            resize_depth=True,
        )


def _camera(values: dict[str, Any], number: int, size: tuple[int, int], path: Path) -> Camera:
    per_frame, k = values.get("perFrameIntrinsicCoeffs"), values.get("K")
    if isinstance(per_frame, list) and number < len(per_frame):
        numbers = per_frame[number]
    elif isinstance(k, list) and len(k) == 9:
        numbers = [k[0], k[4], k[6], k[7]]
    else:
        raise UserError(f"{path}: neither K nor perFrameIntrinsicCoeffs for frame {number}")
    if not isinstance(numbers, list) or len(numbers) != 4:
        raise UserError(f"{path}: intrinsics of frame {number} are not fx, fy, cx, cy")
    try:  # intrinsics are for w x h; images may have been exported in another size
        sx, sy = (
            size[0] / float(values.get("w", size[0])),
            size[1] / float(values.get("h", size[1])),
        )
        fx, fy, cx, cy = (float(value) for value in numbers)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(f"{path}: unusable intrinsics ({error})") from error
    return camera_of([fx * sx, fy * sy, cx * sx, cy * sy], *size, path)


def _times(values: dict[str, Any], numbers: list[int], path: Path) -> np.ndarray:
    times, fps = values.get("frameTimestamps"), values.get("fps", 30.0)
    try:
        if isinstance(times, list) and len(times) > max(numbers):
            result = np.array([float(times[number]) for number in numbers])
        else:
            result = np.array(numbers) / float(fps)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise UserError(f"{path}: unusable frameTimestamps or fps ({error})") from error
    if not np.isfinite(result).all():
        raise UserError(f"{path}: times that are not finite")
    return result


def _poses(values: dict[str, Any], numbers: list[int], path: Path) -> np.ndarray | None:
    poses = values.get("poses")
    if not isinstance(poses, list) or not poses:
        return None
    try:
        rows = [poses[n] if n < len(poses) else [np.nan] * 7 for n in numbers]
        table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: poses are not qx, qy, qz, qw, tx, ty, tz ({error})") from error
    result = from_quaternion(table[:, [3, 0, 1, 2]], table[:, 4:])
    result[np.isnan(table).all(axis=1)] = np.nan
    return result


def open_named(rest: str, root: Path) -> Record3D:
    """Opens `record3d/PATH`."""
    return Record3D(own_folder(rest, root, _WHAT), name=f"record3d/{rest.strip('/')}")
