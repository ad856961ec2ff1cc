"""Warm-up jobs: each runs one typical computation on made-up images, to compile its programs."""

import collections
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import jax
import numpy as np

from ace_jax.api.mapping import map_images
from ace_jax.api.slam import Slam
from ace_jax.errors import UserError
from ace_jax.executables import LOADED
from ace_jax.geometry.camera import Camera
from ace_jax.localization.relocalizer import Relocalizer
from ace_jax.programs import store

COMPILED = "/jax/core/compile/backend_compile_duration"
_DISTANCE = 2.0  # metres to the wall that all pictures show
_IMAGES = 8  # of a small mapping
_seen: collections.Counter[str] = collections.Counter()


def folder() -> Path:
    """Where programs are kept.

    Raises:
        UserError: nowhere.
    """
    found = store()
    if found is None:
        raise UserError(
            "compiled programs are not kept: the device is no CPU, ACE_JAX_CACHE cannot be "
            "written, or ACE_JAX_PROGRAMS=0 or JAX_ENABLE_COMPILATION_CACHE=0 is set"
        )
    return found


def megabytes(path: Path) -> float:
    """Size of a folder's files."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6


def slam(size: tuple[int, int], features: str, weights_dir: str | None) -> str:
    """A system is made, which compiles all of its programs, and sees two frames."""
    camera = _camera(size)
    with _counted(f"slam, {size[0]}x{size[1]}") as line:
        system = Slam(camera, features=features, weights_dir=weights_dir)
        for index in range(2):
            system.track(_picture(size, 3 * index), _depth(size), index / 30)
        with contextlib.suppress(UserError):  # so few frames need not make a map
            system.finish()
    return line[0]


def mapping(size: tuple[int, int], weights_dir: str | None) -> str:
    """A map of a few images, with depth, by the default preset; and a query."""
    camera = _camera(size)
    poses = np.tile(np.eye(4), (_IMAGES, 1, 1))
    shifts = 12 * np.arange(_IMAGES)
    poses[:, 0, 3] = shifts * _DISTANCE / camera.fx
    images = [_picture(size, shift) for shift in shifts]
    with _counted(f"mapping, {size[0]}x{size[1]}") as line:
        made = map_images(images, poses, camera, [_depth(size)] * _IMAGES, weights_dir=weights_dir)
        Relocalizer.of(made, weights_dir)(images[0], camera)
    return line[0]


def relocalize(size: tuple[int, int], path: Path, weights_dir: str | None) -> str:
    """A query that nothing answers: its second attempt is compiled as well."""
    with _counted(f"relocalize with {path.name}, {size[0]}x{size[1]}") as line:
        relocalizer = Relocalizer.load(path, weights_dir)
        relocalizer(_picture(size, 0), _camera(size))
        relocalizer(np.zeros((size[1], size[0], 3), np.uint8), _camera(size))
    return line[0]


def _camera(size: tuple[int, int]) -> Camera:
    width, height = size
    return Camera(0.8 * width, 0.8 * width, (width - 1) / 2, (height - 1) / 2, width, height)


def _picture(size: tuple[int, int], shift: int) -> np.ndarray:
    """(H, W, 3) uint8, a wall with texture of every size, moved left by `shift` pixels."""
    width, height = size
    random, total = np.random.default_rng(0), np.zeros((height, width + 256))
    for cell in (4, 16, 64):
        coarse = random.uniform(size=(height // cell + 2, (width + 256) // cell + 2))
        total += cv2.resize(coarse, (width + 256, height), interpolation=cv2.INTER_CUBIC)
    grey = np.clip(85 * total[:, shift : shift + width], 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, -1)


def _depth(size: tuple[int, int]) -> np.ndarray:
    return np.full((size[1], size[0]), _DISTANCE, np.float32)


@contextlib.contextmanager
def _counted(name: str) -> Iterator[list[str]]:
    """Collects a line that says what was compiled meanwhile."""
    _listen()
    before, start, line = dict(_seen), time.perf_counter(), []
    yield line
    compiled, loaded = (_seen[event] - before.get(event, 0) for event in (COMPILED, LOADED))
    seconds = time.perf_counter() - start
    line.append(f"{name}: {compiled} programs compiled, {loaded} were there, {seconds:.0f} s")


def _listen() -> None:
    if not _seen:
        _seen["listening"] = 1
        jax.monitoring.register_event_duration_secs_listener(_count)


def _count(event: str, _: float, **__: Any) -> None:
    _seen[event] += 1
