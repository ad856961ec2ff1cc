"""A feature extractor of one's own: a map made with it, saved, loaded, and asked.

  python examples/own_features.py folder/my_recording my_data --out orb.safetensors

The recording needs poses. Every second frame is mapped, the others are looked for. An installed
package needs no call of `register`, see docs/extending.md.
"""

import argparse
import sys

import cv2
import jax.numpy as jnp
import numpy as np

from ace_jax.data.registry import open_sequence
from ace_jax.errors import UserError, report
from ace_jax.features import registry
from ace_jax.features.base import Features
from ace_jax.features.image import as_rgb
from ace_jax.localization.relocalizer import Relocalizer
from ace_jax.localization.scene_map import save_map
from ace_jax.mapping.config import base
from ace_jax.mapping.pipeline import map_scene
from ace_jax.runtime import enable_compilation_cache


class Orb:
    """ORB keypoints; bits as -1 and 1, so that inner products are similarities."""

    name = "orb"
    dim = 256
    weights_checksum = "orb"  # identifies the weights; there are none

    def __init__(self, max_features: int = 500) -> None:
        self.max_features = max_features
        self._detector = cv2.ORB_create(max_features)

    def extract(self, rgb: np.ndarray) -> Features:
        grey = cv2.cvtColor(as_rgb(rgb), cv2.COLOR_RGB2GRAY)
        keypoints, bits = self._detector.detectAndCompute(grey, None)
        count, n = len(keypoints), self.max_features
        uv = np.zeros((n, 2), np.float32)
        descriptors = np.zeros((n, self.dim), np.float32)
        if count:
            uv[:count] = [k.pt for k in keypoints]
            signs = np.unpackbits(bits, axis=1).astype(np.float32) * 2 - 1
            descriptors[:count] = signs / 16  # unit length
        mask = np.arange(n) < count
        return Features(
            uv=jnp.asarray(uv),
            descriptors=jnp.asarray(descriptors),
            scores=jnp.asarray(mask.astype(np.float32)),
            mask=jnp.asarray(mask),
            depth=jnp.zeros(n),
        )


registry.register("orb", Orb)


def make_map(recording: str, data_root: str, out: str) -> None:
    """Maps every second frame."""
    config = base()
    config.features.name = "orb"
    config.features.options = {"max_features": 1000}
    save_map(out, map_scene(open_sequence(recording, data_root, stride=2), config))


def errors_cm(map_file: str, recording: str, data_root: str) -> np.ndarray:
    """(N,) how far off the frames between are found, centimetres; infinite where none is found."""
    relocalizer = Relocalizer.load(map_file)  # the map says which features it needs
    errors = []
    for frame in open_sequence(recording, data_root, start=1, stride=2):
        answer = relocalizer(frame.rgb, frame.camera)
        assert frame.world_from_camera is not None  # else there would be no map
        apart = answer.world_from_camera[:3, 3] - frame.world_from_camera[:3, 3]
        errors.append(100 * np.linalg.norm(apart) if answer.success else np.inf)
    return np.array(errors)


def main() -> int:
    """Maps, saves, loads and asks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recording", help="such as folder/my_recording")
    parser.add_argument("data_root", help="the folder that it is in")
    parser.add_argument("--out", default="orb.safetensors", help="the map file")
    asked = parser.parse_args()
    enable_compilation_cache()  # a second run starts in seconds
    try:
        make_map(asked.recording, asked.data_root, asked.out)
        errors = errors_cm(asked.out, asked.recording, asked.data_root)
    except UserError as error:
        return report(error)
    found = errors[np.isfinite(errors)]
    median = f", median error {np.median(found):.2f} cm" if len(found) else ""
    print(f"{asked.out}: {len(found)} of {len(errors)} frames found{median}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
