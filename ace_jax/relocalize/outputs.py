"""Pose files of a relocalization run: ACE's lines and COLMAP's text format."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ace_jax.files import replacing
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import invert, to_quaternion


def write_ace_poses(
    path: Path,
    names: Sequence[str],
    world_from_camera: Sequence[np.ndarray | None],
    rotation_deg: np.ndarray,
    translation_m: np.ndarray,
    inliers: Sequence[int],
) -> None:
    """`name qw qx qy qz tx ty tz rot_err_deg trans_err_m inliers`, world to camera.

    Queries without a pose have no line; errors that are not known are written as nan.
    """
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for i, pose in enumerate(world_from_camera):
            if pose is None:
                continue
            file.write(
                f"{_one_word(names[i])} {_numbers(pose)} {rotation_deg[i]:.6f} "
                f"{translation_m[i]:.6f} {inliers[i]}\n"
            )


def write_colmap(
    folder: Path,
    names: Sequence[str],
    world_from_camera: Sequence[np.ndarray | None],
    cameras: Sequence[Camera],
) -> None:
    """`cameras.txt`, `images.txt` and an empty `points3D.txt`; poses world to camera.

    COLMAP counts pixels from the image's corner, so principal points gain half a pixel.
    """
    rows = [
        ("PINHOLE", c.width, c.height, float(c.fx), float(c.fy), c.cx + 0.5, c.cy + 0.5)
        for c in cameras
    ]
    distinct = list(dict.fromkeys(rows))
    with replacing(folder / "cameras.txt") as temporary:
        lines = [" ".join(map(str, (i + 1, *row))) for i, row in enumerate(distinct)]
        temporary.write_text("\n".join(["# CAMERA_ID MODEL WIDTH HEIGHT PARAMS", *lines, ""]))
    lines = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of points"]
    for i, pose in enumerate(world_from_camera):
        if pose is not None:
            camera = distinct.index(rows[i]) + 1
            lines += [f"{i + 1} {_numbers(pose)} {camera} {_one_word(names[i])}", ""]
    with replacing(folder / "images.txt") as temporary:
        temporary.write_text("\n".join([*lines, ""]))
    with replacing(folder / "points3D.txt") as temporary:
        temporary.write_text("# POINT3D_ID X Y Z R G B ERROR TRACK\n")


def _numbers(world_from_camera: np.ndarray) -> str:
    """`qw qx qy qz tx ty tz`, world to camera."""
    pose = invert(world_from_camera)
    return " ".join(f"{value:.9f}" for value in (*to_quaternion(pose[:3, :3]), *pose[:3, 3]))


def _one_word(name: str) -> str:
    """Both formats end a name at a space."""
    return name.replace(" ", "_")
