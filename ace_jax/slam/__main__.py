"""RGB-D SLAM: a recording in; trajectory, map, picture and metrics out.

  python -m ace_jax.slam [PATH] [flags]
  python -m ace_jax.slam [--seq NAME] [flags]

PATH is a recording, recognised by what it holds: a folder with rgb/, depth/ and intrinsics.json, a
TUM, 7-Scenes, ScanNet or Replica sequence, a COLMAP model or transforms.json with depth, an export
of Record3D or Polycam, a bag. NAME is the same, or synthetic/room0 (the default: rendered here,
nothing to download), 7scenes/SCENE/SEQ, tum/SEQUENCE, live/realsense or another that
python -m ace_jax.data list shows, below --data_root.

Examples:
  python -m ace_jax.slam
  python -m ace_jax.slam my_recording
  python -m ace_jax.slam my_recording --intrinsics 525,525,319.5,239.5
  python -m ace_jax.slam --seq tum/freiburg1_rpy --data_root ~/data
  python -m ace_jax.slam --seq 7scenes/redkitchen/seq-01 --data_root ~/data --stride 3
  python -m ace_jax.slam --seq tum/freiburg1_rpy --data_root ~/data --realtime
  python -m ace_jax.slam my_recording --rerun --mesh
  python -m ace_jax.slam never_aligned --register_depth
  python -m ace_jax.slam a_long_day --checkpoint 30
  python -m ace_jax.slam next_day --session runs/slam/a_long_day/session.safetensors

Poses come from the images alone; ground truth, where there is one, is for the evaluation.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from ace_jax import errors
from ace_jax.viewer import flag as rerun_flag
from ace_jax.viewer import require_rerun

_SEQ = flags.DEFINE_string("seq", "synthetic/room0", "the recording, a path or a name")
_INTRINSICS = flags.DEFINE_string(
    "intrinsics",
    None,
    "of a folder of images that has none: fx,fy,cx,cy in pixels (depth in millimetres), or a file "
    "as intrinsics.json",
)
_DATA_ROOT = flags.DEFINE_string("data_root", "data", "folder that holds 7scenes/, tum/, ...")
_OUT = flags.DEFINE_string("out", None, "output folder (default: runs/slam/SEQ)")
_HEAD = flags.DEFINE_string(
    "head",
    "landmark_attention",
    "kind of map: landmark_attention, tri_mlp or homogeneous_mlp; see docs/slam.md",
)
_FEATURES = flags.DEFINE_string(
    "features",
    "auto",
    "blobs, sift, xfeat, xfeat_blobs or learned_blobs (the last three need weights); auto: blobs",
)
_WEIGHTS_DIR = flags.DEFINE_string(
    "weights_dir", None, "folder with pretrained weights (default: $ACE_JAX_WEIGHTS or the cache)"
)
_START = flags.DEFINE_integer("start", 0, "first frame", lower_bound=0)
_STRIDE = flags.DEFINE_integer("stride", 1, "take every n-th frame", lower_bound=1)
_MAX_FRAMES = flags.DEFINE_integer("max_frames", None, "at most so many frames", lower_bound=1)
_POSES = flags.DEFINE_string(
    "poses", None, "another ground truth for the evaluation: named poses or a TUM trajectory"
)
_READOUT_MS = flags.DEFINE_float(
    "readout_ms",
    None,
    "milliseconds from the first to the last row of a colour image (rolling shutter), to begin "
    "with: they are learned; 0: unknown (default: what is known of the recording's camera)",
    lower_bound=0.0,
)
_REGISTER_DEPTH = flags.DEFINE_bool(
    "register_depth",
    False,
    "depth was taken by a camera beside the colour camera: find its place, and warp it to colour",
)
_DEPTH_FOCAL = flags.DEFINE_float(
    "depth_focal",
    None,
    "with --register_depth: the depth camera's focal length, pixels (default: estimated)",
    lower_bound=1.0,
)
_REALTIME = flags.DEFINE_bool(
    "realtime", False, "play the recording at its own speed and skip the frames that come late"
)
_CLOSE_LOOPS = flags.DEFINE_bool(
    "close_loops", True, "recognise places seen long ago and take out the drift since"
)
_SESSION = flags.DEFINE_string(
    "session", None, "go on from the session.safetensors of an earlier run of this place"
)
_FROZEN = flags.DEFINE_bool(
    "frozen", False, "look for the camera in --session and leave that map as it is; no depth needed"
)
_CHECKPOINT = flags.DEFINE_float(
    "checkpoint",
    None,
    "keep the state in OUT every so many seconds: if the run is killed, the same command goes on",
    lower_bound=0.0,
)
_MESH = flags.DEFINE_bool(
    "mesh", False, "fuse depth along the trajectory to a coloured mesh.ply (extra `mesh`)"
)
_RERUN = rerun_flag.define()
_SEED = flags.DEFINE_integer("seed", 0, "random seed; runs with the same seed are reproducible")


_GROUPS = {
    "Input": (
        *("seq", "intrinsics", "data_root", "start", "stride", "max_frames", "poses"),
        *("readout_ms", "register_depth", "depth_focal", "realtime"),
    ),
    "Output": ("out", "mesh", "rerun"),
    "Method": ("features", "weights_dir", "head", "close_loops", "seed"),
    "Earlier and interrupted runs": ("session", "frozen", "checkpoint"),
}


def main(argv: Sequence[str]) -> int | None:
    """Runs SLAM as the flags say."""
    sequence = argv[1] if len(argv) > 1 else _SEQ.value
    if len(argv) > 1 and flags.FLAGS["seq"].present:
        raise errors.UserError(f"two recordings, {argv[1]} and --seq {_SEQ.value}: give one")
    # Imported here so that --help and bad flags answer at once.
    from ace_jax.data.intrinsics import parse_intrinsics
    from ace_jax.data.registered_depth import registered
    from ace_jax.data.registry import open_sequence, short_name
    from ace_jax.files import tell_overwriting
    from ace_jax.slam import run
    from ace_jax.slam.reporting import mesh
    from ace_jax.slam.reporting.live_view import SlamView
    from ace_jax.slam.reporting.report import summary
    from ace_jax.slam.sessions.checkpoint import SlamCheckpoint

    require_rerun(_RERUN.value)
    if _MESH.value:
        mesh.require_open3d()
    source = open_sequence(
        sequence,
        _DATA_ROOT.value,
        start=_START.value,
        stride=_STRIDE.value,
        max_frames=_MAX_FRAMES.value,
        poses=_POSES.value,
        intrinsics=None if _INTRINSICS.value is None else parse_intrinsics(_INTRINSICS.value),
        needs_depth=not _FROZEN.value,
    )
    out = Path(_OUT.value) if _OUT.value else Path("runs/slam") / short_name(sequence)
    if _FROZEN.value and _SESSION.value is None:
        raise errors.UserError("--frozen needs a map: give --session")
    run.prepare(source, out, needs_depth=not _FROZEN.value)
    source = registered(source, _REGISTER_DEPTH.value, _DEPTH_FOCAL.value)
    if _MESH.value:
        mesh.require(source)
    session = None if _SESSION.value is None else Path(_SESSION.value)
    checkpoint, goes_on = None, False
    if _CHECKPOINT.value is not None:
        if _HEAD.value != run.DEFAULT_HEAD:
            raise errors.UserError(f"--checkpoint works with --head {run.DEFAULT_HEAD} alone")
        settings = (sequence, source.timestamps().tobytes(), _HEAD.value, _FEATURES.value)
        settings += (_SEED.value, session, _FROZEN.value, _CLOSE_LOOPS.value)
        settings += (_REGISTER_DEPTH.value, _DEPTH_FOCAL.value)
        checkpoint = SlamCheckpoint(out, settings, _CHECKPOINT.value)
        goes_on = checkpoint.unfinished()
        if goes_on:
            session = checkpoint.path
    if not goes_on:
        tell_overwriting(out / "metrics.json", out)
    options = run.SystemOptions(
        head=_HEAD.value,
        features=_FEATURES.value,
        weights_dir=_WEIGHTS_DIR.value,
        seed=_SEED.value,
        realtime=_REALTIME.value,
        session=session,
        frozen=_FROZEN.value,
        close_loops=_CLOSE_LOOPS.value,
    )
    system = run.create_while_rendering(source, options)
    readout = None if _READOUT_MS.value is None else _READOUT_MS.value / 1e3
    with rerun_flag.opened(_RERUN.value, source.name) as live:
        view = None if live is None else SlamView(live)
        result = run.run(
            source, system, out, _SEED.value, readout, _REALTIME.value, checkpoint, view
        )
    if _MESH.value:
        vertices, triangles = mesh.write_mesh(
            out / "mesh.ply", mesh.posed_frames(source, result.system)
        )
        print(f"mesh: {vertices} vertices, {triangles} triangles")
    print(summary(result.metrics, out))
    return errors.EXIT_INTERRUPTED if result.interrupted else None


if __name__ == "__main__":
    sys.argv = rerun_flag.with_value(sys.argv)
    errors.run(main, optional=("PATH",), groups=_GROUPS)
