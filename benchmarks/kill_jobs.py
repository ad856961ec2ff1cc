"""Small mapping, SLAM and pre-training jobs to be killed and resumed.

Importing this starts no device: `kill_runs` forks processes from one that has done so.
"""

import hashlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import mapping_world
import pretrain_world
import slam_scene
import test_mapping_pipeline

from ace_jax.data.poses_file import read_poses
from ace_jax.features.sift import Sift
from ace_jax.localization.scene_map import load_map, save_map
from ace_jax.mapping.pipeline import map_scene
from ace_jax.pretrain import run as pretraining
from ace_jax.pretrain.journal import read_metrics
from ace_jax.runtime import enable_compilation_cache
from ace_jax.slam import run as slam
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.sessions.checkpoint import SlamCheckpoint
from ace_jax.slam.sessions.session import load_session

MAPPING_STEPS, PRETRAIN_STEPS, FRAMES = 60, 10, 30


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


class _Patch:
    """What `mapping_world.register` wants of pytest."""

    @staticmethod
    def setitem(table: dict, key: str, value: object) -> None:
        table[key] = value


def mapping(folder: Path) -> None:
    """Maps a toy world with a trained head."""
    enable_compilation_cache()
    mapping_world.register(_Patch())
    source = mapping_world.WorldSource(test_mapping_pipeline.FIRST)
    config = test_mapping_pipeline._mlp(steps=MAPPING_STEPS, checkpoint_seconds=0.1)
    made = map_scene(source, config, checkpoint_dir=folder / "checkpoints")
    save_map(folder / "map.safetensors", made)


def mapping_result(folder: Path) -> str | None:
    """A digest of the finished map; None without one."""
    if not (folder / "map.safetensors").exists():
        return None
    made = load_map(folder / "map.safetensors")
    leaves = [made.variables["params"][name][k] for name in sorted(made.variables["params"])
              for k in sorted(made.variables["params"][name])]  # fmt: skip
    return _digest(*leaves, np.float64(made.info["loss"]))


def slam_job(folder: Path) -> None:
    """Tracks and maps a toy room, keeping its state ten times a second."""
    enable_compilation_cache()
    checkpoint = SlamCheckpoint(folder, "toy", 0.1)
    landmark_map = None
    if checkpoint.unfinished():
        _, landmark_map = load_session(checkpoint.path, slam_scene.CONFIG.max_landmarks)
    extractor = Sift(image_size=None, max_features=slam_scene.FEATURES)
    system = LandmarkSlam(
        slam_scene.CAMERA,
        extractor,
        slam_scene.CONFIG,
        landmark_map=landmark_map,
        close_loops=False,
    )
    slam.run(slam_scene.RoomSource(FRAMES), system, folder, checkpoint=checkpoint)


def slam_result(folder: Path) -> str | None:
    """Whether all frames have poses; None without a trajectory. Files that are there are whole."""
    for name in ("map", "session", "checkpoint"):
        if (folder / f"{name}.safetensors").exists():
            load_map(folder / f"{name}.safetensors")
    if not (folder / "metrics.json").exists():
        return None
    times = read_poses(folder / "trajectory.tum").timestamps
    return f"{len(times)} of {FRAMES} frames"


def pretrain(folder: Path) -> None:
    """Pre-trains on toy scenes."""
    enable_compilation_cache()
    config = pretrain_world.config(steps=PRETRAIN_STEPS, checkpoint_seconds=0.1)
    config.transformer.blocks = 1
    config.validation.every = 100
    scenes = pretraining.Scenes(
        extractor=SimpleNamespace(name="toy", weights_checksum="toy", dim=pretrain_world.DIM),
        load=lambda number: pretrain_world.scene(number, config),
        validation=[pretrain_world.scene(10_000 + n, config) for n in range(2)],
        thumbnails=lambda number: np.zeros((8, 60, 80, 3), np.uint8),
    )
    pretraining.pretrain(config, scenes, folder)


def pretrain_result(folder: Path) -> str | None:
    """A digest of all losses; None while the run is not finished."""
    if not (folder / "transformer.safetensors").exists():
        return None
    lines = [line for line in read_metrics(folder) if "query_loss" in line]
    if [line["step"] for line in lines] != list(range(1, PRETRAIN_STEPS + 1)):
        return f"steps {[line['step'] for line in lines]}"
    losses = np.array([[line["mapping_loss"], line["query_loss"]] for line in lines])
    return _digest(losses, (folder / "transformer.safetensors").read_bytes())


def quietly(job: Callable[[Path], None], folder: Path, log: Path) -> None:
    """Runs a job in this process, its output into a file."""
    with open(log, "a") as file:
        sys.stdout = sys.stderr = file
        warnings.simplefilter("ignore")
        job(folder)


JOBS = {
    "mapping": (mapping, mapping_result),
    "slam --checkpoint": (slam_job, slam_result),
    "pre-training": (pretrain, pretrain_result),
}
