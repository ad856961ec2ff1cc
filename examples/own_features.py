"""A feature extractor of your own: a map made with it, saved, loaded, and asked.

  python examples/own_features.py RECORDING MAP

The recording needs poses. Every second frame is mapped, the others are looked for. An installed
package needs no call of `register`, see docs/extending.md.
"""

import sys

import cv2
import jax.numpy as jnp
import numpy as np

import ace_jax
from ace_jax.features import registry
from ace_jax.features.base import Features
from ace_jax.features.image import as_rgb
from ace_jax.mapping.config import with_changes


class Orb:
    """ORB keypoints; bits as -1 and 1, so that inner products are similarities."""

    name = "orb"
    dim = 256
    weights_checksum = "orb"  # identifies the weights; there are none

    def __init__(self, max_features: int = 500) -> None:
        self.max_features = max_features
        self._detector = cv2.ORB.create(max_features)

    def extract(self, rgb: np.ndarray) -> Features:
        grey = cv2.cvtColor(as_rgb(rgb), cv2.COLOR_RGB2GRAY)
        keypoints, bits = self._detector.detectAndCompute(grey, None)
        count, n = len(keypoints), self.max_features
        uv = np.zeros((n, 2), np.float32)
        descriptors = np.zeros((n, self.dim), np.float32)
        if count:
            uv[:count] = [k.pt for k in keypoints]
            signs = np.unpackbits(np.uint8(bits), axis=1).astype(np.float32) * 2 - 1
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


def main(recording: str, out: str) -> list[float]:
    """How far off each frame between the mapped ones is found, centimetres."""
    config = with_changes(features={"name": "orb", "options": {"max_features": 1000}})
    ace_jax.map_images(ace_jax.open_recording(recording, stride=2), config=config).save(out)
    relocalizer = ace_jax.Relocalizer.load(out)  # the map says which features it needs
    errors = []
    for frame in ace_jax.open_recording(recording, start=1, stride=2):
        answer = relocalizer(frame.rgb, frame.camera)
        if answer.success and frame.world_from_camera is not None:
            apart = answer.world_from_camera[:3, 3] - frame.world_from_camera[:3, 3]
            errors.append(100 * float(np.linalg.norm(apart)))
    print(f"{len(errors)} frames found, median error {np.median(errors):.2f} cm")
    return errors


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
