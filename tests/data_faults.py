"""Plants one fault into a copy of a clean recording in the `folder` layout."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from ace_jax.data.checks.motion import OPENGL
from ace_jax.data.folder import Folder
from ace_jax.data.images import read_depth_units
from ace_jax.data.intrinsics import read_intrinsics
from ace_jax.data.registration import DepthRegistration
from ace_jax.data.seven_scenes import COLOUR_FROM_DEPTH, DEPTH_CENTRE
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import invert


def copy(clean: Path, target: Path) -> Path:
    """A copy whose files may be replaced (not edited in place: they are hard links)."""
    shutil.copytree(clean, target, copy_function=lambda a, b: Path(b).hardlink_to(a))
    return target


def _text(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def _intrinsics(folder: Path, change: Callable[[dict], dict]) -> None:
    values = json.loads((folder / "intrinsics.json").read_text())
    _text(folder / "intrinsics.json", json.dumps(change(values)))


def _poses(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    poses = np.loadtxt(folder / "poses.txt").reshape(-1, 4, 4)
    lines = [" ".join(f"{v:.12g}" for v in pose.ravel()) for pose in change(poses)]
    _text(folder / "poses.txt", "\n".join(lines) + "\n")


def _image(path: Path, image: np.ndarray) -> None:
    path.unlink()
    cv2.imwrite(str(path), image)


def _stretch(folder: Path) -> None:
    """Squeezes all images to three quarters of their height, with the right intrinsics."""
    for path in [*folder.glob("rgb/*"), *folder.glob("depth/*")]:
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        kind = cv2.INTER_NEAREST if image.dtype == np.uint16 else cv2.INTER_AREA
        size = (image.shape[1], image.shape[0] * 3 // 4)
        _image(path, cv2.resize(image, size, interpolation=kind))

    def squeezed(values: dict) -> dict:
        cy = (values["cy"] + 0.5) * 0.75 - 0.5
        return values | {"fy": values["fy"] * 0.75, "cy": cy, "height": values["height"] * 3 // 4}

    _intrinsics(folder, squeezed)


def _swap_focals(folder: Path) -> None:
    # Both cameras have fx = fy almost, where a swap changes nothing.
    _stretch(folder)
    _intrinsics(folder, lambda values: values | {"fx": values["fy"], "fy": values["fx"]})


def _unregister(folder: Path) -> None:
    """Warps registered depth back into a Kinect's depth camera."""
    camera = Folder(folder).camera
    depth_camera = Camera(585.0, 585.0, *DEPTH_CENTRE, camera.width, camera.height)
    warp = DepthRegistration(camera, depth_camera, invert(COLOUR_FROM_DEPTH))
    scale = read_intrinsics(folder / "intrinsics.json").depth_scale
    for path in folder.glob("depth/*"):
        depth = warp(read_depth_units(path).astype(np.float32) / np.float32(scale))
        _image(path, np.uint16(np.rint(depth * scale)))


def _drop(folder: Path) -> None:
    names = sorted(path.stem for path in folder.glob("rgb/*"))
    gone = names[30:36]
    for name in gone:
        (folder / "rgb" / f"{name}.png").unlink()
        (folder / "depth" / f"{name}.png").unlink()
    kept = [i for i, name in enumerate(names) if name not in gone]
    for file in ("times.txt", "poses.txt"):
        text = (folder / file).read_text()
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        _text(folder / file, "\n".join(lines[i] for i in kept) + "\n")


def _break_poses(poses: np.ndarray) -> np.ndarray:
    poses = poses.copy()
    poses[7] = np.nan
    poses[20, 0, 3] = -np.inf
    return poses


def _shrink_two(folder: Path) -> None:
    for path in sorted(folder.glob("rgb/*"))[10:12]:
        _image(path, cv2.resize(cv2.imread(str(path)), None, fx=0.5, fy=0.5))


def _without_size(values: dict) -> dict:
    values = {key: value for key, value in values.items() if key not in ("width", "height")}
    return values | {key: 2 * values[key] for key in ("fx", "fy", "cx", "cy")}


def _scale_depth(factor: float) -> Callable[[Path], None]:
    return lambda folder: _intrinsics(
        folder, lambda values: values | {"depth_scale": values["depth_scale"] * factor}
    )


def _shift(by: int) -> Callable[[Path], None]:
    def shifted(poses: np.ndarray) -> np.ndarray:
        return poses[np.clip(np.arange(len(poses)) - by, 0, len(poses) - 1)]

    return lambda folder: _poses(folder, shifted)


# Name of a fault as `check` calls it, and how it is planted.
FAULTS: dict[str, Callable[[Path], None]] = {
    "depth_scale": _scale_depth(0.2),
    "depth_unit": _scale_depth(0.001),
    "poses_inverted": lambda folder: _poses(folder, invert),
    "opengl_axes": lambda folder: _poses(folder, lambda poses: poses @ OPENGL),
    "swapped_focals": _swap_focals,
    "unregistered_depth": _unregister,
    "time_shift": _shift(1),
    "dropped_frames": _drop,
    "intrinsics_size": lambda folder: _intrinsics(folder, _without_size),
    "not_orthonormal": lambda folder: _poses(
        folder, lambda poses: poses @ np.diag([1.02, 1.0, 0.99, 1.0])
    ),
    "nan_pose": lambda folder: _poses(folder, _break_poses),
    "mixed_sizes": _shrink_two,
}
# Further ones, and what must not be mistaken for a fault.
VARIANTS: dict[str, tuple[str | None, Callable[[Path], None]]] = {
    "squeezed, right intrinsics": (None, _stretch),
    "poses one frame early": ("time_shift", _shift(-1)),
}
