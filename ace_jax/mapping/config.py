"""The mapping configuration: its fields with their defaults, and the presets.

Numbers without a source were tuned on 7-Scenes redkitchen: frames 0-599 mapped, later ones
localized.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_collections
from ml_collections.config_dict import placeholder

from ace_jax import config_flag
from ace_jax.errors import UserError

DEFAULT = "landmarks"
PRESETS = Path(__file__).parent / "presets"


def base() -> ml_collections.ConfigDict:
    """The default: landmark attention on keypoints, points from depth where there is any."""
    return ml_collections.ConfigDict(
        {
            # Name and options of `features.registry.create`. "auto": SIFT, which needs no
            # weights and does not mind how the camera is turned.
            "features": {
                "name": "auto",
                "options": ml_collections.ConfigDict(
                    {"image_size": (640, 480), "max_features": 1024}
                ),
            },
            # At most so many mapping images, evenly spread over those given.
            "max_frames": 120,
            # Where these leave views out (none within 25 cm and 15 degrees), as many more as it
            # takes, at most so many in all.
            "more_frames": 4096,
            # So many of the images are not mapped: the finished map must find their poses. So many
            # of their features stay in it, so that an update shows what it does to them.
            "checks": {"images": 6, "features": 384},
            "head": {"name": "landmark_attention", "options": ml_collections.ConfigDict()},
            # Points of the mapping images' features: "estimated" (from images and poses alone),
            # "measured" (by a depth camera), "both" (measured where nothing could be estimated),
            # or "none". Without a depth camera both and measured mean estimated.
            "points": {"source": "both", "near": placeholder(float), "far": placeholder(float)},
            "landmarks": {
                # Rows of the head: a query attends to all of them, of more than 8192 to the most
                # promising (`localization.places`). There is room for so many, and
                # for more until every mapping image sees so many of them, up to a capacity.
                "coarse": 4096,
                "coarse_per_image": 256,
                "coarse_capacity": 131072,
                # Further landmarks, for guided matching alone: the same.
                "detail": 2048,
                "detail_per_image": 300,
                "capacity": 262144,  # landmarks in all, while mapping and in the map
                "rounds": 2,  # of refinement against all images
                # Images that must show a landmark. None: two, with a depth camera one. Those that
                # fewer than three show are kept where an image has fewer than coarse_per_image
                # better ones, or there is room in any case.
                "min_views": placeholder(int),
                "min_similarity": placeholder(float),  # None: what suits the features
                "tau": placeholder(float),  # None: what suits the features
                "keep_share": 0.6,
            },
            "buffer": {
                "patches": 500_000,
                "patches_per_image": 1024,
                "max_gigabytes": placeholder(float),
            },
            # As in ACE: images are drawn until the buffer is full. Without it, each is used once.
            "augmentation": {
                "enabled": False,
                "short_side": 480,
                "scale": (2.0 / 3.0, 1.5),
                "rotation_deg": 15.0,
                "brightness": 0.1,
                "contrast": 0.1,
                # Sizes are rounded to this, pixels: fewer sizes, fewer compilations.
                "size_step": 48,
                # Replace the extractor's options: it must not undo the scaling.
                "feature_options": ml_collections.ConfigDict({"image_size": None}),
            },
            "training": {
                "steps": 0,
                "batch": 1024,
                # "dynamic_tanh" (ACE), "reprojection_nll" (ACE-G); with points "coordinate_nll"
                # or "coordinate_l1" (the L1 norm of the error, not its length).
                "loss": "reprojection_nll",
                "coordinate_weight": 0.0,  # of the coordinate NLL beside another loss
                "prior_depth": 0.1,  # metres, where ACE-G sends invalid points
                "learning_rate": 1e-3,
                "schedule": "cosine",  # or "one_cycle", with the three numbers below
                "warmup": 0.3,
                "divide": 25.0,
                "final_divide": 1e4,
                "rate_factors": ml_collections.ConfigDict(),  # on the rate, by parameter name
                "weight_decay": 0.0,
                "clip": 1.0,
                "dropout": 0.0,  # of features, the rest rescaled
                "checkpoint_seconds": 60.0,
            },
            # A map code is trained under a frozen transformer: a file, or published weights' name.
            "code": {"weights": "ace_g", "size": 4096},
            # Patches kept in the map, so that training can go on later without forgetting.
            "rehearsal_patches": 20_000,
            "half": True,  # descriptors and weights in 16 bits in the map file
            "seed": 0,
        }
    )


def with_changes(**changes: Any) -> ml_collections.ConfigDict:
    """The default with other values, given as nested dictionaries."""
    config = base()
    _set(config, changes)
    return config


def _set(config: ml_collections.ConfigDict, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        if name not in config:
            raise KeyError(f"no field {name!r}; there are {', '.join(config)}")
        old = config[name]
        if isinstance(value, dict) and isinstance(old, ml_collections.ConfigDict) and len(old):
            if name in ("options", "feature_options", "rate_factors"):
                config[name] = ml_collections.ConfigDict(value)  # its fields are not ours
            else:
                _set(old, value)
        else:
            config[name] = ml_collections.ConfigDict(value) if isinstance(value, dict) else value


def resolve(name: str) -> str:
    """The file of a preset's name; a file's path (with `:argument`, perhaps) stays as it is.

    Raises:
        UserError: neither a preset nor a file.
    """
    preset = PRESETS / f"{name}.py"
    if preset.is_file():
        return str(preset)
    if not Path(name.partition(":")[0]).is_file():
        presets = ", ".join(preset_names())
        raise UserError(f"--config {name}: there is no such file, and the presets are {presets}")
    return name


def with_preset_files(argv: Sequence[str]) -> list[str]:
    """Command-line arguments with the file of the preset that --config names, or of the default.

    Raises:
        UserError: neither a preset nor a file.
    """
    arguments = list(argv)
    if not config_flag.is_given(arguments):
        arguments.insert(1, f"--config={DEFAULT}")
    return config_flag.with_resolved(arguments, resolve)


def preset_names() -> list[str]:
    """Names that `resolve` knows."""
    return sorted(path.stem for path in PRESETS.glob("*.py") if path.stem != "__init__")
