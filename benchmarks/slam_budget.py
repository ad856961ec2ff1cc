"""Error budget of SLAM: noise and bias of single observations (keypoints, parallax, depth).

  python benchmarks/slam_budget.py [--data_root ../shared/data] [--pairs 60] [--docs PAGE.md]

Features of one frame are moved into a later one with the true poses and their measured depth, and
compared with the feature that looks most alike there. What is left is keypoint noise, depth noise,
wrong depth beside edges, and, on real recordings, errors of the reference, the calibration and the
rolling shutter. Features are grouped by what surrounds them (`is_planar`).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from kitchen import SEQUENCE, SFM_POSES
from machine import stamp
from markdown import publish, table

from ace_jax import errors, runtime
from ace_jax.data.depth_at_features import is_planar, sample_depth
from ace_jax.data.frame import FrameSource
from ace_jax.data.registry import open_sequence
from ace_jax.features import registry
from ace_jax.features.base import FeatureExtractor
from ace_jax.geometry import host_camera, rigid
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.tracking.frame_features import MEDIAN_OF_RAYLEIGH

GAP = 10  # frames between the two of a pair
SEARCH = 10.0  # pixels around the expected place
MIN_COSINE = 0.8
MIN_FLOW = 8.0  # pixels of parallax; less tells nothing about a bias of it
WRONG = 5.0  # pixels; more is a wrong match
RECORDINGS = {
    "room0": ("synthetic/room0", 300, None),
    "room0-noisy": ("synthetic/room0-noisy", 300, None),
    "redkitchen 0-799": (SEQUENCE, 800, SFM_POSES),
    "TUM fr1_rpy": ("tum/freiburg1_rpy", None, None),
}

_DATA_ROOT = flags.DEFINE_string("data_root", "../shared/data", "folder with 7scenes/, tum/, ...")
_WEIGHTS_DIR = flags.DEFINE_string("weights_dir", None, "folder with XFeat's weights")
_PAIRS = flags.DEFINE_integer("pairs", 60, "frame pairs of each recording", lower_bound=1)
_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose table is replaced")


def _observations(source: FrameSource, extractor: FeatureExtractor, pairs: int) -> np.ndarray:
    """(M, 4) per matched feature: planar, pixel error, bias of the parallax, inverse depth error.

    The bias is how much further than expected the feature moved along its parallax, as a share of
    it (NaN where that is short); the error of the inverse depth is 1/m (NaN without depth).
    """
    camera, poses = source.camera, source.poses()
    radius = SlamConfig.planar_radius * camera.pixel_scale

    def seen(index: int):
        frame = source[index]
        features = extractor.extract(frame.rgb)
        uv, descriptors, mask = map(np.asarray, (features.uv, features.descriptors, features.mask))
        depth = sample_depth(frame.depth, uv)
        return uv, descriptors, mask, depth, is_planar(frame.depth, uv, depth, radius)

    found = []
    for first in np.linspace(0, len(source) - GAP - 1, pairs).astype(int):
        uv, descriptors, mask, depth, planar = seen(first)
        there, their_descriptors, their_mask, their_depth, _ = seen(first + GAP)
        usable = mask & (depth > 0.3) & (depth < 4.0)
        uv, descriptors, depth, planar = (x[usable] for x in (uv, descriptors, depth, planar))
        rays = host_camera.rays(uv, camera)
        motion = rigid.invert(poses[first + GAP]) @ poses[first]
        moved = rigid.transform(motion, rays * depth[:, None])
        expected = host_camera.project(moved, camera)
        flow = expected - host_camera.project(rays @ motion[:3, :3].T, camera)
        near = np.linalg.norm(expected[:, None] - there[None], axis=2) < SEARCH
        similarity = np.where(near & their_mask, descriptors @ their_descriptors.T, -1.0)
        best = similarity.argmax(1)
        good = (similarity.max(1) > MIN_COSINE) & (similarity.argmax(0)[best] == np.arange(len(uv)))
        error = there[best] - expected
        length = np.linalg.norm(flow, axis=1)
        bias = np.sum(error * flow, axis=1) / np.maximum(length, 1e-6) ** 2
        measured = their_depth[best]
        inverse = np.where(measured > 0, 1 / np.maximum(measured, 0.1), np.nan)
        inverse_error = inverse - 1 / np.maximum(moved[:, 2], 0.1)
        distance = np.linalg.norm(error, axis=1)
        columns = (
            planar,
            distance,
            np.where(length > MIN_FLOW, bias, np.nan),
            inverse_error,
        )
        found.append(np.stack(columns, axis=1)[good & (distance < WRONG)])
    return np.concatenate(found)


def _row(label: str, of: np.ndarray, share: float) -> list[str]:
    bias = of[:, 2][np.isfinite(of[:, 2])]
    depth_error = of[:, 3][np.isfinite(of[:, 3])]
    spread = 1.4826 * np.median(np.abs(depth_error - np.median(depth_error)))
    return [
        label,
        f"{100 * share:.0f}",
        f"{np.median(of[:, 1]) / MEDIAN_OF_RAYLEIGH / np.sqrt(2):.2f}",
        f"{100 * bias.mean():+.1f}" if len(bias) > 50 else "",
        f"{1e3 * spread:.1f}",
    ]


def budget() -> str:
    """The table."""
    root = Path(_DATA_ROOT.value)
    extractor = registry.create("xfeat_blobs", _WEIGHTS_DIR.value)
    rows = []
    for label, (name, frames, poses) in RECORDINGS.items():
        source = open_sequence(
            name, root, max_frames=frames, poses=None if poses is None else root / poses
        )
        of = _observations(source, extractor, _PAIRS.value)
        for planar, where in ((1, "on a surface"), (0, "beside an edge")):
            part = of[of[:, 0] == planar]
            rows.append(_row(f"{label}, {where}", part, len(part) / len(of)))
    header = ["features of", "share %", "keypoint noise px", "parallax bias %"]
    return table([*header, "depth noise 1/km"], rows)


def main(_: Sequence[str]) -> None:
    """Prints the table, and puts it into the docs."""
    runtime.enable_compilation_cache()
    where = f"{stamp()}; {_PAIRS.value} pairs {GAP} frames apart."
    publish("budget", f"{budget()}\n\n{where}", _DOCS.value)


if __name__ == "__main__":
    errors.run(main)
