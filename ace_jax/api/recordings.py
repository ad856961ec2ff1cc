"""Recordings from Python."""

import os
from collections.abc import Sequence

from ace_jax.data.frame import FrameSource
from ace_jax.data.intrinsics import parse_intrinsics
from ace_jax.data.registry import open_sequence


def open_recording(
    path: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] = "data",
    start: int = 0,
    stride: int = 1,
    max_frames: int | None = None,
    poses: str | os.PathLike[str] | None = None,
    intrinsics: str | os.PathLike[str] | Sequence[float] | None = None,
) -> FrameSource:
    """Opens a recording: frames that are read when they are asked for.

        for frame in ace_jax.open_recording("kitchen"):
            pose = slam.track(frame.rgb, frame.depth, frame.timestamp)

    Args:
        path: a folder or file, recognised by what it holds, or a name such as
            `7scenes/redkitchen/seq-01` (`python -m ace_jax.data list`).
        data_root: folder that holds `7scenes/`, `tum/`, ... for names.
        start: first frame.
        stride: take every n-th frame.
        max_frames: at most so many.
        poses: a file whose poses replace the recording's own.
        intrinsics: [fx, fy, cx, cy] of a folder of images or a video that has none, or a file as
            `intrinsics.json`.

    Raises:
        UserError: nothing is there that can be read; the line says what is missing.
    """
    given = None
    if isinstance(intrinsics, str | os.PathLike):
        given = parse_intrinsics(os.fspath(intrinsics))
    elif intrinsics is not None:
        given = parse_intrinsics(",".join(map(str, intrinsics)))
    return open_sequence(
        os.fspath(path),
        os.fspath(data_root),
        start=start,
        stride=stride,
        max_frames=max_frames,
        poses=None if poses is None else os.fspath(poses),
        intrinsics=given,
    )
