"""Mutates single files of every kind that the package reads, and uses them as a user would.

Bytes are mutated; of maps, sessions and checkpoints also what they say, under a right checksum, as
a stranger would do it.
"""

import copy
import io
import json
import random
import struct
import tempfile
import traceback
import types
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import flax.linen as nn
import jax
import numpy as np
from data_fuzz import Outcome, mutate
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save

from ace_jax.data.frame import BadFrame
from ace_jax.data.images import image_size, read_depth_units, read_rgb
from ace_jax.data.intrinsics import read_intrinsics
from ace_jax.data.poses_file import read_poses
from ace_jax.errors import UserError
from ace_jax.evaluation.files import read_trajectory
from ace_jax.features import registry
from ace_jax.geometry.camera import Camera
from ace_jax.localization.relocalizer import Relocalizer
from ace_jax.localization.scene_map import SceneMap, checksum, save_map
from ace_jax.models.landmark_attention import landmark_variables
from ace_jax.models.landmark_transformer import LandmarkTransformer
from ace_jax.models.scene_coordinate_heads import TriMLP
from ace_jax.models.vit import VisionTransformer, ViTConfig
from ace_jax.relocalize.queries import ImageQueries
from ace_jax.slam.config import SlamConfig
from ace_jax.slam.frame_poses import FramePoses, TrackedFrame
from ace_jax.slam.mapping.atlas import Atlas
from ace_jax.slam.mapping.keyframes import Keyframe
from ace_jax.slam.mapping.landmark_map import LandmarkMap
from ace_jax.slam.sessions.checkpoint import SlamCheckpoint, _with_frames
from ace_jax.slam.sessions.session import load_session, with_session
from ace_jax.weights import checkpoint, safetensors_io
from ace_jax.weights.layout import to_checkpoint

CAMERA = Camera(262.0, 262.0, 159.5, 119.5, 320, 240)
DIM, FEATURES, LANDMARKS = 128, 24, 20
KEY = "ace_jax_map"
MAPS = ("map", "mlp map", "session", "slam checkpoint")
LIARS = (*MAPS, "transformer", "vit")  # what they say in JSON is mutated as well

# What may stand where a number, a text, a list or a table is expected.
HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 0.5, -0.0, 1e308, 10**9, 2**31, 2**63, 10**30, "", "x", "nan"),
    *("../../etc/passwd", "/etc/passwd", "a\0b", "\u202e", "9" * 400, [], {}, [[]], [1, 2, 3]),
    *([10**9] * 2, {"a": 1}, {"weights_dir": "/"}, float("nan"), float("inf"), ["x"] * 100),
)
DEEP = 20_000  # brackets; a recursive parser ends at 1,000


def _scene_map(head: str) -> SceneMap:
    rng = np.random.default_rng(0)
    if head == "landmark_attention":
        keys = rng.normal(size=(LANDMARKS, DIM)).astype(np.float32)
        variables = landmark_variables(keys, rng.normal(size=(LANDMARKS, 3)), 40.0, LANDMARKS)
        options: dict[str, Any] = {"landmarks": LANDMARKS, "dim": DIM}
    else:
        module = TriMLP(width=8, layers=1, cells=4)
        variables = jax.jit(module.init)(jax.random.key(0), np.zeros((1, DIM), np.float32))
        options = {"width": 8, "layers": 1, "cells": 4}
    return SceneMap(
        head=head,
        head_options=options,
        variables=jax.tree.map(np.asarray, variables),
        features="sift",
        feature_options={"image_size": [320, 240], "max_features": 64},
        feature_checksum=registry.create("sift").weights_checksum,
        feature_dim=DIM,
        camera=CAMERA,
        mean=np.zeros(3, np.float32),
        info={"sequence": "synthetic/room0", "seed": 0},
    )


def _weights(family: str, module: nn.Module, config: dict[str, Any], *inputs: tuple) -> bytes:
    """Weights as we convert or write them; their configuration is in the metadata."""
    arrays = [np.zeros(shape, np.float32) for shape in inputs]
    params = jax.jit(module.init)(jax.random.key(0), *arrays)["params"]
    metadata = {"format": checkpoint.FORMAT, "family": family, "config": json.dumps(config)}
    return save(to_checkpoint(params), metadata)


