"""Mapping: posed images in, one map file out; no depth is needed.

  python -m ace_jax.mapping --seq NAME --out MAP [--config PRESET_OR_FILE] [flags]

Examples:
  python -m ace_jax.mapping --seq 7scenes/redkitchen/seq-01 --data_root ~/data \\
      --frames 0:600:6 --out kitchen.safetensors
  python -m ace_jax.mapping --seq my_recording --config landmarks_rgb --out mine.safetensors
  python -m ace_jax.mapping --seq 7scenes/redkitchen --split train --config experiments/ace.py \\
      --config.training.steps=5000 --out ace.safetensors
  python -m ace_jax.mapping --seq new_images --update mine.safetensors --out new.safetensors

A run that was interrupted while training continues when the same command is given again.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags, logging
from ml_collections import config_flags

from ace_jax import errors
from ace_jax.mapping.config import base, preset_names, with_preset_files
from ace_jax.viewer import flag as rerun_flag

_SEQ = flags.DEFINE_string(
    "seq", None, "the recording, a path or a name; see ace_jax.slam", required=True
)
_OUT = flags.DEFINE_string("out", None, "the map file", required=True)
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,  # the default preset is put in place below: a default here would be parsed too early
    f"a file with get_config(), or a preset: {', '.join(preset_names())} (default: landmarks)",
    lock_config=True,
)
_DATA_ROOT = flags.DEFINE_string("data_root", "data", "folder that holds 7scenes/, tum/, ...")
_FRAMES = flags.DEFINE_string("frames", None, "START:STOP:STEP, the frames to use")
_SPLIT = flags.DEFINE_enum("split", None, ["train", "test"], "the data set's official split")
_POSES = flags.DEFINE_string("poses", None, "poses of the images: named poses or a TUM trajectory")
_INTRINSICS = flags.DEFINE_string(
    "intrinsics", None, "of a folder of images that has none: fx,fy,cx,cy in pixels, or a file"
)
_FOCAL = flags.DEFINE_float("focal", None, "focal length of 7-Scenes' colour camera, pixels")
_SCALE = flags.DEFINE_float(
    "scale", None, "metres for one unit of the poses, where these have a scale of their own"
)
_UPDATE = flags.DEFINE_string(
    "update", None, "an existing map of this scene, to be extended with the images"
)
_RERUN = rerun_flag.define()
_WEIGHTS_DIR = flags.DEFINE_string(
    "weights_dir", None, "folder with pretrained weights (default: $ACE_JAX_WEIGHTS or the cache)"
)


_GROUPS = {
    "Input": (
        *("seq", "poses", "intrinsics", "data_root", "frames", "split", "focal", "scale"),
        *("update", "weights_dir"),
    ),
    "Output": ("out", "rerun"),
    "Method": ("config",),
}


def main(_: Sequence[str]) -> int | None:
    """Maps as the flags say."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # at INFO, Orbax tells of every file that it opens
    # Imported here so that --help and bad flags answer at once.
    from ace_jax.data.intrinsics import parse_intrinsics
    from ace_jax.data.selection import open_frames
    from ace_jax.files import tell_overwriting
    from ace_jax.mapping.run import run

    source = open_frames(
        _SEQ.value,
        _DATA_ROOT.value,
        frames=_FRAMES.value,
        split=_SPLIT.value,
        poses=_POSES.value,
        focal=_FOCAL.value,
        intrinsics=None if _INTRINSICS.value is None else parse_intrinsics(_INTRINSICS.value),
        scale=_SCALE.value,
    )
    tell_overwriting(Path(_OUT.value), _OUT.value)
    with rerun_flag.opened(_RERUN.value, source.name) as view:
        print(run(source, _CONFIG.value, Path(_OUT.value), _WEIGHTS_DIR.value, _UPDATE.value, view))
    return None


if __name__ == "__main__":
    try:
        sys.argv = with_preset_files(rerun_flag.with_value(sys.argv))
    except errors.UserError as error:
        sys.exit(errors.report(error))
    errors.run(main, groups=_GROUPS, config=base)
