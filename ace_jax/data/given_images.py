"""A recording made of arrays and image files that a program has: see `ace_jax.map_images`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ace_jax.data.frame import BadFrame
from ace_jax.data.images import image_size
from ace_jax.data.inputs import (
    ImageLike,
    Intrinsics,
    as_camera,
    as_depth,
    as_image,
    as_poses,
)
from ace_jax.data.recording import Recording
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera


class GivenImages(Recording):
    """A `FrameSource` over arrays and image files; files are read on access."""

    def __init__(
        self,
        images: Sequence[ImageLike],
        intrinsics: Intrinsics | Sequence[Camera],
        poses: ArrayLike | Sequence[Any] | None = None,
        depth: Sequence[ArrayLike | None] | None = None,
        timestamps: ArrayLike | None = None,
        name: str = "images",
    ) -> None:
        """Checks what is given.

        Args:
            images: N files or arrays, see `inputs.as_image`.
            intrinsics: of all of them, see `inputs.as_camera`, or a list of N cameras.
            poses: (N, 4, 4) world_from_camera, None or NaN where unknown; or None.
            depth: N arrays of metres, or None where unknown; or None.
            timestamps: (N,) seconds; None: unknown.
            name: for messages.

        Raises:
            UserError: see `inputs`; or the numbers differ.
        """
        if isinstance(images, str | os.PathLike):
            raise UserError(f"give a list of images; open the recording {images} for all of them")
        self._images, self._depth = list(images), None if depth is None else list(depth)
        count = len(self._images)
        given = {"depth": self._depth, "timestamps": timestamps}
        for what, values in given.items():
            if values is not None and len(values) != count:  # type: ignore[arg-type]
                raise UserError(f"{name}: {count} images, but {what} of {len(values)}")  # type: ignore[arg-type]
        sizes = [_size(image, f"image {i}") for i, image in enumerate(self._images)]
        given_cameras: Any = intrinsics
        listed = isinstance(intrinsics, Sequence) and any(isinstance(x, Camera) for x in intrinsics)
        each: list[Any] = list(given_cameras) if listed else [intrinsics] * count
        if len(each) != count:
            raise UserError(f"{name}: {count} images, but {len(each)} cameras")
        cameras = [as_camera(own, *size) for own, size in zip(each, sizes, strict=True)]
        one = count > 0 and all(camera == cameras[0] for camera in cameras)
        super().__init__(
            name,
            cameras[0] if one else cameras,
            names=[_name(image, i) for i, image in enumerate(self._images)],
            timestamps=None if timestamps is None else np.asarray(timestamps, np.float64),
            poses=None if poses is None else as_poses(poses, count),
            has_depth=depth is not None,
        )

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        try:
            rgb = as_image(self._images[index], f"image {index}")
            if self._depth is None:
                return rgb, None
            given = self._depth[index]
            size = rgb.shape[0], rgb.shape[1]
            return rgb, np.zeros(size, np.float32) if given is None else as_depth(given, size)
        except UserError as error:
            raise BadFrame(f"{self._names[index]}: {error}") from error


def _size(image: ImageLike, what: str) -> tuple[int, int]:
    """(width, height); a file's header is read alone."""
    if isinstance(image, str | os.PathLike):
        try:
            return image_size(Path(image))
        except BadFrame as error:
            raise UserError(str(error)) from error
    height, width = as_image(image, what).shape[:2]
    return width, height


def _name(image: ImageLike, index: int) -> str:
    return Path(image).name if isinstance(image, str | os.PathLike) else f"{index:06d}"
