"""World points of the mapping images' features: from depth, a plane sweep, or triangulation."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from ace_jax.errors import UserError
from ace_jax.geometry import rigid
from ace_jax.geometry.camera import camera_of, camera_rows
from ace_jax.geometry.host_camera import unproject_to_world
from ace_jax.mapping.images import MappingImage
from ace_jax.mapping.plane_sweep import grid_row, inverse_depths, sweep
from ace_jax.mapping.triangulation import triangulate
from ace_jax.programs import program
from ace_jax.progress import Progress, quiet

# Tuned on 7-Scenes redkitchen.
NEIGHBOURS = 8  # images that a reference's features are matched in, at most
MAX_TURN = 25.0  # degrees between a reference and its neighbours; a grid is not matched beyond
# Likewise, of keypoints, where fewer images turn less: a third of the matches is left at 30 to 45
# degrees, a tenth at 45 to 60 (rooms of 16 images).
_MAX_KEYPOINT_TURN = 60.0
BASELINE = 0.09  # of the scene's depth, the baseline that neighbours are chosen around
_MIN_BASELINE = 0.02  # likewise; less parallax triangulates nothing
_ENOUGH_POINTS = 256  # of an image: what it has a claim to in a map's head
_PROBES = 6  # images that the scene's depth is first measured in


@dataclasses.dataclass(frozen=True)
class Depths:
    """Depth of one image's N features.

    Attributes:
        depth: (N,) float32 metres.
        valid: (N,) bool.
    """

    depth: np.ndarray
    valid: np.ndarray


def world_points(image: MappingImage, depth: np.ndarray) -> np.ndarray:
    """(N, 3) float32 points of the features at these depths, metres."""
    points = unproject_to_world(image.uv, depth, image.camera, image.camera_from_world)
    return points.astype(np.float32)


def neighbours(images: Sequence[MappingImage], reference: int, scene_depth: float) -> list[int]:
    """Images that see the reference's scene from beside it, the best baselines first.

    For keypoints, images that turn further than `MAX_TURN` come after these, by their turn.
    """
    poses = np.stack([image.camera_from_world for image in images])
    metres, radians = rigid.difference(poses, poses[reference])
    baseline = metres / scene_depth
    turn = np.degrees(radians)
    on_grid = images[reference].grid is not None
    usable = (turn < (MAX_TURN if on_grid else _MAX_KEYPOINT_TURN)) & (baseline > _MIN_BASELINE)
    usable &= np.array([(image.grid is not None) == on_grid for image in images])
    usable[reference] = False
    found = np.flatnonzero(usable)
    fit = np.abs(np.log(baseline[found] / BASELINE))
    order = np.lexsort((fit, np.where(turn[found] < MAX_TURN, 0.0, turn[found])))
    return found[order][:NEIGHBOURS].tolist()


def measured_depths(images: Sequence[MappingImage]) -> list[Depths]:
    """Depths of a depth camera, where it has any."""
    return [Depths(image.depth, image.depth > 0) for image in images]


def estimated_depths(
    images: Sequence[MappingImage],
    near: float | None,
    far: float | None,
    progress: Progress = quiet,
    alone: bool = True,
) -> list[Depths]:
    """Depths from the images and their poses: a plane sweep on grids, else triangulation.

    Args:
        images: with poses.
        near: nearest depth, metres; None to find it.
        far: farthest depth, metres; None to find it.
        progress: told after each image.
        alone: nothing else measures depth: single matches count where an image has few others, and
            it is an error if there are hardly any points.

    Raises:
        UserError: hardly any point could be found; the poses or the motion do not allow it.
    """
    if images[0].grid is not None:
        near, far, scene = _depth_range(images, near, far)
    else:
        near, far = near or 0.3, far or 100.0
        scene = _triangulated_scene_depth(images)
    result = []
    for index in range(len(images)):
        progress("depth", index, len(images))
        result.append(_one(images, index, near, far, scene, alone=alone))
    progress("depth", len(images), len(images))
    share = np.mean([depths.valid.mean() for depths in result])
    logging.info("depth found for %.0f %% of the features", 100 * share)
    if alone and share < 0.01:
        raise UserError(
            "hardly any point could be triangulated; check that the poses belong to these images "
            "(world_from_camera, metres) and that the camera moves sideways, or map with depth"
        )
    return result


def _one(
    images: Sequence[MappingImage],
    index: int,
    near: float | None,
    far: float | None,
    scene: float,
    levels: int = 96,
    alone: bool = True,
) -> Depths:
    image, beside = images[index], neighbours(images, index, scene)
    if len(beside) < (1 if image.grid is None else 2):
        return Depths(np.zeros(len(image.uv), np.float32), np.zeros(len(image.uv), bool))
    padded = (beside * NEIGHBOURS)[:NEIGHBOURS]
    used = np.arange(NEIGHBOURS) < len(beside)
    relative = np.stack(
        [images[j].camera_from_world @ image.world_from_camera for j in padded]
    ).astype(np.float32)
    cameras = camera_rows([images[j].camera for j in (index, *padded)]).astype(np.float32)
    descriptors = np.stack([images[j].descriptors for j in padded])
    features = (np.asarray(image.descriptors), image.uv, image.mask, cameras[0])
    if image.grid is None:
        found = _triangulate(
            *features,
            descriptors,
            np.stack([images[j].uv for j in padded]),
            np.stack([images[j].mask for j in padded]) & used[:, None],
            relative,
            cameras[1:],
        )
        sure, lone, ratio = (np.asarray(x) for x in (found.valid, found.lone, found.ratio))
        return Depths(np.asarray(found.depth), enough(sure, lone, ratio) if alone else sure)
    found = _sweep(
        *features,
        descriptors,
        relative,
        cameras[1:],
        np.stack([grid_row(images[j].uv, images[j].grid) for j in padded]),
        used,
        inverse_depths(near, far, levels),
        min_agreement=min(3, len(beside)),
    )
    return Depths(np.asarray(found.depth), np.asarray(found.valid))


def enough(sure: np.ndarray, lone: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Which points (N,) to use: the sure ones, and the best of the lone ones where these are few.

    Where there are enough, lone matches make a map worse (castle: 1.8 instead of 1.2 cm); where
    images share little, they are all that there is.

    Args:
        sure: (N,) bool, confirmed points.
        lone: (N,) bool, points of one distinctive match.
        ratio: (N,) of their descriptor distances; the less, the more distinctive.
    """
    candidates = np.flatnonzero(lone)
    order = candidates[np.argsort(ratio[candidates], kind="stable")]
    used = sure.copy()
    used[order[: max(_ENOUGH_POINTS - int(sure.sum()), 0)]] = True
    return used


