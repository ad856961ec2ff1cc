"""Configuration of encoder pre-training; the values are those of the preset `cpu`."""

import dataclasses
from typing import Any

import ml_collections
from ml_collections.config_dict import placeholder

from ace_jax.encoder.augmentation import Dial
from ace_jax.pretrain import config as scenes

# Nothing moves and the depth is true, so that correspondences are exact.
_ROOM = {
    "shift": 0.3,
    "turn": 12.0,
    "light": 1.2,
    "exposure": 0.3,
    "moved": 0.0,
    "least": 0.0,
    "roll": 8.0,
    "approach": 0.4,
    "dark": 0.3,
    "noise": 0.0,
}
_VIEWS = {"mapping": 6, "held_out": 0, "query": 6}


def rooms(weight: float = 1.0, **changes: Any) -> dict[str, Any]:
    """Procedural rooms in two lights; seeds from 800,000 on are kept for validation and tests.

    They are rendered once and kept: 5 MB a room.
    """
    given = {"count": 100, "image_size": (400, 300), "difficulty": _ROOM, "keep_images": True}
    return scenes.procedural(weight, **(given | changes)) | {"views": dict(_VIEWS)}


def recordings(names: tuple[str, ...], weight: float = 1.0, frames: int = 100) -> dict[str, Any]:
    """RGB-D recordings with poses, by their names in `ace_jax.data`, under --data_root."""
    return scenes.recordings(names, weight, frames) | {"views": dict(_VIEWS)}


def photos(folder: str, weight: float = 1.0) -> dict[str, Any]:
    """Photographs of a folder: each with itself, seen after homographies."""
    return {"kind": "photos", "weight": weight, "folder": folder}


def base() -> ml_collections.ConfigDict:
    """Histograms of gradient directions, three dense layers, procedural rooms."""
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            "steps": 1000,
            "image_size": (320, 240),  # at which keypoints are found and described
            "points": 400,  # keypoints of an image
            "pairs": 4,  # of a step
            "within": 2.0,  # pixels: a keypoint so near to where it should be is the same one
            "doubt": 5.0,  # pixels: another one so near is neither right nor wrong
            # See `models.patch_descriptor.PatchDescriptor`; the cost is in inputs and widths.
            "network": {
                "inputs": "histograms",  # or "windows"
                "octaves": 2,
                "oriented": False,
                "dim": 64,
                "widths": (256, 256),
            },
            # By name, so that one can be changed on the command line; see the functions above.
            "sources": {"rooms": rooms()},
            "augmentation": dataclasses.asdict(Dial()),
            "hard_weight": 1.0,  # of HardNet's loss beside InfoNCE's
            "optimizer": {
                "learning_rate": 3e-3,
                "warmup": 100,
                "weight_decay": 0.01,
                "clip": 1.0,
            },
            "validation": {
                "every": 250,
                "pairs": 8,  # of each condition
                "points": 600,
                "source": rooms(first=900_000, count=8),
            },
            "ahead": 4,  # batches prepared in advance
            "log_every": 20,
            "checkpoint_seconds": 120.0,
            "tensorboard": False,
            "cache": placeholder(str),  # folder of rendered rooms; None: in the package's cache
        }
    )
