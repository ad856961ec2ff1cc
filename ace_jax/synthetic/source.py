"""Synthetic sequences as a `FrameSource`: rendered on first access and cached on disk."""

import concurrent.futures
import dataclasses
import hashlib
import json
import pathlib
import threading
from collections.abc import Iterable, Iterator

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from ace_jax.data.frame import RENDERED_INVERSE_DEPTH_SIGMA, BadFrame, Frame
from ace_jax.errors import UserError
from ace_jax.files import replacing
from ace_jax.geometry.camera import Camera
from ace_jax.programs import program
from ace_jax.progress import ProgressBar
from ace_jax.runtime import cache_dir
from ace_jax.synthetic.scene import Scene
from ace_jax.synthetic.sensor import Sensor, sense
from ace_jax.synthetic.trajectory import RATE

VERSION = 2  # part of the cache key: raise it when rendered pictures change
DEPTH_SCALE = 6553.5  # depth is stored as uint16 of metres x this (0.15 mm steps, up to 10 m)
CHUNK = 8  # frames rendered per cache miss
WORKERS = 2  # frames in flight: XLA runs the tiles of one picture on one core


def _digest(*trees, text: str) -> str:
    """Hash of array pytrees and a text."""
    digest = hashlib.sha256(text.encode())
    for leaf in jax.tree.leaves(trees):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:12]


_sense = program(sense)


@program
def _to_bytes(rgb: jax.Array) -> jax.Array:
    """[0, 1] to uint8."""
    return jnp.round(rgb * 255).astype(jnp.uint8)


def _write_png(path: pathlib.Path, image: np.ndarray) -> None:
    """Writes a PNG file atomically."""
    ok, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not ok:
        raise RuntimeError(f"cannot encode {path.name}")
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


class SyntheticSource:
    """A camera path through a scene. Frames are rendered on first access and cached on disk.

    Attributes:
        name: for example `synthetic/room0`.
        camera: intrinsics.
        has_depth: True.
        rendered: True: see `data.frame.rendered`.
        scene: what is rendered.
        folder: the cache folder of this sequence.
    """

    has_depth = True
    rendered = True
    inverse_depth_sigma = RENDERED_INVERSE_DEPTH_SIGMA

    def __init__(
        self,
        name: str,
        scene: Scene,
        poses: np.ndarray,
        camera: Camera,
        sensor: Sensor | None = None,
    ):
        """See `sequences.open_sequence`.

        Args:
            name: of the source.
            scene: to be rendered.
            poses: (N, 4, 4) world_from_camera.
            camera: intrinsics.
            sensor: defects to add; None for perfect pictures.
        """
        self.name, self.scene, self.camera = name, scene, camera
        self._poses = np.asarray(poses, np.float64)
        self._sensor = sensor
        settings = [VERSION, dataclasses.asdict(camera), sensor and dataclasses.asdict(sensor)]
        key = _digest(scene.contents(), text=json.dumps(settings, sort_keys=True))
        self.folder = cache_dir() / "synthetic" / f"{name.split('/')[-1]}-{key}"
        self._bar: ProgressBar | None = None
        self._rendered = 0
        self._rendering = threading.Lock()  # readers ahead of each other want the same frames

    def __len__(self) -> int:
        return len(self._poses)

    def timestamps(self) -> np.ndarray:
        """(N,) float64 seconds."""
        return np.arange(len(self)) / RATE

    def names(self) -> list[str]:
        """Frame names, six digits."""
        return [f"{i:06d}" for i in range(len(self))]

    def poses(self) -> np.ndarray:
        """(N, 4, 4) float64 world_from_camera, exact."""
        return self._poses.copy()

    def _paths(self, index: int) -> tuple[pathlib.Path, pathlib.Path]:
        # by pose and not by path: sequences of other lengths share what they have in common
        key = _digest(self._poses[index], self._motion(index), self.scene.state(index), text="")
        stem = f"{index:06d}-{key}"
        return self.folder / f"{stem}.color.png", self.folder / f"{stem}.depth.png"

    def _motion(self, index: int) -> np.ndarray:
        """Pose (4, 4) of the next camera in this one's frame; the last frame repeats its past."""
        i = max(min(index, len(self) - 2), 0)
        # `rigid.invert` rounds otherwise: every frame in a cache would be rendered again.
        return np.linalg.inv(self._poses[i]) @ self._poses[min(i + 1, len(self) - 1)]

    def _is_cached(self, index: int) -> bool:
        return all(path.exists() for path in self._paths(index))

    def _render(self, index: int) -> None:
        """Renders one frame into the cache."""
        pose = jnp.asarray(self._poses[index], jnp.float32)
        rgb, depth = self.scene.render(index, pose, self.camera)
        if self._sensor is not None:
            rgb, depth = _sense(
                rgb,
                depth,
                jnp.asarray(self._motion(index), jnp.float32),
                index / RATE,
                self.camera,
                self._sensor,
                jax.random.fold_in(jax.random.key(0), index),
            )
        rgb, depth = np.asarray(_to_bytes(rgb)), np.asarray(depth)
        color_path, depth_path = self._paths(index)
        _write_png(color_path, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
        stored = np.where(depth < 65535 / DEPTH_SCALE, np.round(depth * DEPTH_SCALE), 0)
        _write_png(depth_path, stored.astype(np.uint16))

    def prepare(self, indices: Iterable[int] | None = None) -> None:
        """Renders what is missing (all frames by default), so that reading takes no time of it."""
        wanted = list(range(len(self)) if indices is None else indices)
        self.render_frames(wanted, wanted)
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def render_frames(self, indices: list[int], wanted: list[int] | None = None) -> None:
        """Renders those of `indices` that are not cached yet; shows progress.

        Args:
            indices: of the frames to render now.
            wanted: the frames that a new progress bar counts; by default all.

        Raises:
            UserError: the cache cannot be written.
        """
        with self._rendering:
            try:
                self._render_missing(indices, wanted or list(range(len(self))))
            except OSError as error:
                raise UserError(
                    f"cannot write the cache {self.folder}: {error.strerror}; set ACE_JAX_CACHE"
                ) from error

    def _render_missing(self, indices: list[int], wanted: list[int]) -> None:
        missing = [i for i in indices if not self._is_cached(i)]
        if not missing:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._bar is None:
            self._rendered = sum(self._is_cached(i) for i in wanted)
            self._bar = ProgressBar(
                len(wanted), f"rendering {self.name}", initial=self._rendered, unit="frame"
            )
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            for _ in pool.map(self._render, missing):
                self._rendered += 1
                self._bar.show(self._rendered)
        if self._rendered >= len(self):  # nothing is left for a later call
            self._bar.close()

    def __getitem__(self, index: int) -> Frame:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        if not self._is_cached(index):
            self.render_frames(list(range(index, min(index + CHUNK, len(self)))))
        color_path, depth_path = self._paths(index)
        color = cv2.imread(str(color_path), cv2.IMREAD_COLOR)
        depth = cv2.imread(str(depth_path), cv2.IMREAD_UNCHANGED)
        if color is None or depth is None:
            raise BadFrame(f"cannot read {color_path}; delete it and it is rendered again")
        return Frame(
            index=index,
            name=f"{index:06d}",
            timestamp=index / RATE,
            rgb=cv2.cvtColor(color, cv2.COLOR_BGR2RGB),
            depth=depth.astype(np.float32) / np.float32(DEPTH_SCALE),
            camera=self.camera,
            world_from_camera=self._poses[index].copy(),
        )

    def __iter__(self) -> Iterator[Frame]:
        for index in range(len(self)):
            yield self[index]
