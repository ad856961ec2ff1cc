"""Base class of recordings stored as image files, which a format lists."""

import collections
import threading
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ace_jax.data.images import read_depth, read_rgb
from ace_jax.data.recording import Recording
from ace_jax.data.registration import ToColour
from ace_jax.data.undistortion import Undistortion
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.distortion import Distortion

_CACHED_LENSES = 4  # tables for a 640x480 image take 3 MB


class ImageRecording(Recording):
    """A `FrameSource` over colour files and 16-bit depth files."""

    def __init__(
        self,
        name: str,
        camera: Camera | Sequence[Camera],
        colour: Sequence[Path],
        depth: Sequence[Path | None] | None = None,
        *,
        names: Sequence[str],
        timestamps: np.ndarray | None,
        poses: np.ndarray | None,
        units_per_metre: float = 1000.0,
        distortion: Distortion | Sequence[Distortion | None] | None = None,
        to_colour: ToColour | None = None,
        resize_depth: bool = False,
        readout: float = 0.0,
        recorded_from_camera: np.ndarray | None = None,
    ) -> None:
        """Keeps the lists; no image is read.

        Args:
            name: for messages and reports.
            camera: intrinsics of all images, or of each.
            colour: N image files.
            depth: N depth files, None for a frame without; or None for a colour-only recording.
            names: N frame names.
            timestamps: (N,) seconds; None if nothing tells them.
            poses: (N, 4, 4) world_from_camera as read, NaN where missing; None without any.
            units_per_metre: of the depth files.
            distortion: of the stored images (colour, and depth in its camera), of all or of each;
                it is removed at reading.
            to_colour: applied to depth images, where they are not registered yet.
            resize_depth: depth images show the same view in a size of their own (nearest
                neighbour, as depths across an edge must not mix).
            readout: see `Recording`.
            recorded_from_camera: see `Recording`.

        Raises:
            UserError: there are no frames.
        """
        super().__init__(
            name,
            camera,
            names=names,
            timestamps=timestamps,
            poses=poses,
            has_depth=depth is not None,
            readout=readout,
            recorded_from_camera=recorded_from_camera,
        )
        self._colour = list(colour)
        self._depth = None if depth is None else list(depth)
        self._units_per_metre = units_per_metre
        self._to_colour = to_colour
        self.any_depth_shape = resize_depth
        self._distortion = distortion
        self._lenses: collections.OrderedDict[tuple, Undistortion] = collections.OrderedDict()
        self._lock = threading.Lock()

    def files(self, index: int) -> tuple[Path, Path | None]:
        """The colour and the depth file of a frame."""
        return self._colour[index], None if self._depth is None else self._depth[index]

    @property
    def depth_shape(self) -> tuple[int, int] | None:
        """(height, width) that depth files must have; None: the colour image's."""
        return None if self._to_colour is None else self._to_colour.depth_shape

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        rgb = read_rgb(self._colour[index])
        camera = self.camera_of(index)
        if rgb.shape[:2] != (camera.height, camera.width):
            # Refused by `Recording`; no table is made for a size that only a file claims.
            return rgb, None
        depth = None if self._depth is None else self._read_depth(index)
        undistortion = self._undistortion(index)
        return (rgb, depth) if undistortion is None else undistortion(rgb, depth)

    def _read_depth(self, index: int) -> np.ndarray:
        path = self._depth[index] if self._depth else None
        if path is None:
            camera = self.camera_of(index)
            return np.zeros((camera.height, camera.width), np.float32)
        depth = read_depth(path, self._units_per_metre)
        camera = self.camera_of(index)
        if self._to_colour is not None:
            # A depth image of another size than it should have is refused by `Recording`.
            return self._to_colour(depth) if depth.shape == self._to_colour.depth_shape else depth
        if self.any_depth_shape and depth.shape != (camera.height, camera.width):
            size = (camera.width, camera.height)
            depth = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)
        return depth

    def _undistortion(self, index: int) -> Undistortion | None:
        distortion = self._distortion
        if isinstance(distortion, Sequence):
            distortion = distortion[index]
        if distortion is None:
            return None
        key = (self.camera_of(index), distortion)
        with self._lock:  # readers are used by several threads
            if key not in self._lenses:
                self._lenses[key] = Undistortion(*key)
                if len(self._lenses) > _CACHED_LENSES:
                    self._lenses.popitem(last=False)
            self._lenses.move_to_end(key)
            return self._lenses[key]
