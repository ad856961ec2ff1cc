"""Replica (Straub et al., 2019) as rendered for iMAP and NICE-SLAM (Zhu et al., CVPR 2022).

`results/frameNNNNNN.jpg`, `results/depthNNNNNN.png`, `traj.txt` with one row-major 4 x 4
camera-to-world matrix a line (OpenCV axes), and `cam_params.json`. Depth is registered.
"""

import json
import re
from pathlib import Path

import numpy as np

from ace_jax.data.frame import RENDERED_INVERSE_DEPTH_SIGMA
from ace_jax.data.image_recording import ImageRecording
from ace_jax.data.places import existing
from ace_jax.data.poses_file import read_matrices
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera

URL = "https://cvg-data.inf.ethz.ch/nice-slam/data/Replica.zip"
FRAMES_PER_SECOND = 30.0
UNITS_PER_METRE = 6553.5
CAMERA = Camera(600.0, 600.0, 599.5, 339.5, 1200, 680)

_COLOUR = re.compile(r"frame(\d+)\.(?:jpg|jpeg|png)")


class Replica(ImageRecording):
    """One scene; line n of `traj.txt` is the pose of frame number n, whose time is n/30 s."""

    inverse_depth_sigma = RENDERED_INVERSE_DEPTH_SIGMA

    def __init__(self, folder: str | Path, *, name: str | None = None) -> None:
        """Opens a scene.

        Args:
            folder: the scene's folder. `cam_params.json` is looked for there and one level above,
                where the published archive has it; without it the published values serve.
            name: for messages; the folder's name by default.

        Raises:
            UserError: no frames, or an unreadable file.
        """
        folder = Path(folder)
        name = name or folder.name
        results = folder / "results"
        if not results.is_dir():
            raise UserError(f"{name}: no folder {results}; Replica's renderings have one")
        matches = (_COLOUR.fullmatch(file.name) for file in results.iterdir())
        files = {int(match[1]): match for match in matches if match}
        numbers = sorted(files)
        colour = [results / files[number][0] for number in numbers]
        depth = [results / f"depth{files[number][1]}.png" for number in numbers]
        camera, units_per_metre = _read_camera(folder)
        super().__init__(
            name,
            camera,
            colour,
            depth if any(path.exists() for path in depth) else None,
            names=[path.stem for path in colour],
            timestamps=np.array(numbers) / FRAMES_PER_SECOND,
            poses=_read_poses(folder / "traj.txt", numbers),
            units_per_metre=units_per_metre,
        )


def _read_camera(folder: Path) -> tuple[Camera, float]:
    for path in (folder / "cam_params.json", folder.parent / "cam_params.json"):
        if not path.exists():
            continue
        try:
            values = json.loads(path.read_text())["camera"]
            camera = Camera(
                *(float(values[key]) for key in ("fx", "fy", "cx", "cy")),
                width=int(values["w"]),
                height=int(values["h"]),
            )
            scale = float(values["scale"])
        except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise UserError(
                f'{path} is unreadable ({error}); it should hold {{"camera": {{"w", "h", "fx", '
                '"fy", "cx", "cy", "scale"}}'
            ) from error
        if not (min(camera.fx, camera.fy, scale) > 0 and np.isfinite(scale)):
            raise UserError(f"{path}: fx, fy and scale must be positive")
        return camera, scale
    return CAMERA, UNITS_PER_METRE


def _read_poses(path: Path, numbers: list[int]) -> np.ndarray | None:
    if not path.exists():
        return None
    poses = read_matrices(path)
    if numbers and numbers[-1] >= len(poses):
        raise UserError(f"{path} has {len(poses)} poses, but there is a frame number {numbers[-1]}")
    return poses[numbers]


def open_named(rest: str, root: Path) -> Replica:
    """Opens `replica/SCENE`."""
    parent = next(
        (root / n for n in ("replica", "Replica") if (root / n).is_dir()), root / "replica"
    )
    how = f"download {URL} and unpack it there"
    return Replica(existing(parent / rest, f"replica/{rest}", how), name=f"replica/{rest}")
