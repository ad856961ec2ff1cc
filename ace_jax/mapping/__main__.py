"""Mapping: posed images in, one map file out; no depth is needed.

  python -m ace_jax.mapping --seq NAME --out MAP [--config PRESET_OR_FILE] [flags]

Examples:
  python -m ace_jax.mapping --seq 7scenes/redkitchen/seq-01 --data_root ~/data \\
      --frames 0:600:6 --out kitchen.safetensors
  python -m ace_jax.mapping --seq my_recording --config landmarks_rgb --out mine.safetensors
  python -m ace_jax.mapping --seq 7scenes/redkitchen --split train --config experiments/ace.py \\
      --config.training.steps=5000 --out ace.safetensors
  python -m ace_jax.mapping --seq new_images --update mine.safetensors --out new.safetensors
  python -m ace_jax.mapping --seq colmap/sfm --hloc_features feats.h5 --hloc_matches matches.h5 \\
      --hloc_pairs pairs-sfm.txt --out hloc.safetensors

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
from ace_jax.viewer import require_rerun

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
_HLOC_FEATURES = flags.DEFINE_string(
    "hloc_features", None, "feature file of hloc (.h5), of the mapping images; with --hloc_matches"
)
_HLOC_MATCHES = flags.DEFINE_string("hloc_matches", None, "match file of hloc (.h5)")
_HLOC_PAIRS = flags.DEFINE_string(
    "hloc_pairs", None, "pairs file of hloc, NAME NAME a line (default: all pairs that are there)"
)
_RERUN = rerun_flag.define()
_WEIGHTS_DIR = flags.DEFINE_string(
    "weights_dir", None, "folder with pretrained weights (default: $ACE_JAX_WEIGHTS or the cache)"
)


_GROUPS = {
    "Input": (
        *("seq", "poses", "intrinsics", "data_root", "frames", "split", "focal", "scale"),
        *("update", "weights_dir", "hloc_features", "hloc_matches", "hloc_pairs"),
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

    require_rerun(_RERUN.value)
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
    if _HLOC_FEATURES.value is not None:
        from ace_jax.mapping.run import run_hloc

        print(run_hloc(source, _CONFIG.value, Path(_OUT.value), _hloc_files()))
        return None
    with rerun_flag.opened(_RERUN.value, source.name) as view:
        print(run(source, _CONFIG.value, Path(_OUT.value), _WEIGHTS_DIR.value, _UPDATE.value, view))
    return None


def _hloc_files() -> tuple[str, str, str | None]:
    if _HLOC_MATCHES.value is None:
        raise errors.UserError("--hloc_features needs --hloc_matches, the match file")
    if _UPDATE.value is not None:
        raise errors.UserError("a map cannot be extended with features of hloc; map all images")
    return _HLOC_FEATURES.value, _HLOC_MATCHES.value, _HLOC_PAIRS.value


if __name__ == "__main__":
    try:
        sys.argv = with_preset_files(rerun_flag.with_value(sys.argv))
    except errors.UserError as error:
        sys.exit(errors.report(error))
    errors.run(main, groups=_GROUPS, config=base)
