"""Reads trajectories: timed poses, or named poses with times from frame numbers."""

import re
from pathlib import Path, PurePosixPath

import numpy as np

from ace_jax.data.poses_file import NamedPoses, read_poses
from ace_jax.errors import UserError
from ace_jax.evaluation.trajectory import Trajectory

_NUMBER = re.compile(r"\d+")


def read_trajectory(path: str | Path, fps: float) -> Trajectory:
    """Reads a TUM trajectory or a list of named poses (`ace_jax.data.poses_file`).

    Args:
        path: the file.
        fps: frames per second of the recording; the time of a named pose is the last number in
            its name over `fps`, as for 7-Scenes, which has no times.

    Raises:
        UserError: the file is missing, is no trajectory, or its names have no numbers.
    """
    poses = read_poses(path)
    if not isinstance(poses, NamedPoses):
        return Trajectory(poses.timestamps, poses.world_from_camera)
    numbers = [_frame_number(name) for name in poses.world_from_camera]
    if None in numbers or len(set(numbers)) < len(numbers):
        raise UserError(
            f"{path}: its names do not number the frames of one sequence; "
            "give a file of one sequence, or a trajectory with times"
        )
    return Trajectory(np.array(numbers) / fps, np.stack(list(poses.world_from_camera.values())))


def _frame_number(name: str) -> int | None:
    numbers = _NUMBER.findall(PurePosixPath(name).name)
    return int(numbers[-1]) if numbers else None
