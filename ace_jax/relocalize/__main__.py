"""Relocalization: a map and query images in; poses, metrics and a report out.

  python -m ace_jax.relocalize --map MAP --seq NAME --out DIR [flags]
  python -m ace_jax.relocalize --map MAP --images PATH --out DIR [flags]

Examples:
  python -m ace_jax.relocalize --map kitchen.safetensors --seq 7scenes/redkitchen/seq-01 \\
      --frames 700: --data_root ~/data --out runs/kitchen
  python -m ace_jax.relocalize --map kitchen.safetensors --seq 7scenes/redkitchen --split test
  python -m ace_jax.relocalize --map kitchen.safetensors --images photo.jpg --intrinsics 1450
  python -m ace_jax.relocalize --map kitchen.safetensors --seq new --rerun queries.rrd
  python -m ace_jax.relocalize --map kitchen.safetensors --map office.safetensors --images photos
  python -m ace_jax.relocalize --map s00525.safetensors --images s00525/seq1 \\
      --intrinsics s00525/intrinsics.txt --map_free submission.zip

With several maps, each query is assigned to the scene that it shows. Exit code 0: all frames were
read; 1: some could not be read; 2: invalid input.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from ace_jax import errors
from ace_jax.viewer import flag as rerun_flag
from ace_jax.viewer import require_rerun

_MAP = flags.DEFINE_multi_string("map", None, "map file; may be given several times", required=True)
_SEQ = flags.DEFINE_string(
    "seq", None, "the queries: a recording, a path or a name; see ace_jax.slam"
)
_IMAGES = flags.DEFINE_string("images", None, "the queries: an image, or a folder of images")
_DATA_ROOT = flags.DEFINE_string("data_root", "data", "folder that holds 7scenes/, tum/, ...")
_FRAMES = flags.DEFINE_string("frames", None, "START:STOP:STEP, the frames to use")
_SPLIT = flags.DEFINE_enum("split", None, ["train", "test"], "the data set's official split")
_POSES = flags.DEFINE_string("poses", None, "reference poses: named poses or a TUM trajectory")
_FOCAL = flags.DEFINE_float("focal", None, "focal length of 7-Scenes' colour camera, pixels")
_SCALE = flags.DEFINE_float(
    "scale", None, "metres for one unit of the poses, where these have a scale of their own"
)
_INTRINSICS = flags.DEFINE_string(
    "intrinsics",
    None,
    "intrinsics of --images: a file, fx,fy,cx,cy or a focal length (default: intrinsics.json "
    "beside the images, else their EXIF)",
)
_OUT = flags.DEFINE_string("out", "runs/relocalize", "output folder")
_SUBMISSION = flags.DEFINE_string(
    "submission",
    None,
    "a file to write the poses to as visuallocalization.net takes them: name, quaternion and "
    "translation, world to camera",
)
_MAP_FREE = flags.DEFINE_string(
    "map_free",
    None,
    "a zip file to add the poses to as the map-free benchmark takes them; --images is the queries' "
    "folder, SCENE/seq1, and --intrinsics SCENE/intrinsics.txt",
)
_HLOC_FEATURES = flags.DEFINE_string(
    "hloc_features", None, "feature file of hloc (.h5) of the queries, for a map of such features"
)
_WEIGHTS_DIR = flags.DEFINE_string(
    "weights_dir", None, "folder with pretrained weights (default: $ACE_JAX_WEIGHTS or the cache)"
)
_USE_DEPTH = flags.DEFINE_bool("use_depth", False, "refine the pose with the queries' depth")
_ALIGN = flags.DEFINE_bool(
    "align",
    False,
    "align the poses rigidly before evaluation: for a map in another frame, such as SLAM's",
)
_RERUN = rerun_flag.define()
_SEED = flags.DEFINE_integer("seed", 0, "random seed; runs with the same seed are reproducible")


_GROUPS = {
    "Input": (
        *(
            "map",
            "seq",
            "images",
            "intrinsics",
            "data_root",
            "frames",
            "split",
            "poses",
            "focal",
            "scale",
        ),
        *("weights_dir", "hloc_features"),
    ),
    "Output": ("out", "submission", "map_free", "rerun"),
    "Method": ("use_depth", "align", "seed"),
}


def main(_: Sequence[str]) -> int | None:
    """Relocalizes as the flags say."""
    if (_SEQ.value is None) == (_IMAGES.value is None):
        raise errors.UserError("give either --seq NAME or --images PATH")
    # Imported here so that --help and bad flags answer at once.
    from ace_jax.data.hloc import FeatureFile
    from ace_jax.data.map_free import add_scene, scene_of
    from ace_jax.data.pose_writers import write_submission
    from ace_jax.data.selection import open_frames
    from ace_jax.features.stored import HlocFeatures
    from ace_jax.files import tell_overwriting
    from ace_jax.localization.several_maps import load_maps
    from ace_jax.relocalize import run
    from ace_jax.relocalize.queries import ImageQueries

    require_rerun(_RERUN.value)
    if _MAP_FREE.value is not None and _IMAGES.value is None:
        raise errors.UserError("--map_free needs --images SCENE/seq1, which names the scene")
    scene = None if _MAP_FREE.value is None else scene_of(_IMAGES.value)
    if _IMAGES.value is not None:
        source = ImageQueries(_IMAGES.value, _INTRINSICS.value)
    else:
        source = open_frames(
            _SEQ.value,
            _DATA_ROOT.value,
            frames=_FRAMES.value,
            split=_SPLIT.value,
            poses=_POSES.value,
            focal=_FOCAL.value,
            scale=_SCALE.value,
        )
    tell_overwriting(Path(_OUT.value) / "metrics.json", _OUT.value)
    stored = _HLOC_FEATURES.value and HlocFeatures(FeatureFile(_HLOC_FEATURES.value))
    relocalizers = load_maps(_MAP.value, _WEIGHTS_DIR.value, stored or None, seed=_SEED.value)
    size = sum(Path(path).stat().st_size for path in _MAP.value)
    with rerun_flag.opened(_RERUN.value, source.name) as view:
        state = run.run(
            relocalizers,
            source,
            _OUT.value,
            size,
            use_depth=_USE_DEPTH.value,
            align=_ALIGN.value,
            view=view,
        )
    found = [a.world_from_camera if a and a.success else None for a in state.answers]
    if _SUBMISSION.value is not None:
        write_submission(_SUBMISSION.value, state.names, found)
    if scene is not None:
        inliers = [0 if a is None else a.num_inliers for a in state.answers]
        add_scene(_MAP_FREE.value, scene, state.names, found, inliers)
    print(run.describe(state, Path(_OUT.value)))
    if state.interrupted:
        return errors.EXIT_INTERRUPTED
    return run.EXIT_UNREAD if state.unread else None


if __name__ == "__main__":
    sys.argv = rerun_flag.with_value(sys.argv)
    errors.run(main, groups=_GROUPS)
