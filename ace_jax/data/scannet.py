"""ScanNet (Dai et al., CVPR 2017), as its SensReader exports a scan.

`scannet/scene0000_00/{color/N.jpg, depth/N.png, pose/N.txt, intrinsic/intrinsic_{color,depth}.txt}`
(also below `scans/`). Colour is 1296 x 968, depth 640 x 480 in millimetres, with one centre; it is
looked up at the colour pixels. Poses are camera to world; -inf where tracking failed.
"""

import re
from pathlib import Path

import numpy as np

from ace_jax.data.image_recording import ImageRecording
from ace_jax.data.images import first_size
from ace_jax.data.places import existing, images
from ace_jax.data.poses_file import read_pose_files
from ace_jax.data.registration import DepthResampling
from ace_jax.data.twelve_scenes import checked
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import camera_from_matrix

URL = "http://www.scan-net.org/"
FRAMES_PER_SECOND = 30.0
UNITS_PER_METRE = 1000.0


class ScanNet(ImageRecording):
    """One scan. `pose_counts` says how many poses are infinite; those frames have none."""

    def __init__(self, folder: str | Path, *, name: str | None = None) -> None:
        """Opens a scan.

        Args:
            folder: the exported scan.
            name: for messages; the folder's name by default.

        Raises:
            UserError: something is missing or unreadable.
        """
        folder = Path(folder)
        name = name or folder.name
        colour, depth = images(folder / "color"), images(folder / "depth")
        names = sorted((stem for stem in colour if re.fullmatch(r"[0-9]{1,9}", stem)), key=int)
        if not names:
            raise UserError(f"{name}: no numbered images in {folder / 'color'}")
        camera = _camera(folder / "intrinsic/intrinsic_color.txt", [colour[n] for n in names], name)
        to_colour = None
        if depth:
            depth_camera = _camera(
                folder / "intrinsic/intrinsic_depth.txt", list(depth.values()), name
            )
            to_colour = DepthResampling(depth_camera, camera)
        super().__init__(
            name,
            camera,
            [colour[stem] for stem in names],
            [depth.get(stem) for stem in names] if depth else None,
            names=names,
            timestamps=np.array([int(stem) for stem in names]) / FRAMES_PER_SECOND,
            poses=read_pose_files([folder / "pose" / f"{stem}.txt" for stem in names]),
            units_per_metre=UNITS_PER_METRE,
            to_colour=to_colour,
        )


def _camera(path: Path, files: list[Path], name: str) -> Camera:
    poses = read_pose_files([path])
    if poses is None or not np.isfinite(poses).all():
        raise UserError(f"{path}: missing or unreadable; it should hold a 4 x 4 matrix")
    k = poses[0]
    return checked(camera_from_matrix(k, *first_size(files, name)), path)


def open_named(rest: str, root: Path) -> ScanNet:
    """Opens `scannet/SCAN`, such as `scannet/scene0000_00`."""
    base = root / "scannet"
    folder = base / "scans" / rest if (base / "scans" / rest).is_dir() else base / rest
    how = f"ask for access at {URL}, and export the .sens file with SensReader"
    return ScanNet(existing(folder, f"scannet/{rest}", how), name=f"scannet/{rest}")
