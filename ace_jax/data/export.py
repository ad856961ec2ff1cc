"""Writes any frame source in the layouts that the readers understand.

What a layout cannot hold: Replica stores colour as JPEG; Replica and 7-Scenes have no times (frame
numbers at 30 Hz stand for them); TUM times have microseconds. Depth is rounded to the layout's
unit, and depth beyond its 16 bits is written as unknown. 7-Scenes is written with depth as it is,
registered to colour, and an `intrinsics.json` that tells our reader so: warping it back into a
depth camera would lose it at every edge.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from absl import logging

from ace_jax.data import ace_layout, colmap, nerfstudio, replica, seven_scenes, tum
from ace_jax.data.arkit import OPENGL_FROM_OPENCV
from ace_jax.data.frame import BadFrame, Frame, FrameSource, as_seen_by
from ace_jax.data.images import SATURATED
from ace_jax.data.intrinsics import FILE_NAME, intrinsics_text
from ace_jax.data.pose_writers import colmap_texts, tum_text
from ace_jax.data.recording import iterate
from ace_jax.data.seed_points import TOTAL, SeedPoints, ply_text, seed_points
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera

FOLDER_UNITS_PER_METRE = 5000.0

_JPEG_QUALITY = 98


@dataclasses.dataclass(frozen=True)
class _Entry:
    """What is kept of a frame that was written."""

    number: int
    timestamp: float
    colour: str
    depth: str | None
    world_from_camera: np.ndarray | None
    camera: Camera
    seeds: SeedPoints | None = None


@dataclasses.dataclass(frozen=True)
class _Layout:
    """File names of a frame by (number, seconds), depth's unit, and the text files by name.

    Attributes:
        own_cameras: whether each image has intrinsics of its own; else all get the first one's.
        seeded: whether points of the depth images are written, too.
    """

    colour: Callable[[int, float], str]
    depth: Callable[[int, float], str]
    units_per_metre: float
    texts: Callable[[list[_Entry], Camera], dict[str, str]]
    own_cameras: bool = False
    seeded: bool = False


def export(source: FrameSource, folder: str | Path, layout: str) -> int:
    """Writes a source to a new folder; frames that cannot be read are left out with a log line.

    Args:
        source: colour, with or without depth and poses.
        folder: created; must not hold files yet.
        layout: `replica`, `tum`, `7scenes` (the folder is the sequence, `seq-01`), `ace` (the
            folder is the split, `train`), `colmap` (a text model and its images; an image without
            a pose is not registered), `nerfstudio` (`transforms.json`) or `folder`. With poses
            and depth the last two but `folder` get points to begin Gaussian splatting with.

    Returns:
        How many frames were written.

    Raises:
        UserError: unknown layout, folder in use, times that a layout cannot hold, full disk.
    """
    if layout not in LAYOUTS:
        raise UserError(f"no layout {layout!r}: take one of {', '.join(LAYOUTS)}, mcap")
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is in use: name a new folder")
    files = LAYOUTS[layout]
    numbers = _numbers(source.timestamps())
    entries, clipped = [], 0
    try:
        for frame in iterate(source):
            if not files.own_cameras:
                try:
                    frame = as_seen_by(frame, source.camera)
                except BadFrame as error:
                    logging.warning("frame %d left out: %s", frame.index, error)
                    continue
            entry = _entry(frame, numbers[frame.index], files, -(-TOTAL // len(source)))
            _write_image(folder / entry.colour, frame.rgb[:, :, ::-1])
            if frame.depth is not None and entry.depth is not None:
                units, beyond = _quantise(frame.depth, files.units_per_metre)
                clipped += beyond
                _write_image(folder / entry.depth, units)
            entries.append(entry)
        for name, text in files.texts(entries, source.camera).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error}") from error
    if clipped:
        limit = (SATURATED - 1) / files.units_per_metre
        logging.warning("%s: %d depths beyond %.2f m written as unknown", folder, clipped, limit)
    return len(entries)


def _numbers(timestamps: np.ndarray) -> list[int]:
    """Frame numbers at 30 Hz that stand for the times where they can, else positions."""
    ticks = timestamps * seven_scenes.FRAMES_PER_SECOND
    numbers = np.rint(ticks)
    regular = np.abs(ticks - numbers).max() < 1e-3 and np.all(np.diff(numbers) > 0)
    if regular and numbers[0] >= 0 and numbers[-1] < 10**6:
        return [int(number) for number in numbers]
    return list(range(len(timestamps)))


def _entry(frame: Frame, number: int, files: _Layout, seeds: int) -> _Entry:
    depth = None if frame.depth is None else files.depth(number, frame.timestamp)
    colour = files.colour(number, frame.timestamp)
    points = seed_points(frame, seeds) if files.seeded else None
    pose = frame.world_from_camera
    return _Entry(number, frame.timestamp, colour, depth, pose, frame.camera, points)


def _quantise(depth: np.ndarray, units_per_metre: float) -> tuple[np.ndarray, int]:
    """(H, W) uint16 units, and how many depths were too large for them."""
    units = np.nan_to_num(np.rint(depth.astype(np.float64) * units_per_metre), nan=0.0, neginf=0.0)
    beyond = units >= SATURATED
    units[beyond | (units < 0)] = 0
    return units.astype(np.uint16), int(beyond.sum())


def _write_image(path: Path, image: np.ndarray) -> None:
    if path.exists():
        raise UserError(f"{path} would be written twice: two frames have the same time")
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if path.suffix == ".jpg" else []
    done, data = cv2.imencode(path.suffix, image, options)
    if not done:
        raise OSError(f"{path} cannot be encoded")
    path.write_bytes(data.tobytes())


def _matrix_line(pose: np.ndarray | None) -> str:
    values = np.full(16, np.nan) if pose is None else pose.ravel()
    return " ".join(f"{value:.12g}" for value in values)


def _lines(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)


def _replica_texts(entries: list[_Entry], camera: Camera) -> dict[str, str]:
    values = {
        "w": camera.width,
        "h": camera.height,
        **{key: float(getattr(camera, key)) for key in ("fx", "fy", "cx", "cy")},
        "scale": replica.UNITS_PER_METRE,
    }
    texts = {"cam_params.json": json.dumps({"camera": values}, indent=1) + "\n"}
    poses = {entry.number: entry.world_from_camera for entry in entries}
    if any(pose is not None for pose in poses.values()):
        # Line n belongs to frame number n: numbers that do not occur get a line too.
        texts["traj.txt"] = _lines([_matrix_line(poses.get(n)) for n in range(max(poses) + 1)])
    return texts


def _tum_texts(entries: list[_Entry], camera: Camera) -> dict[str, str]:
    texts = {
        FILE_NAME: intrinsics_text(camera, tum.UNITS_PER_METRE),
        "rgb.txt": _lines([f"{entry.timestamp:.6f} {entry.colour}" for entry in entries]),
    }
    if any(entry.depth for entry in entries):
        texts["depth.txt"] = _lines(
            [f"{entry.timestamp:.6f} {entry.depth}" for entry in entries if entry.depth]
        )
    # Microseconds, as in the names of the images.
    posed = {
        round(entry.timestamp, 6): entry.world_from_camera
        for entry in entries
        if entry.world_from_camera is not None
    }
    if posed:
        texts["groundtruth.txt"] = tum_text(np.array([*posed]), np.stack([*posed.values()]))
    return texts


def _seven_scenes_texts(entries: list[_Entry], camera: Camera) -> dict[str, str]:
    texts = {FILE_NAME: intrinsics_text(camera, seven_scenes.UNITS_PER_METRE)}
    for entry in entries:
        if entry.world_from_camera is not None:
            rows = [" ".join(f"{v:.12e}" for v in row) for row in entry.world_from_camera]
            texts[f"frame-{entry.number:06d}.pose.txt"] = _lines(rows)
    return texts


def _folder_texts(entries: list[_Entry], camera: Camera) -> dict[str, str]:
    texts = {
        FILE_NAME: intrinsics_text(camera, FOLDER_UNITS_PER_METRE),
        "times.txt": _lines([f"{entry.number:06d} {entry.timestamp:.9f}" for entry in entries]),
    }
    if any(entry.world_from_camera is not None for entry in entries):
        rows = [_matrix_line(entry.world_from_camera) for entry in entries]
        texts["poses.txt"] = _lines(["# 4 x 4 by rows, an image a line: camera to world", *rows])
    return texts


def _ace_texts(entries: list[_Entry], camera: Camera) -> dict[str, str]:
    texts = {}
    for entry in entries:
        own = entry.camera
        k = f"{own.fx:.12g} 0 {own.cx:.12g}\n0 {own.fy:.12g} {own.cy:.12g}\n0 0 1\n"
        texts[f"calibration/{entry.number:06d}.txt"] = k
        if entry.world_from_camera is not None:
            rows = [" ".join(f"{v:.12e}" for v in row) for row in entry.world_from_camera]
            texts[f"poses/{entry.number:06d}.txt"] = _lines(rows)
    return texts


def _colmap_texts(entries: list[_Entry], camera: Camera) -> dict[str, str]:
    texts = colmap_texts(
        [Path(entry.colour).name for entry in entries],
        [entry.world_from_camera for entry in entries],
        [entry.camera for entry in entries],
        [entry.seeds for entry in entries],
    )
    return {f"sparse/0/{name}": text for name, text in texts.items()}


def _nerfstudio_texts(entries: list[_Entry], camera: Camera) -> dict[str, str]:
    frames = []
    for entry in entries:
        if entry.world_from_camera is None:
            continue
        own = entry.camera
        pose = entry.world_from_camera @ OPENGL_FROM_OPENCV
        frames.append(
            {
                "file_path": entry.colour,
                **({"depth_file_path": entry.depth} if entry.depth else {}),
                "transform_matrix": pose.tolist(),
                **{"w": own.width, "h": own.height, "fl_x": float(own.fx), "fl_y": float(own.fy)},
                # Pixel centres are at +0.5 there.
                **{"cx": float(own.cx) + 0.5, "cy": float(own.cy) + 0.5},
            }
        )
    values = {"camera_model": "PINHOLE", "frames": frames}
    texts = {}
    points = [entry.seeds for entry in entries if entry.seeds is not None]
    if points:
        values["ply_file_path"] = "points.ply"
        texts["points.ply"] = ply_text(points)
    return {nerfstudio.FILE_NAME: json.dumps(values, indent=1) + "\n", **texts}


LAYOUTS = {
    "replica": _Layout(
        colour=lambda number, _: f"results/frame{number:06d}.jpg",
        depth=lambda number, _: f"results/depth{number:06d}.png",
        units_per_metre=replica.UNITS_PER_METRE,
        texts=_replica_texts,
    ),
    "tum": _Layout(
        colour=lambda _, seconds: f"rgb/{seconds:.6f}.png",
        depth=lambda _, seconds: f"depth/{seconds:.6f}.png",
        units_per_metre=tum.UNITS_PER_METRE,
        texts=_tum_texts,
    ),
    "7scenes": _Layout(
        colour=lambda number, _: f"frame-{number:06d}.color.png",
        depth=lambda number, _: f"frame-{number:06d}.depth.png",
        units_per_metre=seven_scenes.UNITS_PER_METRE,
        texts=_seven_scenes_texts,
    ),
    "folder": _Layout(
        colour=lambda number, _: f"rgb/{number:06d}.png",
        depth=lambda number, _: f"depth/{number:06d}.png",
        units_per_metre=FOLDER_UNITS_PER_METRE,
        texts=_folder_texts,
    ),
    "ace": _Layout(
        colour=lambda number, _: f"rgb/{number:06d}.png",
        depth=lambda number, _: f"depth/{number:06d}.png",
        units_per_metre=ace_layout.UNITS_PER_METRE,
        texts=_ace_texts,
        own_cameras=True,
    ),
    "colmap": _Layout(
        colour=lambda number, _: f"images/{number:06d}.png",
        depth=lambda number, _: f"depth/{number:06d}.png",
        units_per_metre=colmap.UNITS_PER_METRE,
        texts=_colmap_texts,
        own_cameras=True,
        seeded=True,
    ),
    "nerfstudio": _Layout(
        colour=lambda number, _: f"images/{number:06d}.png",
        depth=lambda number, _: f"depth/{number:06d}.png",
        units_per_metre=1000.0,
        texts=_nerfstudio_texts,
        own_cameras=True,
        seeded=True,
    ),
}