def _world() -> LandmarkMap:
    """A small map of two keyframes."""
    rng = np.random.default_rng(1)
    landmark_map = LandmarkMap(64, DIM, 4)
    for number in range(2):
        keyframe = Keyframe(
            frame_index=3 * number,
            camera_from_world=np.eye(4),
            uv=rng.uniform(0, 200, (FEATURES, 2)).astype(np.float32),
            descriptors=rng.normal(size=(FEATURES, DIM)).astype(np.float32),
            depth=np.ones(FEATURES, np.float32),
            mask=np.ones(FEATURES, bool),
            inlier_ratio=1.0,
        )
        landmark_map.add_keyframe(keyframe, np.full(FEATURES, -1, np.int32))
    landmark_map.create(0, np.arange(10), rng.normal(size=(10, 3)), np.zeros((10, 3), np.uint8))
    landmark_map.observe(1, np.arange(5), np.flatnonzero(landmark_map.valid)[:5])
    return landmark_map


def _saved(scene_map: SceneMap) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save_map(Path(folder) / "map", scene_map, half=True)
        return (Path(folder) / "map").read_bytes()


def _encoded(image: np.ndarray, suffix: str) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def _with_exif(image: np.ndarray) -> bytes:
    """A photo that tells its focal length."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 28
    data = io.BytesIO()
    Image.fromarray(image).save(data, "jpeg", exif=exif)
    return data.getvalue()


def samples(shared: Path | None) -> dict[str, bytes]:
    """A good file of each kind; weights of other programs only where there are shared ones."""
    rng = np.random.default_rng(2)
    pose = " ".join(["0.5"] * 3 + ["0", "0", "0", "1"])
    session = with_session(_scene_map("landmark_attention"), _world())
    frames = [TrackedFrame(i, i / 30, np.eye(4), i % 2, np.eye(4)) for i in range(4)]
    kept = _with_frames(session, frames)
    kept = SceneMap(**{**vars(kept), "info": {"checkpoint": "x", "next_frame": 4}})
    transformer = {"dim_in": 4, "dim": 8, "blocks": 1, "mlp_ratio": 2.0, "tau": 80.0}
    vit = {"dim": 8, "depth": 1, "heads": 2, "patch": 2}
    found = {
        "transformer": _weights(
            "landmark_transformer",
            LandmarkTransformer(**{k: v for k, v in transformer.items() if k != "dim_in"}),
            transformer, (1, 4), (1, 8),
        ),
        "vit": _weights("dinov2", VisionTransformer(ViTConfig(**vit)), vit, (1, 4, 4, 3)),
        "exif": _with_exif(rng.integers(0, 255, (24, 32, 3)).astype(np.uint8)),
        "map": _saved(_scene_map("landmark_attention")),
        "mlp map": _saved(_scene_map("tri_mlp")),
        "session": _saved(session),
        "slam checkpoint": _saved(kept),
        "trajectory": "".join(f"{i / 30:.3f} {pose}\n" for i in range(9)).encode(),
        "named poses": "".join(f"seq/{i:03d}.png 1 0 0 0 0 0 {i} 525\n" for i in range(9)).encode(),
        "intrinsics": json.dumps(
            {"fx": 525, "fy": 525, "cx": 319.5, "cy": 239.5, "depth_scale": 1000,
             "width": 640, "height": 480, "distortion": [0.1, 0, 0, 0]}
        ).encode(),
        "png": _encoded(rng.integers(0, 255, (24, 32, 3)).astype(np.uint8), ".png"),
        "jpeg": _encoded(rng.integers(0, 255, (24, 32, 3)).astype(np.uint8), ".jpg"),
        "depth": _encoded(rng.integers(0, 9999, (24, 32)).astype(np.uint16), ".png"),
        "safetensors": save({"a": np.zeros((3, 4), np.float32)}, {"format": "pt"}),
    }  # fmt: skip
    if shared is not None:
        found["torch map code"] = (shared / "golden/ace_g/tiny_map.pt").read_bytes()
        found["torch head"] = (shared / "golden/ace/head_random_hidden128.pt").read_bytes()
        found["onnx"] = (shared / "weights/xfeat.onnx").read_bytes()
    return found


def _use_checkpoint(path: Path) -> None:
    _, landmark_map = load_session(path, 64)
    kept = SlamCheckpoint(path.parent, "x")
    kept.path = path
    atlas = Atlas(landmark_map, SlamConfig())
    kept.restore(
        types.SimpleNamespace(landmark_map=landmark_map, atlas=atlas, poses=FramePoses(atlas))
    )
    kept.close()


def _build(path: Path) -> None:
    checkpoint.load(path).build()


USES: dict[str, Callable[[Path], Any]] = {
    "map": Relocalizer.load,
    "mlp map": Relocalizer.load,
    "session": lambda path: load_session(path, 64),
    "slam checkpoint": _use_checkpoint,
    "trajectory": lambda path: read_trajectory(path, 30.0),
    "named poses": read_poses,
    "intrinsics": read_intrinsics,
    "png": lambda path: (image_size(path), read_rgb(path)),
    "jpeg": lambda path: (image_size(path), read_rgb(path)),
    "depth": read_depth_units,
    "safetensors": safetensors_io.read,
    "exif": lambda path: ImageQueries(path)[0],
    "transformer": _build,
    "vit": _build,
    "torch map code": _build,
    "torch head": _build,
    "onnx": checkpoint.load,
}


def _somewhere(table: dict, rng: random.Random) -> tuple[dict, str]:
    """A table within a table, or itself, and one of its keys or a new one."""
    inner = [value for value in table.values() if isinstance(value, dict) and value]
    if inner and rng.random() < 0.5:
        table = rng.choice(inner)
    return table, rng.choice([*table, "unknown"])


def _hostile_array(array: np.ndarray, rng: random.Random) -> np.ndarray:
    kind = rng.randrange(7)
    if kind == 0:
        return array.astype(rng.choice([np.float16, np.float64, np.int32, np.int64, np.uint8]))
    if kind == 1:
        return array.reshape(-1)
    if kind == 2:
        return array.ravel()[:0]
    if kind == 3:
        return np.concatenate([array.ravel()[:1]] * 7)
    if kind == 4:
        return array[..., None]
    changed = np.array(array)
    if changed.size and kind == 5 and changed.dtype.kind == "f":
        changed.flat[rng.randrange(changed.size)] = rng.choice([np.nan, np.inf, 3e38])
    elif changed.size and changed.dtype.kind in "iu":
        value = np.array(rng.choice([-2, 2**30, 127])).astype(changed.dtype)
        changed.flat[rng.randrange(changed.size)] = value
    return changed


def lie(data: bytes, rng: random.Random) -> bytes:
    """A map or weights that say something else, with a right checksum."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        with safe_open(file.name, framework="numpy") as opened:
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            said = opened.metadata()
    entry = KEY if KEY in said else "config"
    meta = json.loads(said[entry])
    text = None
    for _ in range(rng.randint(1, 3)):
        kind = rng.randrange(8)
        if kind < 3:
            table, key = _somewhere(meta, rng)
            table[key] = copy.deepcopy(rng.choice(HOSTILE))  # the next lie may go into it
        elif kind == 3:
            table, key = _somewhere(meta, rng)
            table.pop(key, None)
        elif kind < 6 and arrays:
            name = rng.choice(sorted(arrays))
            arrays[name] = np.ascontiguousarray(_hostile_array(arrays[name], rng))
        elif kind == 6 and arrays:
            array = arrays.pop(rng.choice(sorted(arrays)))
            if rng.random() < 0.5:
                arrays[rng.choice(["code", "mean", "params/x/y", "extra/x", "../x", ""])] = array
        else:
            opening = rng.choice("[{")
            text = (opening + '"a":' * (opening == "{")) * DEEP
    if entry == KEY:
        meta["checksum"] = checksum(arrays)
    return save(arrays, said | {entry: text or json.dumps(meta)})


def giant_png(width: int = 100_000, height: int = 100_000, depth16: bool = False) -> bytes:
    """A PNG of a few bytes whose header claims ten gigapixels, with right checksums."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(
        ">IIBBBBB", width, height, 16 if depth16 else 8, 0 if depth16 else 2, 0, 0, 0
    )
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 99)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def fuzz_file(kind: str, data: bytes, rng: random.Random, box: Path) -> Outcome:
    """Mutates one file and reads it."""
    path = box / "file"
    spoilt = lie(data, rng) if kind in LIARS and rng.random() < 0.5 else mutate(data, rng)
    path.write_bytes(spoilt)
    end, problem = "read", ""
    try:
        USES[kind](path)
    except UserError as error:
        end = "refused"
        if "\n" in str(error):
            problem = f"an error of several lines: {error}"
    except BadFrame:
        end = "bad frames"
    except Exception:
        end, problem = "traceback", traceback.format_exc(limit=-5)
    if [p.name for p in box.iterdir()] != ["file"] or path.read_bytes() != spoilt:
        problem += "files were written"
    path.unlink(missing_ok=True)
    return Outcome(kind, end, problem)
