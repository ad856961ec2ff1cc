"""The layout of ACE's own scripts (Brachmann et al., CVPR 2023): `SCENE/{train,test}/...`.

```
rgb/NAME.{color.png,png,jpg}    colour
poses/NAME[.pose].txt           4 x 4, camera to world, OpenCV axes
calibration/NAME[.calibration].txt    one number (focal length; centre in the middle) or 3 x 3
depth/NAME[.depth].png          16 bit, millimetres; optional
```

Files are paired by NAME, never by order. There are no times: the position at 30 Hz stands for them.
"""

from pathlib import Path

import numpy as np

from ace_jax.data.frame import BadFrame, FrameSource
from ace_jax.data.image_recording import ImageRecording
from ace_jax.data.images import image_size
from ace_jax.data.places import images, last_two, natural, own_folder, read_text
from ace_jax.data.poses_file import read_pose_files
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import camera_from_matrix

UNITS_PER_METRE = 1000.0

_KINDS = (".color", ".pose", ".calibration", ".depth")  # may stand before the suffix
_HOLDS = "rgb/, poses/ and calibration/ (or train/ and test/ with these)"


class AceLayout(ImageRecording):
    """One split of a scene; each frame has intrinsics of its own."""

    def __init__(self, folder: str | Path, *, name: str | None = None) -> None:
        """Opens a split.

        Args:
            folder: holds `rgb/`, `poses/` and `calibration/`.
            name: for messages; the folder's last two names by default.

        Raises:
            UserError: something is missing or unreadable.
        """
        folder = Path(folder)
        name = name or last_two(folder)
        colour = by_name(images(folder / "rgb"))
        names = sorted(colour, key=natural)
        if not names:
            raise UserError(f"{name}: no images in {folder / 'rgb'}; it should hold {_HOLDS}")
        poses = by_name({path.stem: path for path in folder.glob("poses/*.txt")})
        missing = folder / "poses" / "missing"
        calibration = by_name({path.stem: path for path in folder.glob("calibration/*.txt")})
        without = [stem for stem in names if stem not in calibration]
        if without:
            raise UserError(f"{name}: no calibration/{without[0]}.txt for its image")
        depth = by_name(images(folder / "depth"))
        super().__init__(
            name,
            [_camera(calibration[stem], colour[stem]) for stem in names],
            [colour[stem] for stem in names],
            [depth.get(stem) for stem in names] if depth else None,
            names=names,
            timestamps=None,
            poses=read_pose_files([poses.get(stem, missing) for stem in names]),
            units_per_metre=UNITS_PER_METRE,
            resize_depth=True,
        )


def by_name(files: dict[str, Path]) -> dict[str, Path]:
    """Files by name without `.color`, `.pose`, ..."""
    result = {}
    for stem, path in files.items():
        for kind in _KINDS:
            stem = stem.removesuffix(kind)
        result[stem] = path
    return result


def _camera(path: Path, image: Path) -> Camera:
    text = read_text(path, "it should hold a focal length or a 3 x 3 matrix")
    try:
        values = np.array([float(value) for value in text.split()])
        width, height = image_size(image)
    except ValueError as error:
        raise UserError(f"{path}: {error}; it should hold a focal length or 3 x 3") from error
    except BadFrame as error:
        raise UserError(str(error)) from error
    if len(values) == 1:
        focal = float(values[0])
        camera = Camera(focal, focal, width / 2, height / 2, width, height)
    elif len(values) == 9:
        k = values.reshape(3, 3)
        camera = camera_from_matrix(k, width, height)
    else:
        raise UserError(f"{path} has {len(values)} numbers; it should hold a focal length or 3 x 3")
    if not (np.isfinite(values).all() and min(camera.fx, camera.fy) > 0):
        raise UserError(f"{path}: focal lengths must be positive and finite")
    return camera


def open_named(rest: str, root: Path) -> FrameSource:
    """Opens `ace/PATH`: a split's folder, or a scene's (its `train`)."""
    folder = own_folder(rest, root, _HOLDS)
    if not (folder / "rgb").is_dir() and (folder / "train").is_dir():
        folder = folder / "train"
    return AceLayout(folder, name=f"ace/{rest.strip('/')}")


def open_split(scene: str, root: Path, split: str) -> FrameSource:
    """Opens a scene's `train` or `test`."""
    folder = own_folder(scene, root, _HOLDS)
    return AceLayout(own_folder(str(folder / split), root, _HOLDS), name=f"ace/{scene} ({split})")
