"""Deployment: a map as a program that runs without ace_jax.

  python -m ace_jax.export MAP --out FOLDER [flags]

FOLDER gets a serialized program (jax.export, for CPU, CUDA and TPU), its arrays, and
relocalizer.py, which loads them and needs jax, flatbuffers, numpy and opencv-python-headless alone.
Extra: export.

Examples:
  python -m ace_jax.export kitchen.safetensors --out relocalizer
  python -m ace_jax.export kitchen.safetensors --out relocalizer --image_size 1280x720

Then, anywhere:
  from relocalizer import Relocalizer
  pose = Relocalizer()(image, [fx, fy, cx, cy])
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from ace_jax import errors
from ace_jax.runtime import enable_compilation_cache

_OUT = flags.DEFINE_string("out", None, "folder to write to", required=True)
_IMAGE_SIZE = flags.DEFINE_string(
    "image_size", None, "WIDTHxHEIGHT of the query images (default: that of the mapping images)"
)
_PLATFORMS = flags.DEFINE_list("platforms", ["cpu", "cuda", "tpu"], "target platforms")
_WEIGHTS_DIR = flags.DEFINE_string(
    "weights_dir", None, "folder with pretrained weights (default: $ACE_JAX_WEIGHTS or the cache)"
)
_SEED = flags.DEFINE_integer("seed", 0, "random seed; runs with the same seed are reproducible")


def main(argv: Sequence[str]) -> None:
    """Exports as the flags say."""
    size = _size(_IMAGE_SIZE.value)
    enable_compilation_cache()
    # Imported here so that --help and bad flags answer at once.
    from ace_jax.export.artifact import export
    from ace_jax.localization.relocalizer import Relocalizer

    relocalizer = Relocalizer.load(argv[1], _WEIGHTS_DIR.value, seed=_SEED.value)
    info = export(relocalizer, _OUT.value, size, _PLATFORMS.value)
    out = Path(_OUT.value)
    program, arrays = ((out / name).stat().st_size / 1e6 for name in ("program.bin", "arrays.npz"))
    print(
        f"{out}: {info['head']} on {info['features']}, images of {info['width']} x "
        f"{info['height']}, for {', '.join(info['platforms'])}; program {program:.2f} MB, arrays "
        f"{arrays:.2f} MB"
    )


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise errors.UserError(f"--image_size {text!r}: give WIDTHxHEIGHT, such as 640x480")
    return int(width), int(height)


if __name__ == "__main__":
    errors.run(main, positional=("MAP",))
