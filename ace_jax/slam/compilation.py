"""Compiles the programs of SLAM before the first frame, side by side."""

from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from ace_jax.programs import in_threads

if TYPE_CHECKING:
    from ace_jax.slam.landmark_slam import LandmarkSlam


def compile_programs(system: "LandmarkSlam") -> None:
    """Calls every program once, on blank input of the right shapes."""
    camera, measured = system.camera, system.measured
    blank = np.zeros((camera.height, camera.width, 3), np.uint8)
    jobs = [
        *(() if system.frozen else system.mapping.warm_up(measured)),
        *system.last_frame.warm_up(measured, system.tracker.noise),
        *system.recent_frames.warm_up(measured),
        *system.tracker.warm_up(system.landmark_map, measured),
        lambda: system.extractor.extract(blank),
        # What the first moving thing, and the first loop, would wait for.
        lambda: import_module("scipy.spatial"),
        lambda: import_module("scipy.sparse.linalg"),
    ]
    in_threads(jobs)
