"""Polycam's raw export of an iPhone or iPad capture: `keyframes/{images,cameras,depth}/TIME.*`.

`corrected_images` and `corrected_cameras` (Polycam's own optimisation) are preferred where they
are. A camera's JSON has `fx`, `fy`, `cx`, `cy`, `width`, `height` and `t_00` to `t_23`, row by row:
camera to world, ARKit's axes, which are OpenGL's. Depth is 16 bit, millimetres, 256 x 192. File
names are times in microseconds.
"""

from pathlib import Path

import numpy as np

from ace_jax.data.arkit import OPENGL_FROM_OPENCV, camera_of, matrix, read_json
from ace_jax.data.image_recording import ImageRecording
from ace_jax.data.places import images, own_folder
from ace_jax.errors import UserError

UNITS_PER_METRE = 1000.0
_TICKS = 1e6  # of the file names, a second
_WHAT = "keyframes/ with images/, cameras/ and depth/, as Polycam's raw export has it"


class Polycam(ImageRecording):
    """One capture; every frame has intrinsics of its own."""

    def __init__(self, folder: str | Path, *, name: str | None = None) -> None:
        """Opens an export.

        Args:
            folder: holds `keyframes/`.
            name: for messages; the folder's name by default.

        Raises:
            UserError: something is missing or unreadable.
        """
        folder = Path(folder)
        name = name or folder.name
        keyframes = folder / "keyframes"
        corrected = (keyframes / "corrected_cameras").is_dir()
        prefix = "corrected_" if corrected else ""
        colour = images(keyframes / f"{prefix}images")
        stems = sorted((stem for stem in colour if stem.isdecimal() and len(stem) < 18), key=int)
        if not stems:
            raise UserError(
                f"{name}: no images in {keyframes / f'{prefix}images'}; expected {_WHAT}"
            )
        depth = images(keyframes / "depth")
        paths = [keyframes / f"{prefix}cameras" / f"{stem}.json" for stem in stems]
        values = [read_json(path, "each image has a camera there") for path in paths]
        keys = ("fx", "fy", "cx", "cy")
        super().__init__(
            name,
            [
                camera_of([v.get(k) for k in keys], v.get("width"), v.get("height"), path)
                for v, path in zip(values, paths, strict=True)
            ],
            [colour[stem] for stem in stems],
            [depth.get(stem) for stem in stems] if depth else None,
            names=stems,
            timestamps=np.array([int(stem) for stem in stems]) / _TICKS,
            poses=np.stack([_pose(v) for v in values]),
            recorded_from_camera=OPENGL_FROM_OPENCV,
            units_per_metre=UNITS_PER_METRE,
            resize_depth=True,
        )


def _pose(values: dict) -> np.ndarray:
    entries = [values.get(f"t_{row}{column}") for row in range(3) for column in range(4)]
    return matrix(entries, (3, 4))


def open_named(rest: str, root: Path) -> Polycam:
    """Opens `polycam/PATH`."""
    return Polycam(own_folder(rest, root, _WHAT), name=f"polycam/{rest.strip('/')}")
