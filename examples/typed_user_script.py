"""A typed script over the public API: camera poses of all frames of a recording in a map.

  python examples/typed_user_script.py MAP RECORDING DATA_ROOT

It needs a map, such as `python -m ace_jax.mapping` writes. The tests check its types with pyright.
"""

import sys
from pathlib import Path

import numpy as np

from ace_jax.data.frame import FrameSource
from ace_jax.data.pose_writers import write_trajectory_tum
from ace_jax.data.registry import open_sequence
from ace_jax.localization.relocalizer import Localization, Relocalizer
from ace_jax.localization.several_maps import load_maps


def localize(relocalizer: Relocalizer, source: FrameSource) -> np.ndarray:
    """(N, 4, 4) world_from_camera of the frames, NaN where no pose was found."""
    poses = np.full((len(source), 4, 4), np.nan)
    for frame in source:
        answer: Localization = relocalizer(frame.rgb, frame.camera)
        if answer.success:
            poses[frame.index] = answer.world_from_camera
    return poses


def main(map_file: str, recording: str, data_root: str) -> None:
    """Localizes every tenth frame and writes a TUM trajectory."""
    source = open_sequence(recording, data_root, stride=10)
    relocalizer: Relocalizer = load_maps([map_file])[0]
    write_trajectory_tum(Path("poses.tum"), source.timestamps(), localize(relocalizer, source))


if __name__ == "__main__":
    main(*sys.argv[1:])
