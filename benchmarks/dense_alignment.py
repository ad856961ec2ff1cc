"""Dense alignment of neighbouring frames against the true motion, beside Open3D's odometry.

  python benchmarks/dense_alignment.py [--data_root DIR] [--docs docs/slam-figures.md]

      [--tables dense,steps]

In the first table each pair starts from no motion at all. A pair is right within 3 cm and 1.5
degrees. Where a recording has no poses, the share of pairs that agree in 90 % of their pixels is
all that can be said. Open3D (`pip install open3d`) is left out where it is not installed: hybrid
odometry, its defaults, full resolution.

In the second one pairs are far apart, and begin with the motion that their features tell.
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
from ace_jax.data.frame import Frame, FrameSource
from ace_jax.data.registry import open_sequence
from ace_jax.features import registry
from ace_jax.geometry.dense_alignment import align, dense_image
from ace_jax.geometry.rigid import difference, invert
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.mapping.landmark_map import LandmarkMap
from ace_jax.slam.tracking.frame_features import FeatureNoise, FrameFeatures, match_gates
from ace_jax.slam.tracking.last_frame import LastFrame

_DATA_ROOT = flags.DEFINE_string("data_root", "../shared/data", "folder with 7scenes/, tum/, ...")
_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose tables are replaced")
_TABLES = flags.DEFINE_list("tables", ["dense", "steps"], "which tables")

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
# Frames between the two of a pair, and how many pairs, all over the recording.
STEPS = {
    "redkitchen, 40 frames apart": (KITCHEN, 40, 150),
    "redkitchen, 100 frames apart": (KITCHEN, 100, 150),
    "redkitchen, 200 frames apart": (KITCHEN, 200, 150),
    "hololens_lounge, 3 frames apart": (("folder/hololens_lounge", "folders", None), 3, 90),
    "hololens_lounge, 4 frames apart": (("folder/hololens_lounge", "folders", None), 4, 90),
    "hololens_lounge, 6 frames apart": (("folder/hololens_lounge", "folders", None), 6, 90),
    "TUM fr1_rpy, 10 frames apart": (("tum/freiburg1_rpy", "", None), 10, 90),
}
FEATURES = ((20, 40), (40, 80), (80, 10_000))  # in common


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


def _open(recording: tuple[str, str, str | None], **options) -> FrameSource:
    root, (sequence, folder, poses) = Path(_DATA_ROOT.value), recording
    if poses:
        options["poses"] = str(root / poses)
    return open_sequence(sequence, root / folder, **options)


def _dense_table() -> str:
    lines = []
    systems = {"ace_jax": _ours} | ({"Open3D": open3d} if (open3d := _open3d()) else {})
    for label, (recording, options) in ROWS.items():
        source = _open(recording, **options)
        frames = [source[i] for i in range(len(source))]
        for name, system in systems.items():
            lines.append([label, str(len(frames) - 1), name, *_cells(frames, system)])
            print(*lines[-1], sep=", ", flush=True)
            label = ""
    header = ["pairs of", "number", "", "right %", "median error cm", "accepted %"]
    header += ["accepted and wrong", "core-ms a pair"]
    return table(header, lines)


def _step_errors(source: FrameSource, apart: int, pairs: int) -> np.ndarray:
    """Of each pair with 20 features in common, or more: how many, three errors in metres."""
    config, camera, extractor = SlamConfig(), source.camera, registry.create("blobs", None)
    features = FrameFeatures(camera, extractor, config)
    noise = FeatureNoise.of_config(config, camera, 0.0).model
    last = LastFrame(camera, config, match_gates(config, camera, extractor.name), 0)
    calibration = LandmarkMap(1, extractor.dim, 1).depth_calibration
    errors_of = []
    for first in np.linspace(0, len(source) - 1 - apart, pairs).astype(int):
        template, image = source[int(first)], source[int(first) + apart]
        seen = [features.calibrated(features.raw(f), calibration) for f in (template, image)]
        last.remember(template, seen[0])
        motion = last.by_features(seen[1], np.eye(4), noise)
        if motion is None or motion.seen.sum() < config.min_inliers:
            continue
        small = (dense_image(f.rgb, f.depth, camera) for f in (template, image))
        poses = [
            motion.camera_from_world,
            np.asarray(align(*small, camera, motion.camera_from_world).pose),
            last.by_both(image, seen[1], motion, np.eye(4), noise),
        ]
        true = invert(image.world_from_camera) @ template.world_from_camera
        errors_of.append([motion.seen.sum(), *(difference(pose, true)[0] for pose in poses)])
    return np.array(errors_of).reshape(-1, 4)


def _steps_table() -> str:
    lines = []
    for label, (recording, apart, pairs) in STEPS.items():
        found = _step_errors(_open(recording), apart, pairs)
        for least, most in FEATURES:
            of = found[(found[:, 0] >= least) & (found[:, 0] < most), 1:]
            if len(of) == 0:
                continue
            cells = [
                " / ".join(f"{100 * v:.1f}" for v in np.percentile(column, [50, 90, 100]))
                for column in of.T
            ]
            common = f"{least} to {most - 1}" if most < 1000 else f"{least} or more"
            lines.append([label, common, str(len(of)), *cells])
            print(*lines[-1], sep=", ", flush=True)
            label = ""
    header = [
        "pairs of",
        "features in common",
        "pairs",
        "features",
        "all pixels from there",
        "both",
    ]
    return table(header, lines)


TABLES: dict[str, Callable[[], str]] = {"dense": _dense_table, "steps": _steps_table}


def main(_: Sequence[str]) -> None:
    """Prints the tables, and puts them into the docs."""
    for name in _TABLES.value:
        publish(name, f"{TABLES[name]()}\n\n{stamp()}", _DOCS.value)


if __name__ == "__main__":
    errors.run(main)
