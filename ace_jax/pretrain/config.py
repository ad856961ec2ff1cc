"""Configuration of pre-training; the values are those of the variant `cpu`.

The variants are in `pretrain.presets`; experiments/pretrain.py gives them with their commands.
"""

import dataclasses
from typing import Any

import ml_collections
from ml_collections.config_dict import placeholder

from ace_jax.pretrain.conditions import HARD, Difficulty


def procedural(weight: float = 1.0, **changes: Any) -> dict[str, Any]:
    """A source of procedural rooms; seeds from 800,000 on are kept for validation and tests.

    With `keep_images` rooms that were rendered once serve all features: 20 MB a room.
    """
    return {
        "kind": "procedural",
        "weight": weight,
        "first": 0,
        "count": 800_000,
        "image_size": (640, 480),
        "keep_images": False,
        "difficulty": Difficulty().__dict__ | changes.pop("difficulty", {}),
    } | changes


# Of rooms to be judged by: brute-force SIFT finds about half of the poses.
HARD_QUERIES = dataclasses.asdict(HARD)
# Of rooms to train on: easy to hard, by all kinds of cameras, densely and sparsely mapped.
VARIED = HARD_QUERIES | {"least": 0.0, "noise": 1.5, "span": 0.3}


def recordings(names: tuple[str, ...], weight: float = 1.0, frames: int = 300) -> dict[str, Any]:
    """A source of RGB-D recordings with poses, by their names in `ace_jax.data`, under --data_root.

    A scene is a run of `frames` frames of one recording: most are mapped, the last third is asked.
    """
    return {"kind": "recordings", "weight": weight, "names": tuple(names), "frames": frames}


def tfds(name: str, split: str = "train", weight: float = 1.0, frames: int = 300) -> dict[str, Any]:
    """A source of recordings in a TFDS data set built by one of `datasets/`, under --data_root."""
    return {"kind": "tfds", "weight": weight, "name": name, "split": split, "frames": frames}


def base() -> ml_collections.ConfigDict:
    """A small run: SIFT features, codes of landmarks, two blocks."""
    return ml_collections.ConfigDict(
        {
            "seed": 0,
            "steps": 6000,  # iterations: mapping steps, then one query step
            # Name and options of `features.registry.create`.
            "features": {
                "name": "sift",
                "options": ml_collections.ConfigDict(
                    {"image_size": (640, 480), "max_features": 1000}
                ),
            },
            # See `scenes.ROLES`.
            "views": {"mapping": 16, "held_out": 6, "query": 8},
            "patches_per_image": 512,  # those that are surest to be found again
            # By name, so that one can be changed on the command line; see the functions above.
            "sources": {"rooms": procedural(difficulty=VARIED)},
            "pool": {
                "scenes": 8,  # mapped at the same time; a multiple of the number of devices
                "shortest_life": 60,  # iterations that a scene stays, drawn evenly between these
                "longest_life": 180,
                "ahead": 4,  # scenes prepared in advance
            },
            "code": {
                "form": "observed",  # or "random", as in the paper
                "size": 4096,
                # Rows of an observed code that are used at least, drawn for each scene, so that the
                # transformer serves codes of every size; 0: all of them. Validation uses all.
                "least": 512,
            },
            # Options of the transformer of that form; dtype is float32 or bfloat16.
            "transformer": ml_collections.ConfigDict(
                {
                    "dim": 128,
                    "blocks": 2,
                    "tau": 240.0,
                    "steady": True,
                    # Neighbours in the image that a feature hears between two blocks; 0: none.
                    "context": 0,
                    "dtype": "float32",
                }
            ),
            "loss": "student_t",  # or "laplace", as in the paper
            # A step takes its patches in so many parts, one after another: less memory for the
            # same gradient (gradient accumulation).
            "parts": 1,
            "mapping": {
                "steps": 1,  # an iteration
                "patches": 64,  # of each scene in a step
                "dropout": 0.0,  # of features
                # Iterations after which the transformer learns from a mapping step too; 0: never.
                "transformer_every": 0,
            },
            "query": {
                "patches": 128,
                "dropout": 0.0,
                "targets": "query",  # or "held_out" or "mapping": the arms of the ablation
            },
            # Mapping images whose landmarks a query may see: from `first` to all, over `steps`. All
            # at once: a head that begins as landmark attention needs no easier start.
            "support": {"first": 16, "steps": 1},
            "transformer_optimizer": {
                "learning_rate": 5e-4,
                "warmup": 50,
                "b2": 0.99,
                "eps": 1e-8,
                "weight_decay": 0.01,
                "clip": 1.0,
                # Adam moves every entry by about the rate: much for an isometry's small entries.
                "rate_factors": ml_collections.ConfigDict(
                    {"embed": 0.1, "query": 0.1, "pull": 1.0, "support": 4.0}
                ),
            },
            "codes_optimizer": {
                "learning_rate": 1e-3,
                "warmup": 0.2,
                "eps": 1e-8,
                "weight_decay": 0.0,
                "clip": 1.0,
            },
            "validation": {
                "every": 500,
                "scenes": 8,
                "steps": 40,  # of mapping a scene before it is asked
                "keep_share": 0.3,  # of an image's patches, the surest, that vote for its pose
                "source": procedural(
                    first=900_000, count=100_000, difficulty=HARD_QUERIES, keep_images=True
                ),
            },
            "log_every": 10,
            "checkpoint_seconds": 120.0,
            "tensorboard": False,
            "cache": placeholder(str),  # folder of scenes' features; None: in the package's cache
        }
    )
