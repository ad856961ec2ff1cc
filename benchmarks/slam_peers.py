"""SLAM beside Open3D on the same frames, one after the other on the same cores.

  pip install '.[mesh]'
  python benchmarks/slam_peers.py --data_root DIR [--docs docs/slam-figures.md]

Open3D's dense SLAM tracks each frame against a raycast of its voxel map; its RGB-D odometry (colour
and depth) goes from frame to frame without a map. Settings are those of its documentation's
example, with voxels of 1 cm, on the processor. ORB-SLAM2 has no package that can be installed.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from kitchen import SEQUENCE, SFM_POSES
from markdown import table
from slam_runs import Row, Runner, figures, make_tables

from ace_jax import errors
from ace_jax.data.frame import Frame, FrameSource
from ace_jax.evaluation.trajectory import Trajectory, compare
from ace_jax.slam.reporting.mesh import require_open3d

VOXEL, BLOCK, BLOCKS = 0.01, 16, 40_000
MAX_DEPTH, MIN_DEPTH = 4.0, 0.1
SCALE = 1000.0  # of depth images: millimetres

ROWS = [
    Row("synthetic/room0", "synthetic/room0"),
    Row("redkitchen 0-299", SEQUENCE, frames=300, poses=SFM_POSES),
    Row("TUM fr1_rpy, first 4 s", "tum/freiburg1_rpy"),
]


def _images(frame: Frame):
    """Open3D's colour and depth image and intrinsics of a frame."""
    o3d = require_open3d()
    colour = o3d.t.geometry.Image(np.ascontiguousarray(frame.rgb))
    depth = np.where(np.isfinite(frame.depth), frame.depth, 0.0)
    depth = np.clip(np.rint(depth * SCALE), 0, 65535).astype(np.uint16)
    camera = frame.camera
    fx, fy, cx, cy = (float(getattr(camera, name)) for name in ("fx", "fy", "cx", "cy"))
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    return colour, o3d.t.geometry.Image(depth), o3d.core.Tensor(matrix)


def dense_slam(source: FrameSource) -> Iterator[np.ndarray]:
    """(4, 4) world_from_camera of each frame, by tracking against the voxel map."""
    o3d = require_open3d()
    slam = o3d.t.pipelines.slam
    pose = o3d.core.Tensor(np.eye(4))
    device = o3d.core.Device("CPU:0")
    model = slam.Model(VOXEL, BLOCK, BLOCKS, pose, device)
    for number, frame in enumerate(source):
        colour, depth, matrix = _images(frame)
        if number == 0:
            seen = slam.Frame(depth.rows, depth.columns, matrix, device)
            expected = slam.Frame(depth.rows, depth.columns, matrix, device)
        seen.set_data_from_image("depth", depth)
        seen.set_data_from_image("color", colour)
        if number:
            moved = model.track_frame_to_model(seen, expected, SCALE, MAX_DEPTH, 0.07)
            pose = pose @ moved.transformation
        model.update_frame_pose(number, pose)
        model.integrate(seen, SCALE, MAX_DEPTH, 8.0)
        model.synthesize_model_frame(expected, SCALE, MIN_DEPTH, MAX_DEPTH, 8.0, False)
        yield pose.numpy()


def odometry(source: FrameSource) -> Iterator[np.ndarray]:
    """(4, 4) world_from_camera of each frame, from one to the next."""
    o3d = require_open3d()
    pipeline = o3d.t.pipelines.odometry
    pose, before = np.eye(4), None
    for frame in source:
        colour, depth, matrix = _images(frame)
        image = o3d.t.geometry.RGBDImage(colour, depth)
        if before is not None:
            moved = pipeline.rgbd_odometry_multi_scale(
                image,
                before,
                matrix,
                o3d.core.Tensor(np.eye(4)),
                SCALE,
                MAX_DEPTH,
                method=pipeline.Method.Hybrid,
            )
            pose = pose @ moved.transformation.numpy()
        before = image
        yield pose.copy()


def _peer(row: Row, poses_of: Callable[[FrameSource], Iterator[np.ndarray]]) -> list[str]:
    """ATE and frames a second of a peer, reading included as in ours."""
    source = row.open(with_poses=True)
    poses, seconds = [], [time.perf_counter()]
    try:
        for pose in poses_of(source):
            poses.append(pose)
            seconds.append(time.perf_counter())
    except RuntimeError as error:  # also Open3D's way to say that it is lost
        return [f"failed after {len(poses)} frames ({str(error).splitlines()[0][:60]})", "", ""]
    times = source.timestamps()
    ate = compare(Trajectory(times, np.stack(poses)), Trajectory(times, source.poses()))
    milliseconds = 1e3 * np.diff(seconds)[2:]
    return [
        f"{100 * ate.ate_rmse_m:.2f}",
        f"{1e3 / milliseconds.mean():.1f}",
        f"{np.percentile(milliseconds, 95):.0f}",
    ]


def peers(run: Runner) -> str:
    """Accuracy and speed beside Open3D's."""
    lines = []
    for row in ROWS:
        ours = run(row)
        if ours.failure:
            lines.append([row.label, "ace_jax", ours.failure, "", ""])
            continue
        cells = [
            figures(ours.values("ate_rmse_m"), 2, 100),
            figures(ours.values("fps"), 1),
            figures(ours.values("ms_p95"), 0),
        ]
        lines.append([row.label, "ace_jax", *cells])
        lines.append(["", "Open3D dense SLAM", *_peer(row, dense_slam)])
        lines.append(["", "Open3D RGB-D odometry", *_peer(row, odometry)])
    return table(["recording", "system", "ATE RMSE cm", "frames/s", "ms p95"], lines)


def main(_: Sequence[str]) -> None:
    """Makes the table."""
    make_tables({"peers": peers}, ["peers"])


if __name__ == "__main__":
    errors.run(main)
