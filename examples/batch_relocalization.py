"""Many photos at once, of any sizes: one compiled program answers them in batches.

python examples/batch_relocalization.py MAP fx,fy,cx,cy PHOTO ...
"""

import sys
from collections.abc import Sequence

import ace_jax


def locate_all(
    map_file: str, intrinsics: Sequence[float], photos: Sequence[str]
) -> list[ace_jax.Localization]:
    """Where each photo was taken, all by one camera."""
    relocalizer = ace_jax.Relocalizer.load(map_file)
    return relocalizer.locate_many(photos, [intrinsics] * len(photos))


if __name__ == "__main__":
    numbers = [float(number) for number in sys.argv[2].split(",")]
    answers = locate_all(sys.argv[1], numbers, sys.argv[3:])
    for photo, answer in zip(sys.argv[3:], answers, strict=True):
        print(photo, answer.world_from_camera.tolist() if answer.success else "not found")
