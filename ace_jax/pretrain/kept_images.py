"""Disk cache of rendered scene images, shared by runs with different features."""

from pathlib import Path

import cv2
import numpy as np
from absl import logging

from ace_jax.data.frame import Frame
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.pretrain.scenes import SceneSource, Views, identity_of
from ace_jax.weights import safetensors_io

_UNIT = 2e-4  # metres, of stored depth


class KeptImages:
    """A scene source whose images are made once and then read; 20 MB for 24 images of 640x480.

    Attributes:
        name: of the source.
        identity: of the source.
    """

    def __init__(self, source: SceneSource, folder: Path | str):
        """Keeps the images of `source` in a folder, which is created when it is first written to.

        Args:
            source: gives images with depth.
            folder: may hold other sources' images, too.
        """
        self._source, self._folder = source, Path(folder)
        self.name, self.identity = source.name, source.identity

    def __len__(self) -> int:
        return len(self._source)

    def seed(self, number: int) -> int:
        """What names a scene in a cache."""
        return self._source.seed(number) if hasattr(self._source, "seed") else number

    def images(self, number: int, views: Views) -> list[Frame]:
        """See `SceneSource`."""
        key = identity_of(source=self.identity, views=[views.mapping, views.held_out, views.query])
        path = self._folder / key / f"{self.name}-{self.seed(number)}.safetensors"
        if path.is_file():
            try:
                return _from_arrays(safetensors_io.read(path)[0])
            except (UserError, KeyError, cv2.error):
                logging.warning("%s is damaged; the scene is made again", path)
        arrays = _to_arrays(self._source.images(number, views))
        safetensors_io.write(path, arrays, {"source": self.name, "number": str(number)})
        return _from_arrays(arrays)  # as they will be read


def _to_arrays(frames: list[Frame]) -> dict[str, np.ndarray]:
    arrays = {
        "poses": np.stack([frame.world_from_camera for frame in frames]),
        "intrinsics": np.array([frame.camera.intrinsics for frame in frames], np.float64),
    }
    for i, frame in enumerate(frames):
        depth = np.clip(np.rint(frame.depth / _UNIT), 0, 65535).astype(np.uint16)
        for name, image in (("rgb", frame.rgb[:, :, ::-1]), ("depth", depth)):
            arrays[f"{name}.{i}"] = cv2.imencode(".png", image)[1].ravel()
    return arrays


def _from_arrays(arrays: dict[str, np.ndarray]) -> list[Frame]:
    frames = []
    for i, (pose, intrinsics) in enumerate(zip(arrays["poses"], arrays["intrinsics"], strict=True)):
        rgb = cv2.imdecode(arrays[f"rgb.{i}"], cv2.IMREAD_COLOR)[:, :, ::-1]
        depth = cv2.imdecode(arrays[f"depth.{i}"], cv2.IMREAD_UNCHANGED)
        height, width = depth.shape
        frames.append(
            Frame(
                index=i,
                name=f"{i:06d}",
                timestamp=float(i),
                rgb=np.ascontiguousarray(rgb),
                depth=depth.astype(np.float32) * np.float32(_UNIT),
                camera=Camera(*(float(x) for x in intrinsics), width, height),
                world_from_camera=pose,
            )
        )
    return frames
