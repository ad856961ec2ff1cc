"""Pre-training: many scenes with depth in, one scene-agnostic transformer out.

  python -m ace_jax.pretrain --config VARIANT_OR_FILE --workdir DIR [flags]

Examples:
  python -m ace_jax.pretrain --config smoke --workdir runs/smoke
  python -m ace_jax.pretrain --config experiments/pretrain.py:cpu --workdir runs/pretrain
  python -m ace_jax.pretrain --config small --workdir runs/small --config.steps=20000
  python -m ace_jax.mapping --seq kitchen --config ace_g_cpu --config.features.name=sift \\
      --config.code.weights=runs/pretrain/transformer.safetensors --out kitchen.safetensors

Variants: paper, small, cpu, smoke; below, fields have the values of cpu. Started again with the
same folder, an interrupted run is resumed. On several hosts, start it on each with --coordinator,
--processes and --process (on TPU pods and under SLURM `--coordinator auto` finds the rest).
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from ace_jax import config_flag, errors
from ace_jax.runtime import enable_compilation_cache

_PRESETS = Path(__file__).with_name("presets.py")
_VARIANTS = ("paper", "small", "cpu", "smoke")

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, f"a file with get_config(), or a variant: {', '.join(_VARIANTS)}",
    lock_config=True,
)  # fmt: skip
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder for checkpoints, metrics and the result", required=True
)
_DATA_ROOT = flags.DEFINE_string("data_root", "data", "folder that holds recordings, or TFDS data")
_WEIGHTS_DIR = flags.DEFINE_string(
    "weights_dir",
    None,
    "folder with the features' weights (default: $ACE_JAX_WEIGHTS or the cache)",
)
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, or auto")
_PROCESSES = flags.DEFINE_integer("processes", None, "number of processes")
_PROCESS = flags.DEFINE_integer("process", None, "index of this process, from 0")


def main(_: Sequence[str]) -> int | None:
    """Pre-trains as the flags say."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # at INFO, Orbax tells of every file that it opens
    enable_compilation_cache()
    # Imported here so that --help and bad flags answer at once.
    import jax

    from ace_jax.pretrain.run import run

    if _CONFIG.value is None:
        raise errors.UserError(f"say --config: a file, or one of {', '.join(_VARIANTS)}")
    if _COORDINATOR.value == "auto":
        jax.distributed.initialize()
    elif _COORDINATOR.value:
        jax.distributed.initialize(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    print(run(_CONFIG.value, _WORKDIR.value, _DATA_ROOT.value, _WEIGHTS_DIR.value))
    return None


def _shown() -> ConfigDict:
    """The configuration whose fields `--help` shows."""
    from ace_jax.pretrain.presets import cpu

    return cpu()


def _resolve(name: str) -> str:
    """The file of a variant's name; a file's path (with `:VARIANT`, perhaps) stays as it is.

    Raises:
        UserError: neither a variant nor a file.
    """
    file, _, variant = name.partition(":")
    if name in _VARIANTS:
        return f"{_PRESETS}:{name}"
    if not Path(file).is_file() or (variant and variant not in _VARIANTS):
        raise errors.UserError(
            f"--config {name}: there is no such file, and the variants are {', '.join(_VARIANTS)}"
        )
    return name


if __name__ == "__main__":
    try:
        sys.argv = config_flag.with_resolved(sys.argv, _resolve)
    except errors.UserError as error:
        sys.exit(errors.report(error))
    errors.run(main, config=_shown)
