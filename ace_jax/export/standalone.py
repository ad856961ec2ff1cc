"""Camera poses of images in an exported map; runs without ace_jax.

This file lies beside the exported program and needs `jax`, `flatbuffers`, `numpy`
and `opencv-python-headless`.

    from relocalizer import Relocalizer

    relocalizer = Relocalizer()
    pose = relocalizer(image, [525.0, 525.0, 319.5, 239.5])  # RGB (H, W, 3) uint8; fx, fy, cx, cy
    if pose.success:
        print(pose.world_from_camera)
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import jax
import jax.export
import numpy as np


class Pose(NamedTuple):
    """Where an image was taken.

    Attributes:
        success: whether it was found out; without it the pose is the identity.
        world_from_camera: (4, 4) float64, metres; camera axes x right, y down, z forward.
        num_inliers: image points that support the pose.
        covariance: (6, 6) of the left tangent (translation, rotation) of camera_from_world.
    """

    success: bool
    world_from_camera: np.ndarray
    num_inliers: int
    covariance: np.ndarray


class Relocalizer:
    """An exported map, ready to answer. The first call compiles, which takes some seconds.

    Args:
        folder: that holds `relocalizer.json`, `program.bin` and `arrays.npz`.
    """

    def __init__(self, folder: Path | str = Path(__file__).parent) -> None:
        folder = Path(folder)
        self.info = json.loads((folder / "relocalizer.json").read_text(encoding="utf-8"))
        with np.load(folder / "arrays.npz", allow_pickle=False) as file:
            arrays = [file[f"{i:04d}"] for i in range(len(file.files))]
        self._arrays = jax.device_put(arrays)
        program = jax.export.deserialize(bytearray((folder / "program.bin").read_bytes()))
        self._program = jax.jit(program.call)

    def __call__(self, image: np.ndarray, intrinsics: Sequence[float]) -> Pose:
        """The pose of an image.

        Args:
            image: (H, W, 3) uint8 RGB without lens distortion, of the exported size.
            intrinsics: fx, fy, cx, cy in pixels; the centre of the top-left pixel is (0, 0).

        Raises:
            ValueError: the image has another size or type than this program is for.
        """
        size = (self.info["height"], self.info["width"], 3)
        if image.shape != size or image.dtype != np.uint8:
            raise ValueError(
                f"this program takes uint8 images of {size[1]} x {size[0]} pixels, not "
                f"{image.dtype} {image.shape}; export the map with another --image_size"
            )
        inputs = _SEEN[self.info["input"]["kind"]](image, self.info["input"])
        out = self._program(self._arrays, inputs, np.asarray(intrinsics, np.float32))
        out = jax.device_get(out)
        success = bool(out["success"])
        camera_from_world = out["camera_from_world"].astype(np.float64)
        return Pose(
            success,
            np.linalg.inv(camera_from_world) if success else np.eye(4),
            int(out["num_inliers"]),
            out["covariance"],
        )


def _resized(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    if (image.shape[1], image.shape[0]) == tuple(size):
        return image
    shrinks = size[0] <= image.shape[1] and size[1] <= image.shape[0]
    mode = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, tuple(size), interpolation=mode)


def _scale(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    return np.array([image.shape[1] / size[0], image.shape[0] / size[1]], np.float32)


def _pixels(image: np.ndarray, options: dict) -> dict[str, np.ndarray]:
    """The image at the network's size; features are computed by the program."""
    columns, rows = options["crop"]
    pixels = _resized(image, options["size"])[:rows, :columns]
    return {"image": np.ascontiguousarray(pixels), "scale": _scale(image, options["size"])}


def _sift(image: np.ndarray, options: dict) -> dict[str, np.ndarray]:
    """RootSIFT features, the strongest first, padded to a fixed count."""
    count = options["max_features"]
    grey = _resized(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), options["size"])
    detector = cv2.SIFT_create(
        nfeatures=count,
        contrastThreshold=options["contrast_threshold"],
        enable_precise_upscale=True,
    )
    points, descriptors = detector.detectAndCompute(grey, None)
    out = {
        "uv": np.zeros((count, 2), np.float32),
        "descriptors": np.zeros((count, 128), np.float32),
        "scores": np.zeros(count, np.float32),
        "mask": np.zeros(count, bool),
        "depth": np.zeros(count, np.float32),
    }
    if points:
        response = np.array([point.response for point in points], np.float32)
        order = np.argsort(-response, kind="stable")[:count]
        n = len(order)
        places = np.array([point.pt for point in points], np.float32)[order]
        out["uv"][:n] = (places + 0.5) * _scale(image, options["size"]) - 0.5
        root = np.sqrt(
            descriptors[order] / np.maximum(descriptors[order].sum(1, keepdims=True), 1e-6)
        )
        out["descriptors"][:n] = root / np.maximum(np.linalg.norm(root, axis=1)[:, None], 1e-6)
        out["scores"][:n] = response[order]
        out["mask"][:n] = True
    return out


_SEEN = {"pixels": _pixels, "sift": _sift}
