"""Encoder pre-training: pairs of images in, a small descriptor network out.

  python -m ace_jax.encoder --config PRESET_OR_FILE --workdir DIR [flags]

Examples:
  python -m ace_jax.encoder --config smoke --workdir runs/encoder_smoke
  python -m ace_jax.encoder --config cpu --workdir runs/encoder
  python -m ace_jax.encoder --config cpu --workdir runs/oriented --config.network.oriented=True
  python -m ace_jax.slam --seq kitchen --features learned_blobs \\
      --weights_dir runs/encoder/descriptor.safetensors

Presets: cpu, windows, smoke; below, fields have the values of cpu, which learns from procedural
rooms that are rendered the first time. A file with get_config() may add photographs and recordings:
see docs/encoders.md. Started again with the same folder, an interrupted run is resumed.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from ace_jax import config_flag, errors
from ace_jax.runtime import enable_compilation_cache

_PRESETS_FILE = Path(__file__).with_name("presets.py")
_PRESETS = ("cpu", "windows", "smoke")

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, f"a file with get_config(), or a preset: {', '.join(_PRESETS)}",
    lock_config=True,
)  # fmt: skip
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder for checkpoints, metrics and the result", required=True
)
_DATA_ROOT = flags.DEFINE_string("data_root", "data", "folder that holds recordings")


def main(_: Sequence[str]) -> int | None:
    """Trains as the flags say."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # at INFO, Orbax tells of every file that it opens
    enable_compilation_cache()
    # Imported here so that --help and bad flags answer at once.
    from ace_jax.encoder.run import run

    if _CONFIG.value is None:
        raise errors.UserError(f"say --config: a file, or one of {', '.join(_PRESETS)}")
    print(run(_CONFIG.value, _WORKDIR.value, _DATA_ROOT.value))
    return None


def _shown() -> ConfigDict:
    """The configuration whose fields `--help` shows."""
    from ace_jax.encoder.presets import cpu

    return cpu()


def _resolve(name: str) -> str:
    """The file of a preset's name; a file's path (with `:PRESET`, perhaps) stays as it is.

    Raises:
        UserError: neither a preset nor a file.
    """
    if name in _PRESETS:
        return f"{_PRESETS_FILE}:{name}"
    if not Path(name.partition(":")[0]).is_file():
        raise errors.UserError(
            f"--config {name}: there is no such file, and the presets are {', '.join(_PRESETS)}"
        )
    return name


if __name__ == "__main__":
    try:
        sys.argv = config_flag.with_resolved(sys.argv, _resolve)
    except errors.UserError as error:
        sys.exit(errors.report(error))
    errors.run(main, config=_shown)
