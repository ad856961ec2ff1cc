"""The program of a VSLAM-LAB baseline, mode rgbd: a sequence in, a trajectory out.

  python examples/vslam_lab_rgbd.py --sequence_path SEQUENCE --calibration_yaml FILE \\
      --rgb_csv FILE --exp_folder OUT --exp_it 0

Arguments and files are those of VSLAM-LAB's Python baselines; it gives further arguments, which are
ignored. The calibration lists cameras with `focal_length`, `principal_point`, `image_dimension`,
`depth_name`, `depth_factor` and, with a lens, `distortion_coefficients`. Needs PyYAML.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

import ace_jax
from ace_jax.data.images import read_depth, read_rgb
from ace_jax.data.undistortion import Undistortion
from ace_jax.geometry.distortion import RadialTangential
from ace_jax.geometry.rigid import to_quaternion

CAMERA = "rgb0"  # its first colour camera


def frames(
    sequence: Path, calibration: Path, table: Path
) -> Iterator[tuple[ace_jax.Camera, np.ndarray, np.ndarray, float]]:
    """Camera, colour, depth in metres and seconds of each frame."""
    cameras = yaml.safe_load(calibration.read_text())["cameras"]
    (known,) = [camera for camera in cameras if camera["cam_name"] == CAMERA]
    camera = ace_jax.Camera(
        *known["focal_length"], *known["principal_point"], *known["image_dimension"]
    )
    lens = known.get("distortion_coefficients")
    undistort = None
    if lens is not None and any(lens):
        undistort = Undistortion(camera, RadialTangential(*lens))
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            rgb = read_rgb(sequence / row[f"path_{CAMERA}"])
            depth = read_depth(sequence / row[f"path_{known['depth_name']}"], known["depth_factor"])
            if undistort is not None:
                rgb, depth = undistort(rgb, depth)
            yield camera, rgb, depth, float(row[f"ts_{CAMERA} (s)"])


def main() -> None:
    """Runs SLAM on the sequence."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("sequence_path", "calibration_yaml", "rgb_csv", "exp_folder"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--exp_it", default="0")
    given, _ = parser.parse_known_args()
    slam = None
    for camera, rgb, depth, seconds in frames(
        given.sequence_path, given.calibration_yaml, given.rgb_csv
    ):
        slam = slam or ace_jax.Slam(camera)
        slam.track(rgb, depth, seconds)
    if slam is None:
        raise SystemExit(f"error: {given.rgb_csv} lists no images")
    result = slam.finish()
    out = given.exp_folder / f"{given.exp_it.zfill(5)}_KeyFrameTrajectory.csv"
    with out.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["timestamp", "tx", "ty", "tz", "qx", "qy", "qz", "qw"])
        for seconds, pose in zip(result.timestamps, result.world_from_camera, strict=True):
            w, x, y, z = to_quaternion(pose[:3, :3])
            rows.writerow([repr(float(v)) for v in (seconds, *pose[:3, 3], x, y, z, w)])


if __name__ == "__main__":
    main()
