"""A map of your own: a Flax module from descriptors to scene coordinates, trained on a recording.

  python examples/own_head.py RECORDING MAP

The recording needs poses and, here, depth. docs/extending.md says how a head becomes a part of the
package.
"""

import sys

import flax.linen as nn
import jax

import ace_jax
from ace_jax.mapping.config import with_changes
from ace_jax.models.scene_coordinate_heads import HEADS
from ace_jax.models.scene_coordinates import SceneCoordinates
from ace_jax.precision import network_precision


class TwoLayers(nn.Module):
    """Coordinates around the mean camera centre, and their deviation, metres."""

    width: int = 256

    @nn.compact
    @network_precision
    def __call__(self, descriptors: jax.Array) -> SceneCoordinates:
        """Coordinates of features (N, D)."""
        mean = self.variable("scene", "mean", lambda: jax.numpy.zeros(3)).value
        x = nn.relu(nn.Dense(self.width)(8.0 * descriptors))
        out = nn.Dense(4)(nn.relu(nn.Dense(self.width)(x)))
        return SceneCoordinates(xyz=mean + out[..., :3], scale=nn.softplus(out[..., 3]) + 0.01)


HEADS["two_layers"] = TwoLayers


def main(recording: str, map_file: str, steps: int = 2000) -> ace_jax.SceneMap:
    """Trains the head and saves the map, which programs that import this module can load."""
    config = with_changes(
        head={"name": "two_layers", "options": {"width": 256}},
        points={"source": "measured"},
        training={"steps": steps, "batch": 1024, "loss": "coordinate_nll", "learning_rate": 3e-3},
    )
    scene_map = ace_jax.map_images(ace_jax.open_recording(recording), config=config)
    scene_map.save(map_file)
    return scene_map


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
