"""Dense alignment of neighbouring frames against the true motion, beside Open3D's odometry.

  python benchmarks/dense_alignment.py [--data_root DIR] [--docs docs/slam-figures.md]

Each pair starts from no motion at all. A pair is right within 3 cm and 1.5 degrees. Where a
recording has no poses, the share of pairs that agree in 90 % of their pixels is all that can be
said. Open3D (`pip install open3d`) is left out where it is not installed: hybrid odometry, its
defaults, full resolution.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from absl import flags
from kitchen import SEQUENCE, SFM_POSES
from machine import stamp
from markdown import publish, table

from ace_jax import errors
from ace_jax.data.frame import Frame
from ace_jax.data.registry import open_sequence
from ace_jax.geometry.dense_alignment import align, dense_image
from ace_jax.geometry.rigid import difference, invert

_DATA_ROOT = flags.DEFINE_string("data_root", "../shared/data", "folder with 7scenes/, tum/, ...")
_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose table is replaced")

RIGHT = (0.03, np.deg2rad(1.5))
AGREED = 0.9
KITCHEN = (SEQUENCE, "", SFM_POSES)
ROWS: dict[str, tuple[tuple[str, str, str | None], dict]] = {
    "redkitchen, every 3rd frame": (KITCHEN, {"stride": 3}),
    "redkitchen, every 10th": (KITCHEN, {"stride": 10}),
    "redkitchen, every 20th": (KITCHEN, {"stride": 20}),
    "TUM fr1_rpy": (("tum/freiburg1_rpy", "", None), {}),
    "TUM fr1_rpy, every 3rd": (("tum/freiburg1_rpy", "", None), {"stride": 3}),
    "hololens_lounge": (("folder/hololens_lounge", "folders", None), {}),
    "hololens_lounge, every 2nd": (("folder/hololens_lounge", "folders", None), {"stride": 2}),
    "realsense_lab": (("folder/realsense_lab", "folders", None), {}),
}


def _ours(template: Frame, image: Frame) -> tuple[np.ndarray, float, float]:
    """(4, 4) image_from_template, the share of pixels that agree, and of those in view."""
    images = (dense_image(f.rgb, f.depth, template.camera) for f in (template, image))
    found = align(*images, template.camera, np.eye(4, dtype=np.float32))
    return np.asarray(found.pose), float(found.agreement), float(found.overlap)


def _open3d() -> Callable[[Frame, Frame], tuple[np.ndarray, float, float]] | None:
    try:
        import open3d as o3d
    except ImportError:
        return None
    odometry = o3d.pipelines.odometry

    def image(frame: Frame):
        depth = np.where(np.isfinite(frame.depth), frame.depth, 0.0).astype(np.float32)
        return o3d.geometry.RGBDImage.create_from_color_and_depth(
            o3d.geometry.Image(np.ascontiguousarray(frame.rgb)),
            o3d.geometry.Image(depth),
            depth_scale=1.0,
            depth_trunc=10.0,
        )

    def motion(template: Frame, other: Frame) -> tuple[np.ndarray, float, float]:
        c = template.camera
        intrinsics = o3d.camera.PinholeCameraIntrinsic(c.width, c.height, *map(float, c.intrinsics))
        success, pose, _ = odometry.compute_rgbd_odometry(
            image(template),
            image(other),
            intrinsics,
            np.eye(4),
            odometry.RGBDOdometryJacobianFromHybridTerm(),
            odometry.OdometryOption(),
        )
        return pose, float(success), float(success)

    return motion


def _cells(frames: Sequence[Frame], motion: Callable) -> list[str]:
    motion(frames[0], frames[1])  # compiles
    right, wrong_but_agreed, agreed, errors_m, start = [], [], [], [], time.process_time()
    for template, image in itertools.pairwise(frames):
        pose, agreement, overlap = motion(template, image)
        agreed.append(agreement > AGREED and overlap > 0.4)
        if template.world_from_camera is None:
            continue
        true = invert(image.world_from_camera) @ template.world_from_camera
        metres, radians = difference(pose, true)
        right.append(metres < RIGHT[0] and radians < RIGHT[1])
        errors_m.append(metres)
        wrong_but_agreed.append(agreed[-1] and not right[-1])
    ms = 1e3 * (time.process_time() - start) / len(agreed)
    share = f"{100 * np.mean(right):.0f}" if right else "-"
    error = f"{100 * np.median(errors_m):.2f}" if right else "-"
    wrong = f"{sum(wrong_but_agreed)}" if right else "-"
    return [share, error, f"{100 * np.mean(agreed):.0f}", wrong, f"{ms:.0f}"]


def main(_: Sequence[str]) -> None:
    """Prints the table, and puts it into the docs."""
    root, lines = Path(_DATA_ROOT.value), []
    systems = {"ace_jax": _ours} | ({"Open3D": open3d} if (open3d := _open3d()) else {})
    for label, ((sequence, folder, poses), options) in ROWS.items():
        if poses:
            options = options | {"poses": str(root / poses)}
        source = open_sequence(sequence, root / folder, **options)
        frames = [source[i] for i in range(len(source))]
        for name, system in systems.items():
            lines.append([label, str(len(frames) - 1), name, *_cells(frames, system)])
            print(*lines[-1], sep=", ", flush=True)
            label = ""
    header = ["pairs of", "number", "", "right %", "median error cm", "accepted %"]
    header += ["accepted and wrong", "core-ms a pair"]
    publish("dense", f"{table(header, lines)}\n\n{stamp()}", _DOCS.value)


if __name__ == "__main__":
    errors.run(main)
