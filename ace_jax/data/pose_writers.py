"""Writes poses: TUM trajectories, named poses as in ACE, COLMAP text models."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ace_jax.data.seed_points import SeedPoints
from ace_jax.files import replacing
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import invert, to_quaternion

# First lines: which way a pose goes is in every file. Readers skip lines that begin with #.
_TUM_HEADER = "# timestamp tx ty tz qx qy qz qw: camera to world, seconds, metres\n"
_ACE_HEADER = (
    "# name qw qx qy qz tx ty tz rot_err_deg trans_err_m inliers: world to camera, metres\n"
)


def tum_text(timestamps: np.ndarray, world_from_camera: np.ndarray) -> str:
    """Lines of `t tx ty tz qx qy qz qw`, one for each known pose, after one that says so.

    Times have as many digits as it takes to read back the same float64.

    Args:
        timestamps: (N,) seconds; a frame whose time is not finite is left out.
        world_from_camera: (N, 4, 4), metres; a frame whose pose is not finite is left out.
    """
    lines = [_TUM_HEADER]
    for seconds, pose in zip(timestamps, np.asarray(world_from_camera), strict=True):
        if np.isfinite(seconds) and np.isfinite(pose).all():
            w, x, y, z = to_quaternion(pose[:3, :3])
            time = np.format_float_positional(seconds, trim="0", min_digits=6)
            numbers = " ".join(f"{value:.9f}" for value in (*pose[:3, 3], x, y, z, w))
            lines.append(f"{time} {numbers}\n")
    return "".join(lines)


def write_trajectory_tum(
    path: str | Path, timestamps: np.ndarray, world_from_camera: np.ndarray
) -> None:
    """Writes `tum_text` to a file."""
    with replacing(path) as temporary:
        temporary.write_text(tum_text(timestamps, world_from_camera), encoding="ascii")


def write_ace_poses(
    path: Path,
    names: Sequence[str],
    world_from_camera: Sequence[np.ndarray | None],
    rotation_deg: np.ndarray,
    translation_m: np.ndarray,
    inliers: Sequence[int],
) -> None:
    """Writes `name qw qx qy qz tx ty tz rot_err_deg trans_err_m inliers`, world to camera.

    Queries without a pose have no line; errors that are not known are written as nan.
    """
    lines = [
        f"{_one_word(names[i])} {_camera_from_world(pose)} {rotation_deg[i]:.6f} "
        f"{translation_m[i]:.6f} {inliers[i]}\n"
        for i, pose in enumerate(world_from_camera)
        if pose is not None
    ]
    with replacing(path) as temporary:
        temporary.write_text(_ACE_HEADER + "".join(lines), encoding="utf-8")


def write_submission(
    path: str | Path, names: Sequence[str], world_from_camera: Sequence[np.ndarray | None]
) -> None:
    """Lines of `name qw qx qy qz tx ty tz`, world to camera, as visuallocalization.net takes them.

    A submission has no header, and no line for a query without a pose. Names are the queries' own:
    the benchmark wants them without folders, or, for RobotCar, with the camera's.
    """
    lines = submission_lines(names, world_from_camera)
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def submission_lines(
    names: Sequence[str], world_from_camera: Sequence[np.ndarray | None]
) -> list[str]:
    """`name qw qx qy qz tx ty tz`, world to camera, for each query that has a pose."""
    return [
        f"{_one_word(name)} {_camera_from_world(pose)}"
        for name, pose in zip(names, world_from_camera, strict=True)
        if pose is not None
    ]


def colmap_texts(
    names: Sequence[str],
    world_from_camera: Sequence[np.ndarray | None],
    cameras: Sequence[Camera],
    points: Sequence[SeedPoints | None] | None = None,
) -> dict[str, str]:
    """The files of a COLMAP text model by name: `cameras.txt`, `images.txt`, `points3D.txt`.

    COLMAP counts pixels from the image's corner, so principal points gain half a pixel. An image
    without a pose is not registered.

    Args:
        names: N image names.
        world_from_camera: N poses (4, 4), or None.
        cameras: N.
        points: that each image shows, or None; each point is observed by its image alone.
    """
    rows = [
        f"PINHOLE {c.width} {c.height} {c.fx:.12g} {c.fy:.12g} {c.cx + 0.5:.12g} {c.cy + 0.5:.12g}"
        for c in cameras
    ]
    ids = {row: number for number, row in enumerate(dict.fromkeys(rows), 1)}
    images, tracks = [], []
    for i, pose in enumerate(world_from_camera, 1):
        if pose is None:
            continue
        seen = None if points is None else points[i - 1]
        observed = []
        if seen is not None:
            for k, ((u, v), xyz, rgb) in enumerate(zip(seen.uv, seen.xyz, seen.rgb, strict=True)):
                number = len(tracks) + 1
                observed.append(f"{u + 0.5} {v + 0.5} {number}")
                place = " ".join(f"{value:.6g}" for value in xyz)
                tracks.append(f"{number} {place} {rgb[0]} {rgb[1]} {rgb[2]} 0 {i} {k}\n")
        head = f"{i} {_camera_from_world(pose)} {ids[rows[i - 1]]} {_one_word(names[i - 1])}"
        images.append(f"{head}\n{' '.join(observed)}\n")
    return {
        "cameras.txt": "# CAMERA_ID MODEL WIDTH HEIGHT PARAMS\n"
        + "".join(f"{number} {row}\n" for row, number in ids.items()),
        "images.txt": "# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME: world to camera; then a "
        "line of points\n" + "".join(images),
        "points3D.txt": "# POINT3D_ID X Y Z R G B ERROR TRACK\n" + "".join(tracks),
    }


def write_colmap(
    folder: Path,
    names: Sequence[str],
    world_from_camera: Sequence[np.ndarray | None],
    cameras: Sequence[Camera],
) -> None:
    """Writes `colmap_texts` to a folder."""
    for name, text in colmap_texts(names, world_from_camera, cameras).items():
        with replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _camera_from_world(world_from_camera: np.ndarray) -> str:
    """`qw qx qy qz tx ty tz`, world to camera."""
    pose = invert(world_from_camera)
    return " ".join(f"{value:.12g}" for value in (*to_quaternion(pose[:3, :3]), *pose[:3, 3]))


def _one_word(name: str) -> str:
    """A name without spaces, which end a name in both formats."""
    return name.replace(" ", "_")
