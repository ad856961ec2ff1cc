"""Mapping images: which frames to use, and their features in memory."""

import dataclasses
import math
import os
import tempfile
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from absl import logging

from ace_jax.data.depth_at_features import sample_depth
from ace_jax.data.frame import BadFrame, Frame, FrameSource, metric
from ace_jax.errors import UserError
from ace_jax.features.base import FeatureExtractor, Features, finite_features
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import invert, view_difference
from ace_jax.progress import Progress, quiet
from ace_jax.runtime import cache_dir

_NEAR = 0.25, 15.0  # metres and degrees: images so near see the same landmarks
IN_MEMORY = 256  # images; the descriptors of more are kept on disk


@dataclasses.dataclass(frozen=True)
class MappingImage:
    """One posed image, reduced to its features; all images of a run have the same N.

    Attributes:
        frame: position of the frame in the source.
        name: the frame's name.
        descriptors: (N, D) float16; of many images they are on disk.
        uv: (N, 2) float32 pixels.
        scores: (N,) float32.
        mask: (N,) bool.
        depth: (N,) float32 measured z-depth in metres, 0 where unknown.
        camera: intrinsics of this image.
        camera_from_world: (4, 4) float64.
        grid: (rows, columns) if the features are a regular grid, row by row, padding after it;
            else None.
    """

    frame: int
    name: str
    descriptors: "np.ndarray | OnDisk"
    uv: np.ndarray
    scores: np.ndarray
    mask: np.ndarray
    depth: np.ndarray
    camera: Camera
    camera_from_world: np.ndarray
    grid: tuple[int, int] | None

    @property
    def features(self) -> Features:
        """The image's features, descriptors in 16 bits."""
        return Features(
            uv=self.uv,
            descriptors=np.asarray(self.descriptors),
            scores=self.scores,
            mask=self.mask,
            depth=self.depth,
        )

    @property
    def world_from_camera(self) -> np.ndarray:
        """(4, 4) float64."""
        return invert(self.camera_from_world)


class OnDisk:
    """An array in a file, read whenever it is used.

    Attributes:
        shape: of the array.
        dtype: its type.
    """

    def __init__(self, file: BinaryIO, array: np.ndarray):
        """Appends the array to an open file."""
        self.shape, self.dtype, self._file = array.shape, array.dtype, file
        self._at = file.seek(0, os.SEEK_END)
        file.write(array.tobytes())
        file.flush()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        count = math.prod(self.shape) * self.dtype.itemsize
        data = os.pread(self._file.fileno(), count, self._at)
        array = np.frombuffer(data, self.dtype).reshape(self.shape)
        return array if dtype is None else array.astype(dtype)

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self)[index]

    def __len__(self) -> int:
        return self.shape[0]


def select_frames(
    source: FrameSource, max_frames: int | None, more_frames: int | None = None
) -> list[int]:
    """At most so many frames that have a pose, evenly spread over the recording.

    Args:
        source: the recording.
        max_frames: so many; None: all.
        more_frames: so many at most in all, where views are left that no frame is near to
            (`_NEAR`): a long recording is mapped everywhere. None: no more.

    Raises:
        UserError: no frame has a pose.
    """
    poses = source.poses()
    posed = [] if poses is None else np.flatnonzero(np.isfinite(poses).all(axis=(1, 2))).tolist()
    if not posed:
        raise UserError(
            f"{source.name} has no poses, which mapping needs; pass --poses FILE, "
            "or run python -m ace_jax.slam on it"
        )
    if max_frames is None or len(posed) <= max_frames:
        return posed
    chosen = [posed[i] for i in np.linspace(0, len(posed) - 1, max_frames).round().astype(int)]
    more = min(more_frames or 0, len(posed))
    if more <= len(chosen):
        return chosen
    if not metric(source):  # nobody knows what is near
        return select_frames(source, more)
    far = _farthest_first(invert(poses[posed]), np.searchsorted(posed, chosen), more)
    return sorted({*chosen, *(posed[i] for i in far)})


