"""Warm-up: compiles what later processes need, and keeps it on disk.

  python -m ace_jax.warm_up [--size 640x480] [--map MAP] [flags]

SLAM and mapping are compiled for cameras of the sizes given, whatever their intrinsics;
relocalization for a map, since a program has the map's number of landmarks. Programs are kept
below $ACE_JAX_CACHE, for this processor, the libraries' versions and this installation's code.

Examples:
  python -m ace_jax.warm_up
  python -m ace_jax.warm_up --size 640x480,1280x720 --jobs slam
  python -m ace_jax.warm_up --jobs relocalize --map room.safetensors
"""

import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from ace_jax import errors

JOBS = ("slam", "mapping", "relocalize")

_SIZE = flags.DEFINE_list("size", ["640x480"], "of the images, WIDTHxHEIGHT pixels, one or more")
_JOBS = flags.DEFINE_list(
    "jobs", ["slam", "mapping"], "slam, mapping, relocalize; with --map, relocalize as well"
)
_MAP = flags.DEFINE_list("map", [], "map files that will be asked")
_FEATURES = flags.DEFINE_string("features", "auto", "of SLAM, see its --features")
_WEIGHTS_DIR = flags.DEFINE_string(
    "weights_dir", None, "folder with pretrained weights (default: $ACE_JAX_WEIGHTS or the cache)"
)


def main(_: Sequence[str]) -> None:
    """Compiles, and prints what was compiled and where it is."""
    sizes = [_size(text) for text in _SIZE.value]
    unknown = [job for job in _JOBS.value if job not in JOBS]
    if unknown:
        raise errors.UserError(f"no job {unknown[0]!r}; there are {', '.join(JOBS)}")
    if "relocalize" in _JOBS.value and not _MAP.value:
        raise errors.UserError("relocalize needs --map: programs have its number of landmarks")
    from ace_jax.warm_up import jobs  # here, so that --help and bad flags answer at once

    folder = jobs.folder()
    for size in sizes:
        if "slam" in _JOBS.value:
            print(jobs.slam(size, _FEATURES.value, _WEIGHTS_DIR.value), flush=True)
        if "mapping" in _JOBS.value:
            print(jobs.mapping(size, _WEIGHTS_DIR.value), flush=True)
        for path in _MAP.value:
            print(jobs.relocalize(size, Path(path), _WEIGHTS_DIR.value), flush=True)
    print(f"kept in {folder}: {jobs.megabytes(folder):.0f} MB")


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{2,5})x(\d{2,5})", text.strip())
    if found is None:
        raise errors.UserError(f"--size {text!r} is no WIDTHxHEIGHT, such as 640x480")
    return int(found[1]), int(found[2])


if __name__ == "__main__":
    errors.run(main)
