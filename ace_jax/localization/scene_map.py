"""The map file: what SLAM and mapping write and relocalization reads.

A safetensors file. Its metadata entry `ace_jax_map` is JSON with everything but the arrays, and
a checksum of the arrays. Arrays are named by their path: `params/...` and `scene/...` are the
head's variables, `code` a map code, `extra/...` what only the map's writer understands (rehearsal
samples, second descriptors, keyframe poses). Units are metres, axes are the world's.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors.numpy import save

from ace_jax.errors import UserError
from ace_jax.features.base import FeatureExtractor
from ace_jax.files import replacing
from ace_jax.geometry.camera import SAME_CAMERA, Camera, largest_shift
from ace_jax.models.scene_coordinate_heads import create_head
from ace_jax.models.scene_coordinates import HomogeneousDecode
from ace_jax.weights import limits, safetensors_io

VERSION = 1
_MAX_SIDE = 1 << 14  # of an image, pixels
_KEY = "ace_jax_map"


@dataclasses.dataclass(frozen=True)
class SceneMap:
    """One mapped scene.

    Attributes:
        head: name of the head in the registry.
        head_options: the head's options (numbers and strings only).
        variables: the head's variables, {"params": ..., "scene": ...}; for a map-code transformer
            only "scene" (its weights are shared by all maps, see `head_checksum`).
        features: name of the feature extractor.
        feature_options: its options.
        feature_checksum: identifies its weights.
        feature_dim: descriptor length D.
        camera: intrinsics of the mapping images (the last one's if they differ).
        mean: (3,) mean camera centre of the mapping images, world, metres.
        code: (M, C) the map code, or None.
        head_checksum: identifies the shared head weights that a code belongs to, or "".
        extra: arrays by name that other readers ignore.
        info: JSON values for people and reports (sequence, frames, seed, seconds).
    """

    head: str
    head_options: dict[str, Any]
    variables: dict[str, Any]
    features: str
    feature_options: dict[str, Any]
    feature_checksum: str
    feature_dim: int
    camera: Camera
    mean: np.ndarray
    code: np.ndarray | None = None
    head_checksum: str = ""
    extra: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    info: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def metric(self) -> bool:
        """Whether lengths are metres; else they are in units of the mapping images' poses."""
        return self.info.get("metric", True) is not False

    def create_head(self) -> Any:
        """The head module that the variables belong to."""
        options = dict(self.head_options)
        if isinstance(options.get("decode"), Mapping):
            options["decode"] = HomogeneousDecode(**options["decode"])
        return create_head(self.head, **options)

    def require_features(self, extractor: FeatureExtractor) -> None:
        """Refuses an extractor whose descriptors are not the map's.

        Raises:
            UserError: another extractor, or other weights.
        """
        if extractor.name != self.features:
            raise UserError(f"the map was made with {self.features}, not with {extractor.name}")
        if extractor.weights_checksum != self.feature_checksum:
            raise UserError(
                f"the map was made with other {self.features} weights "
                f"({self.feature_checksum[:12]}, here {extractor.weights_checksum[:12]}); "
                "point --weights_dir to those, or map again"
            )

    def require_camera(self, camera: Camera, what: str) -> None:
        """Refuses a camera that is not the map's.

        Args:
            camera: intrinsics.
            what: whose they are, for the message.

        Raises:
            UserError: they show a point more than `SAME_CAMERA` apart; the line tells all numbers.
        """
        if largest_shift(self.camera, camera) <= SAME_CAMERA:
            return
        apart = []
        for field in dataclasses.fields(Camera):
            here, there = (float(getattr(c, field.name)) for c in (camera, self.camera))
            if f"{here:.7g}" != f"{there:.7g}":
                apart.append(f"{field.name} is {here:.7g}, there {there:.7g}")
        raise UserError(f"{what} has another camera than the map: {', '.join(apart)}")

    @classmethod
    def load(cls, path: Path | str) -> "SceneMap":
        """Reads a map file, see `load_map`."""
        return load_map(path)

    def save(self, path: Path | str, half: bool = True) -> int:
        """Writes a map file, see `save_map`; returns its size in bytes."""
        return save_map(path, self, half)


def feature_fields(extractor: FeatureExtractor, options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `SceneMap` that name its features; `options` made the extractor."""
    return {
        "features": extractor.name,
        "feature_options": dict(options),
        "feature_checksum": extractor.weights_checksum,
        "feature_dim": extractor.dim,
    }


def part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Arrays whose names begin so, by the rest of their names."""
    return {k.removeprefix(prefix): x for k, x in arrays.items() if k.startswith(prefix)}


def checksum(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def save_map(path: Path | str, scene_map: SceneMap, half: bool = False) -> int:
    """Writes a map; a reader never sees half of it, also when the process is killed.

    Args:
        path: the file; its folder is created.
        scene_map: what to write.
        half: store descriptors, weights and codes in 16 bits: half the size, no measurable loss.
            Points and poses stay in 32.

    Returns:
        The file's size in bytes.

    Raises:
        UserError: the place cannot be written, or the map is not finite.
    """
    flat = traverse_util.flatten_dict(scene_map.variables, sep="/")
    flat.update({f"extra/{name}": array for name, array in scene_map.extra.items()})
    flat["mean"] = np.asarray(scene_map.mean, np.float32)
    if scene_map.code is not None:
        flat["code"] = scene_map.code
    arrays = {name: np.asarray(x, order="C") for name, x in flat.items()}
    for name, array in arrays.items():
        known = not name.startswith("extra/") and array.dtype.kind == "f"
        if known and not np.isfinite(array).all():
            raise UserError(f"{path} is not written: {name} holds values that are not finite")
    if half:
        # A code of landmarks has points in it, which stay in 32.
        whole = {"code"} if scene_map.head == "landmark_transformer" else set()
        arrays = {k: x if k in whole else _halved(k, x) for k, x in arrays.items()}
    meta = {
        field.name: getattr(scene_map, field.name)
        for field in dataclasses.fields(scene_map)
        if field.name not in ("variables", "code", "extra", "mean", "camera")
    }
    meta["head_options"] = {
        name: dataclasses.asdict(value) if isinstance(value, HomogeneousDecode) else value
        for name, value in scene_map.head_options.items()
    }
    camera = scene_map.camera
    meta["camera"] = {
        field.name: _number(getattr(camera, field.name)) for field in dataclasses.fields(camera)
    }
    meta.update(
        version=VERSION,
        units="metres" if scene_map.metric else "scene units",
        checksum=checksum(arrays),
    )
    data = save(arrays, {_KEY: json.dumps(meta)})
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    return len(data)


def _halved(name: str, array: np.ndarray) -> np.ndarray:
    wide = array.ndim >= 2 and array.shape[-1] > 3 and array.dtype == np.float32
    # Poses and intrinsics among the extras need their digits.
    kind = (
        name.startswith("params/") or name == "code" or name.endswith(("descriptors", "features"))
    )
    if not (wide and kind and np.all(np.abs(array) < np.finfo(np.float16).max)):
        return array
    return array.astype(np.float16)


def _number(value: Any) -> int | float:
    return value if isinstance(value, int) else float(value)


def load_map(path: Path | str) -> SceneMap:
    """Reads a map; what is wrong with a file is said in one line.

    Raises:
        UserError: no such file, not a map, truncated, changed since it was written, of a later
            version, or its arrays do not fit its head.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no map {path}; make one with python -m ace_jax.mapping")
    arrays, metadata = safetensors_io.read(path)
    try:
        meta = json.loads(metadata.get(_KEY, "null"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); make it again") from error
    if not isinstance(meta, dict):
        raise UserError(f"{path} is a safetensors file, but not a map of ace_jax")
    if meta.get("version") != VERSION:
        raise UserError(
            f"{path} is a map of version {meta.get('version')}, this is ace_jax with version "
            f"{VERSION}; update ace_jax or map again"
        )
    if meta.get("checksum") != checksum(arrays):
        raise UserError(f"{path} is damaged (its checksum is wrong); make it again")
    try:
        scene_map = _from_arrays(meta, arrays)
        _check_values(scene_map)
        _check_shapes(scene_map)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path} is not a complete map ({error}); make it again") from error
    return scene_map


def _from_arrays(meta: dict[str, Any], arrays: dict[str, np.ndarray]) -> SceneMap:
    wide = {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in arrays.items()}
    extra = {k.removeprefix("extra/"): wide.pop(k) for k in list(wide) if k.startswith("extra/")}
    mean, code = wide.pop("mean"), wide.pop("code", None)
    for name in ("version", "units", "checksum"):
        del meta[name]
    return SceneMap(
        variables=traverse_util.unflatten_dict(wide, sep="/"),
        mean=mean,
        code=code,
        extra=extra,
        camera=Camera(**meta.pop("camera")),
        **meta,
    )


def _check_values(scene_map: SceneMap) -> None:
    """Refuses what would cost a stranger's reader memory, time or a traceback later."""
    for name in ("head", "features", "feature_checksum", "head_checksum"):
        if not isinstance(getattr(scene_map, name), str):
            raise ValueError(f"{name} is no text")
    for name in ("head_options", "feature_options", "info"):
        if not isinstance(getattr(scene_map, name), dict):
            raise ValueError(f"{name} is no table")
    if "weights_dir" in scene_map.feature_options or "name" in scene_map.feature_options:
        raise ValueError("feature_options name a place")
    limits.check_options(scene_map.head_options)
    for name, value in limits.numbers(scene_map.feature_options):
        limits.check_size(name, value, _MAX_SIDE if name == "image_size" else limits.MAX_SIZE)
    dim = scene_map.feature_dim
    if not isinstance(dim, int) or not 0 < dim <= limits.MAX_SIZE:
        raise ValueError(f"feature_dim is {dim!r}")
    camera = scene_map.camera
    numbers = dataclasses.astuple(camera)
    if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers):
        raise ValueError("the camera is not made of finite numbers")
    if not (0 < camera.width <= _MAX_SIDE and 0 < camera.height <= _MAX_SIDE):
        raise ValueError(f"the camera's images have {camera.width} x {camera.height} pixels")
    if scene_map.mean.shape != (3,) or not np.isfinite(scene_map.mean).all():
        raise ValueError("mean is not three finite numbers")
    code = scene_map.code
    if code is not None and (code.ndim != 2 or not np.isfinite(code).all()):
        raise ValueError("the code is not a matrix of finite numbers")


def _check_shapes(scene_map: SceneMap) -> None:
    head = scene_map.create_head()
    inputs = [jax.ShapeDtypeStruct((1, scene_map.feature_dim), jnp.float32)]
    if scene_map.code is not None:
        inputs.append(jax.ShapeDtypeStruct(scene_map.code.shape, scene_map.code.dtype))
    template = jax.eval_shape(lambda *shapes: head.init(jax.random.key(0), *shapes), *inputs)
    wanted = traverse_util.flatten_dict(template, sep="/")
    if scene_map.code is not None and "params" not in scene_map.variables:
        wanted = {k: v for k, v in wanted.items() if not k.startswith("params/")}
    found = traverse_util.flatten_dict(scene_map.variables, sep="/")
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found or name not in wanted:
            raise ValueError(f"{name} is {'missing' if name in wanted else 'unexpected'}")
        if found[name].shape != wanted[name].shape:
            raise ValueError(
                f"{name} has shape {found[name].shape}, the head expects {wanted[name].shape}"
            )
        if not np.isfinite(found[name]).all():
            raise ValueError(f"{name} holds values that are not finite")