@program(static_argnames="min_agreement")
def _sweep(
    reference: jax.Array,
    uv: jax.Array,
    mask: jax.Array,
    camera: jax.Array,
    neighbour: jax.Array,
    *rest: jax.Array,
    min_agreement: int,
):
    reference, neighbour = (x.astype(jnp.float32) for x in (reference, neighbour))
    return sweep(
        reference, uv, mask, camera_of(camera), neighbour, *rest, min_agreement=min_agreement
    )


@program
def _triangulate(
    reference: jax.Array,
    uv: jax.Array,
    mask: jax.Array,
    camera: jax.Array,
    neighbour: jax.Array,
    *rest: jax.Array,
):
    reference, neighbour = (x.astype(jnp.float32) for x in (reference, neighbour))
    return triangulate(reference, uv, mask, camera_of(camera), neighbour, *rest)


def _depth_range(
    images: Sequence[MappingImage], near: float | None, far: float | None
) -> tuple[float, float, float]:
    """Near, far and median depth, from a few images swept over a wide range."""
    if near and far:
        return near, far, float(np.sqrt(near * far))
    # Two rounds: the first range sets the scale of the baselines for the second.
    low, high, scene = 0.2, 60.0, 2.0
    for _ in range(2):
        depths = []
        for index in np.linspace(0, len(images) - 1, _PROBES + 2).astype(int)[1:-1]:
            found = _one(images, int(index), low, high, scene, levels=192)
            depths.append(found.depth[found.valid])
        depth = np.concatenate(depths)
        if len(depth) < 50:
            break
        scene = float(np.median(depth))
        low, high = 0.7 * np.quantile(depth, 0.02), 1.4 * np.quantile(depth, 0.98)
    near, far = near or float(low), far or float(high)
    logging.info("depth range %.2f to %.2f m, median %.2f m", near, far, scene)
    return near, far, scene


def _triangulated_scene_depth(images: Sequence[MappingImage]) -> float:
    """Median depth of a few images' features, the baselines following it."""
    scene = 2.0
    for _ in range(2):
        depths = []
        for index in np.linspace(0, len(images) - 1, _PROBES + 2).astype(int)[1:-1]:
            found = _one(images, int(index), None, None, scene)
            depths.append(found.depth[found.valid])
        depth = np.concatenate(depths)
        if len(depth) < 20:
            break
        scene = float(np.median(depth))
    return scene
