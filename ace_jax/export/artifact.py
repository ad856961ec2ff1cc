"""Writes a relocalizer as a folder that runs without this package.

`program.bin` is the way from an image (or from SIFT features) to a pose as a serialized
`jax.export` program, for several platforms at once; `arrays.npz` what it computes with (the map,
the network's weights); `relocalizer.json` what the caller must know; `relocalizer.py` the caller.
"""

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np

from ace_jax import __version__
from ace_jax.errors import UserError
from ace_jax.export import standalone
from ace_jax.features.base import Features
from ace_jax.features.extractor import NetworkExtractor
from ace_jax.features.image import resize, working_size
from ace_jax.features.sift import Sift
from ace_jax.files import replacing, write_json
from ace_jax.localization.relocalizer import Relocalizer

PLATFORMS = ("cpu", "cuda", "tpu")


def export(
    relocalizer: Relocalizer,
    out: Path | str,
    image_size: tuple[int, int] | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> dict[str, Any]:
    """Writes the folder.

    Args:
        relocalizer: of the map.
        out: the folder; created.
        image_size: (width, height) of the images to come; that of the mapping images by default.
        platforms: where it shall run, of `PLATFORMS`.

    Returns:
        The content of `relocalizer.json`.

    Raises:
        UserError: the extra is missing, the folder cannot be written, the platform is unknown, or
            the map's features cannot be exported.
    """
    unknown = sorted(set(platforms) - set(PLATFORMS))
    if unknown or not platforms:
        raise UserError(f"platforms {', '.join(unknown)}; choose from {', '.join(PLATFORMS)}")
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError("export needs the extra `export`: pip install flatbuffers")
    camera = relocalizer.map.camera
    width, height = image_size or (camera.width, camera.height)
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {out}: {error.strerror}") from error
    recipe, params, features_of, example = _input(relocalizer, width, height)
    locate, arrays = relocalizer.as_function(width, height)
    leaves, structure = jax.tree.flatten({"map": arrays, "features": params})

    def program(
        leaves: list[jax.Array], inputs: dict[str, jax.Array], intrinsics: jax.Array
    ) -> dict[str, jax.Array]:
        known = jax.tree.unflatten(structure, leaves)
        features = jax.lax.optimization_barrier(features_of(known["features"], inputs))
        return locate(known["map"], features, intrinsics)

    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype),
        (leaves, example, np.zeros(4, np.float32)),
    )
    exported = jax.export.export(jax.jit(program), platforms=tuple(platforms))(*shapes)
    info = {
        "ace_jax": __version__,
        "jax": jax.__version__,
        "platforms": list(platforms),
        "width": width,
        "height": height,
        "input": recipe,
        "scene": relocalizer.name,
        "head": relocalizer.map.head,
        "features": relocalizer.map.features,
        "feature_checksum": relocalizer.map.feature_checksum,
        "units": f"{'metres' if relocalizer.map.metric else 'scene units'}, pixels",
        "mapping_camera": [float(x) for x in camera.intrinsics],
    }
    with replacing(out / "program.bin") as temporary:
        temporary.write_bytes(exported.serialize())
    with replacing(out / "arrays.npz") as temporary:
        np.savez(temporary, **{f"{i:04d}": np.asarray(x) for i, x in enumerate(leaves)})
    write_json(out / "relocalizer.json", info)
    with replacing(out / "relocalizer.py") as temporary:
        shutil.copyfile(standalone.__file__, temporary)
    return info


def _input(
    relocalizer: Relocalizer, width: int, height: int
) -> tuple[dict[str, Any], Any, Callable[..., Features], dict[str, np.ndarray]]:
    """How an image becomes features: the caller's part, the weights, the program's part, and an
    example of what the one hands to the other."""
    extractor = relocalizer.extractor
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    if isinstance(extractor, Sift):
        recipe = {
            "kind": "sift",
            "size": list(working_size(width, height, extractor.image_size, 1)),
            "max_features": extractor.max_features,
            "contrast_threshold": extractor.contrast_threshold,
        }
        example = {name: np.asarray(x) for name, x in vars(extractor.extract(image)).items()}
        return recipe, None, lambda _, inputs: Features(**inputs), example
    if not isinstance(extractor, NetworkExtractor):
        raise UserError(f"{extractor.name} features cannot be exported")
    pixels, scale = extractor.prepare(image)
    size = [round(width / float(scale[0])), round(height / float(scale[1]))]
    recipe = {"kind": "pixels", "size": size, "crop": [pixels.shape[1], pixels.shape[0]]}
    if not np.array_equal(resize(image, tuple(size))[: pixels.shape[0], : pixels.shape[1]], pixels):
        raise UserError(f"{extractor.name} prepares images in a way that cannot be exported")
    return (
        recipe,
        extractor.params,
        lambda params, inputs: extractor.features_of(params, inputs["image"], inputs["scale"]),
        {"image": pixels, "scale": scale},
    )
