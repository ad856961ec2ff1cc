"""Landmarks in a map file: those that the head attends to, and further ones for guided matching.

The former are variables of the head, with `origins`, `views` and `repeatability` among the map's
extra arrays; the latter are extra arrays named `detail_...`.
"""

from typing import Any

import jax
import numpy as np

from ace_jax.localization.landmarks import Landmarks, directions_to
from ace_jax.localization.scene_map import SceneMap
from ace_jax.models.landmark_attention import EMPTY, landmark_variables

HEAD = "landmark_attention"
_UNTOLD_VIEWS = 10  # of landmarks in map files that do not tell: often seen


def landmarks_of(scene_map: SceneMap) -> Landmarks | None:
    """The landmarks of a map, the head's first, on the host; None if its head has none."""
    known = known_landmarks(scene_map)
    return None if known is None else known[0]


def known_landmarks(scene_map: SceneMap) -> tuple[Landmarks, np.ndarray] | None:
    """As `landmarks_of`, with their repeatability (M,): 0 where an old file has none."""
    columns = _landmark_columns(scene_map)
    if columns is None:
        return None
    directions, distances = directions_to(columns["origins"], columns["points"])
    landmarks = Landmarks(
        points=columns["points"],
        descriptors=columns["descriptors"][:, None],
        view_directions=directions,
        distances=distances,
        views=columns["views"].astype(np.int32),
    )
    return landmarks, columns["repeatability"]


def head_rows(scene_map: SceneMap) -> np.ndarray:
    """(R,) bool, which rows of a landmark-attention head hold a landmark."""
    return np.asarray(scene_map.variables["params"]["bias"]) > EMPTY / 2


def _landmark_columns(scene_map: SceneMap) -> dict[str, np.ndarray] | None:
    """The columns of a map file over its M landmarks, the head's first.

    Returns:
        descriptors (M, D), points (M, 3), origins (M, 3) where each was seen from, views (M,) and
        repeatability (M,); defaults where an old file has none. None if the head has no landmarks.
    """
    if scene_map.head != HEAD:
        return None
    params, extra = scene_map.variables["params"], scene_map.extra
    points = np.asarray(params["points"])
    unknown = {
        "origins": np.full_like(points, np.nan),
        "views": np.full(len(points), _UNTOLD_VIEWS, np.int32),
        "repeatability": np.zeros(len(points), np.float32),
    }
    filled = head_rows(scene_map)
    head = unknown | extra | params
    columns = {k: [np.asarray(head[k])[filled]] for k in ("descriptors", "points", *unknown)}
    if "detail_points" in extra:
        for name, parts in columns.items():
            parts.append(extra[f"detail_{name}"])
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def landmark_entries(
    landmarks: Landmarks,
    in_head: int,
    repeatability: np.ndarray | None = None,
    **constants: float,
) -> dict[str, Any]:
    """The fields of a `SceneMap` that hold landmarks.

    Args:
        landmarks: M landmarks with one appearance each.
        in_head: so many of them, the first, are the head's.
        repeatability: (M,) share of the images in view that found each; None: unknown.
        **constants: tau, gain and floor of `landmark_variables`.
    """
    descriptors, points = landmarks.descriptors[:, 0], landmarks.points
    variables = landmark_variables(descriptors[:in_head], points[:in_head], **constants)
    columns = {"origins": landmarks.viewpoints, "views": landmarks.views}
    if repeatability is not None:
        columns["repeatability"] = repeatability
    extra = {name: array[:in_head] for name, array in columns.items()}
    if len(points) > in_head:
        columns |= {"descriptors": descriptors, "points": points}
        extra |= {f"detail_{name}": array[in_head:] for name, array in columns.items()}
    return {
        "head": HEAD,
        "head_options": {"landmarks": in_head, "dim": descriptors.shape[1]},
        "variables": jax.tree.map(np.asarray, variables),
        "extra": {name: np.asarray(array) for name, array in extra.items()},
    }
