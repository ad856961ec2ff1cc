"""Compares an estimated trajectory with the true one: ATE, RPE and coverage.

  python -m ace_jax.evaluation TRAJ GT [flags]

TRAJ and GT are TUM trajectories (t tx ty tz qx qy qz qw, camera to world) or lists of named
poses (name qw qx qy qz tx ty tz ..., world to camera), such as the SfM poses of 7-Scenes.

Examples:
  python -m ace_jax.evaluation runs/slam/tum/freiburg1_rpy/trajectory.tum groundtruth.txt
  python -m ace_jax.evaluation trajectory.tum seq-01-sfm-pseudo-gt.txt --frames 800
  python -m ace_jax.evaluation trajectory.tum groundtruth.txt --plot errors.png --json errors.json

Alignment is by a rigid motion, never by scale; read ATE together with the coverage.
"""

from collections.abc import Sequence

from absl import flags

from ace_jax import errors, files
from ace_jax.evaluation import trajectory
from ace_jax.evaluation.files import read_trajectory

_MAX_DIFFERENCE = flags.DEFINE_float(
    "max_difference",
    trajectory.MAX_DIFFERENCE,
    "largest time difference of matched poses, seconds",
    lower_bound=0.0,
)
_DELTA = flags.DEFINE_integer(
    "delta", 1, "distance between the poses of an RPE pair, in matched poses", 1
)
_FPS = flags.DEFINE_float(
    "fps", 30.0, "frame rate in Hz, for poses with frame numbers instead of times", 1e-3
)
_FRAMES = flags.DEFINE_integer(
    "frames", None, "number of frames of the recording, to compute the coverage", lower_bound=1
)
_JSON = flags.DEFINE_string("json", None, "also write the numbers to this JSON file")
_PLOT = flags.DEFINE_string("plot", None, "plot both trajectories to this PNG file")


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    estimate_path, reference_path = argv[1:3]
    estimate = read_trajectory(estimate_path, _FPS.value)
    reference = read_trajectory(reference_path, _FPS.value)
    try:
        result = trajectory.compare(estimate, reference, _MAX_DIFFERENCE.value, _DELTA.value)
    except trajectory.NoOverlap as error:
        raise errors.UserError(
            f"no overlap of {estimate_path} with {reference_path}: {error}; "
            "check that the times belong together (see --max_difference, --fps)"
        ) from error
    print(trajectory.errors_table(result, estimate, reference, _DELTA.value, _FRAMES.value))
    if _JSON.value:
        files.write_json(_JSON.value, trajectory.errors_summary(result, estimate, _FRAMES.value))
    if _PLOT.value:
        from ace_jax.evaluation.plots import save_figure, trajectory_figure

        save_figure(_PLOT.value, trajectory_figure(estimate, reference))


if __name__ == "__main__":
    errors.run(main, positional=("TRAJ", "GT"))
