"""Shared by phone and Nerfstudio exports: OpenGL camera axes, JSON, intrinsics from fields."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ace_jax.data.places import read_text
from ace_jax.data.twelve_scenes import checked
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera

# Points in OpenCV's camera axes (y down, z forward) to OpenGL's (y up, z backward), and back.
OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def read_json(path: Path, what: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: missing, or not one.
    """
    try:
        values = json.loads(read_text(path, what))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({error}); {what}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no JSON object; {what}")
    return values


def matrix(values: Any, shape: tuple[int, int] = (4, 4)) -> np.ndarray:
    """A pose as (4, 4) float64, infinite where the values are none."""
    try:
        pose = np.array(values, dtype=np.float64).reshape(shape)
    except (ValueError, TypeError):
        return np.full((4, 4), np.inf)
    return pose if shape == (4, 4) else np.vstack([pose, [0.0, 0.0, 0.0, 1.0]])


def camera_of(values: list[Any], width: Any, height: Any, path: Path) -> Camera:
    """A camera from fx, fy, cx, cy with pixel centres at integers, and a size.

    Raises:
        UserError: not numbers, or impossible ones.
    """
    try:
        fx, fy, cx, cy = (float(value) for value in values)
        return checked(Camera(fx, fy, cx, cy, int(width), int(height)), path)
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{path}: unusable intrinsics ({error})") from error