def _farthest_first(camera_from_world: np.ndarray, chosen: Sequence[int], most: int) -> list[int]:
    """Those of N poses to choose further, always the farthest, until all are near a chosen one."""
    metres, degrees = _NEAR
    apart, new = np.full(len(camera_from_world), np.inf), [*chosen]
    for count, index in enumerate(new):
        far, turn = view_difference(camera_from_world, camera_from_world[index])
        apart = np.minimum(apart, np.maximum(far / metres, np.degrees(turn) / degrees))
        if count >= len(chosen) - 1 and len(new) < most and apart.max() > 1.0:
            new.append(int(apart.argmax()))
    return new[len(chosen) :]


def extract_images(
    source: FrameSource,
    frames: Sequence[int],
    extractor: FeatureExtractor,
    use_depth: bool,
    progress: Progress = quiet,
) -> list[MappingImage]:
    """Features of the frames; those that cannot be read are left out with a message.

    Of more than `IN_MEMORY` frames the descriptors are kept in a temporary file.

    Raises:
        UserError: none can be read.
    """
    images = []
    file = None
    if len(frames) > IN_MEMORY:
        cache_dir().mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=cache_dir())  # noqa: SIM115, open as long as images are
    for done, index in enumerate(frames):
        progress("features", done, len(frames))
        try:
            frame = source[index]
            if frame.world_from_camera is not None:
                image = mapping_image(frame, index, extractor, use_depth)
                if file is not None:
                    stored = OnDisk(file, image.descriptors)
                    image = dataclasses.replace(image, descriptors=stored)
                images.append(image)
        except BadFrame as error:
            logging.warning("frame %d skipped: %s", index, error)
    progress("features", len(frames), len(frames))
    if not images:
        raise UserError(f"none of the {len(frames)} mapping frames of {source.name} can be read")
    # Grids of images of different sizes have different numbers of cells.
    rows = max(len(image.uv) for image in images)
    return [image if len(image.uv) == rows else _padded(image, rows) for image in images]


def _padded(image: MappingImage, rows: int) -> MappingImage:
    """The image with masked features added, up to so many."""
    missing = rows - len(image.uv)
    arrays = {
        name: np.pad(array, [(0, missing), *[(0, 0)] * (array.ndim - 1)])
        for name in ("descriptors", "uv", "scores", "mask", "depth")
        for array in [getattr(image, name)]
    }
    return dataclasses.replace(image, **arrays)


def mapping_image(
    frame: Frame, index: int, extractor: FeatureExtractor, use_depth: bool
) -> MappingImage:
    """Extracts the features of a posed frame; a grid comes in row order.

    Raises:
        BadFrame: its features or its pose are not finite.
    """
    if not np.isfinite(frame.world_from_camera).all():
        raise BadFrame(f"{frame.name}: its pose is not finite")
    features = finite_features(extractor, frame)
    uv, descriptors, scores, mask, grid = in_grid_order(features)
    depth = np.zeros(len(uv), np.float32)
    if use_depth and frame.depth is not None:
        depth = np.where(mask, sample_depth(frame.depth, uv), 0.0).astype(np.float32)
    return MappingImage(
        frame=index,
        name=frame.name,
        descriptors=descriptors.astype(np.float16),
        uv=uv,
        scores=scores,
        mask=mask,
        depth=depth,
        camera=frame.camera,
        camera_from_world=invert(frame.world_from_camera),
        grid=grid,
    )


def in_grid_order(
    features: Features,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[int, int] | None]:
    """uv, descriptors, scores, mask and grid; rows in grid order if they form a regular grid."""
    uv, descriptors, scores, mask = (
        np.asarray(x) for x in (features.uv, features.descriptors, features.scores, features.mask)
    )
    grid = regular_grid(uv, mask)
    if grid is not None:
        order = np.lexsort((uv[:, 0], uv[:, 1]))
        uv, descriptors, scores, mask = (x[order] for x in (uv, descriptors, scores, mask))
    return uv, descriptors, scores, mask, grid


def regular_grid(uv: np.ndarray, mask: np.ndarray) -> tuple[int, int] | None:
    """(rows, columns) if every place of a regular grid occurs once among the pixels (N, 2)."""
    if not mask.all():
        return None
    columns, rows = np.unique(uv[:, 0]), np.unique(uv[:, 1])
    if len(rows) * len(columns) != len(uv) or min(len(rows), len(columns)) < 4:
        return None
    for axis in (columns, rows):
        steps = np.diff(axis)
        if steps.max() - steps.min() > 0.01 * steps.mean():
            return None
    return len(rows), len(columns)
