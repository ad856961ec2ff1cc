"""Patch buffer: features extracted once, kept in device memory, sampled in shuffled batches.

A patch is a feature with its pixel and the image it is from; pose and intrinsics are kept once
per image. Everything random takes an explicit key, so a resumed run replays the same batches.
"""

from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from ace_jax.geometry.camera import Camera
from ace_jax.programs import program

_SHARE_OF_FREE_MEMORY = 0.6
_UNKNOWN_MEMORY = 2 << 30


@flax.struct.dataclass
class Batch:
    """N patches with what a loss needs.

    Attributes:
        features: (N, D) float32 descriptors.
        uv: (N, 2) pixels in the (augmented) image.
        target: (N, 3) world coordinates, metres, NaN where unknown.
        camera_from_world: (N, 4, 4).
        camera: intrinsics with fields (N,).
        frame: (N,) int32 the frame that the patch's image was made from.
    """

    features: jax.Array
    uv: jax.Array
    target: jax.Array
    camera_from_world: jax.Array
    camera: Camera
    frame: jax.Array


@flax.struct.dataclass
class PatchBuffer:
    """All patches (of `count` rows, the rest is room that was not filled) and their images.

    Attributes:
        features: (capacity, D) float16, on the device or, spilled, a NumPy array.
        uv: (capacity, 2) float32.
        target: (capacity, 3) float32, NaN where unknown.
        image: (capacity,) int32 row of the tables below.
        camera_from_world: (I, 4, 4) of the augmented images.
        intrinsics: (I, 4) fx, fy, cx, cy of the augmented images.
        frame: (I,) int32.
        count: number of patches.
    """

    features: jax.Array | np.ndarray
    uv: jax.Array | np.ndarray
    target: jax.Array | np.ndarray
    image: jax.Array | np.ndarray
    camera_from_world: jax.Array
    intrinsics: jax.Array
    frame: jax.Array
    count: int = flax.struct.field(pytree_node=False)

    @property
    def on_host(self) -> bool:
        """Whether the patches are in host memory because the device has no room."""
        return isinstance(self.features, np.ndarray)


class PatchSampler:
    """Shuffled batches by step: every patch once an epoch, each epoch in its own order."""

    def __init__(self, buffer: PatchBuffer, key: jax.Array, size: int):
        """Draws batches of `size` patches (fewer if the buffer holds fewer)."""
        if buffer.count < 1:
            raise ValueError("the patch buffer is empty")
        self._buffer, self._key = buffer, key
        self.size = min(size, buffer.count)
        self.steps_per_epoch = buffer.count // self.size
        self._epoch = -1
        self._order: Any = None

    def __call__(self, step: int) -> Batch:
        """The batch of a step; depends on the key and the step alone."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            key = jax.random.fold_in(self._key, epoch)
            order = jax.random.permutation(key, self._buffer.count)
            self._order = np.asarray(order) if self._buffer.on_host else order
            self._epoch = epoch
        index = self._order[position * self.size : (position + 1) * self.size]
        buffer = self._buffer
        rows = (buffer.features, buffer.uv, buffer.target, buffer.image)
        if buffer.on_host:
            rows, index = tuple(row[index] for row in rows), None
        return _batch(rows, index, buffer.camera_from_world, buffer.intrinsics, buffer.frame)


@program
def _batch(
    rows: tuple[jax.Array, ...],
    index: jax.Array | None,
    camera_from_world: jax.Array,
    intrinsics: jax.Array,
    frame: jax.Array,
) -> Batch:
    if index is not None:
        rows = tuple(row[index] for row in rows)
    features, uv, target, image = rows
    fx, fy, cx, cy = intrinsics[image].T
    return Batch(
        features=features.astype(jnp.float32),
        uv=uv,
        target=target,
        camera_from_world=camera_from_world[image],
        camera=Camera(fx, fy, cx, cy, 0, 0),
        frame=frame[image],
    )


class PatchBufferBuilder:
    """Fills a patch buffer image by image.

    The buffer is bounded by a count and by bytes. It is allocated on the device where it fits
    there, else on the host with a message; where it fits nowhere the count is cut, with a message.
    """

    def __init__(
        self,
        dim: int,
        max_patches: int,
        max_bytes: int | None = None,
        device: Any = None,
    ):
        """Reserves the memory.

        Args:
            dim: descriptor length D.
            max_patches: capacity.
            max_bytes: bound on the patches' memory; None for 60 % of what is free.
            device: where to keep them; None for the default device.
        """
        self._device = device or jax.devices()[0]
        row = 2 * dim + 8 + 12 + 4
        on_device = max_bytes or int(_SHARE_OF_FREE_MEMORY * free_device_bytes(self._device))
        wanted = max_patches * row
        self.on_host = False
        if wanted > on_device and self._device.platform != "cpu" and max_bytes is None:
            on_host = int(_SHARE_OF_FREE_MEMORY * free_host_bytes())
            self.on_host = True
            logging.warning(
                "the patch buffer (%.1f GB) does not fit on %s (%.1f GB free for it): kept in "
                "host memory, which makes steps slower",
                wanted / 1e9,
                self._device,
                on_device / 1e9,
            )
            on_device = on_host
        if wanted > on_device:
            max_patches = max(on_device // row, 1)
            logging.warning(
                "the patch buffer is cut from %.1f to %.1f GB: %d patches",
                wanted / 1e9,
                on_device / 1e9,
                max_patches,
            )
        self.capacity, self.count = max_patches, 0
        empty = (
            ((max_patches, dim), np.float16),
            ((max_patches, 2), np.float32),
            ((max_patches, 3), np.float32),
            ((max_patches,), np.int32),
        )
        if self.on_host:
            self._rows = tuple(np.zeros(shape, dtype) for shape, dtype in empty)
        else:
            with jax.default_device(self._device):
                self._rows = tuple(jnp.zeros(shape, dtype) for shape, dtype in empty)
        self._poses: list[np.ndarray] = []
        self._intrinsics: list[list[float]] = []
        self._frames: list[int] = []

    @property
    def full(self) -> bool:
        """Whether there is no room for another patch."""
        return self.count >= self.capacity

    def add(
        self,
        key: jax.Array,
        features: np.ndarray,
        uv: np.ndarray,
        mask: np.ndarray,
        camera: Camera,
        camera_from_world: np.ndarray,
        frame: int,
        patches: int,
        target: np.ndarray | None = None,
    ) -> int:
        """Adds patches of one image, drawn without repetition from those that the mask allows.

        Args:
            key: decides which.
            features: (N, D).
            uv: (N, 2) pixels.
            mask: (N,) bool; False never enters the buffer. Rows that are not finite do not either.
            camera: intrinsics of the image.
            camera_from_world: (4, 4).
            frame: number of the frame that the image was made from.
            patches: how many at most.
            target: (N, 3) world coordinates, NaN where unknown, or None.

        Returns:
            How many were added.
        """
        features, uv = np.asarray(features), np.asarray(uv, np.float32)
        mask = np.asarray(mask) & np.isfinite(features).all(axis=1) & np.isfinite(uv).all(axis=1)
        usable = np.flatnonzero(mask)
        # Drawn on the host: JAX would compile a permutation for each number of usable rows, which
        # is another one in nearly every image.
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        chosen = rng.permutation(usable)[: min(patches, self.capacity - self.count)]
        if not len(chosen):
            return 0
        if target is None:
            target = np.full((len(features), 3), np.nan)
        image = np.full(len(chosen), len(self._poses), np.int32)
        block = (
            features[chosen].astype(np.float16),
            uv[chosen],
            np.asarray(target, np.float32)[chosen],
            image,
        )
        self._write(block)
        self._poses.append(np.asarray(camera_from_world, np.float32))
        self._intrinsics.append([float(v) for v in camera.intrinsics])
        self._frames.append(frame)
        self.count += len(chosen)
        return len(chosen)

    def _write(self, block: tuple[np.ndarray, ...]) -> None:
        start, size = self.count, len(block[0])
        if self.on_host:
            for row, new in zip(self._rows, block, strict=True):
                row[start : start + size] = new
            return
        # One compiled program for all images: pad to a power of two, within the capacity.
        padded = min(1 << (size - 1).bit_length(), self.capacity)
        start = min(start, self.capacity - padded)
        shift = self.count - start
        whole = []
        for row, new in zip(self._rows, block, strict=True):
            before = np.asarray(row[start : self.count]) if shift else new[:0]
            after = np.zeros((padded - shift - size, *new.shape[1:]), new.dtype)
            whole.append(np.concatenate([before, new, after]))
        self._rows = _write_block(self._rows, tuple(whole), start)

    def finish(self) -> PatchBuffer:
        """The buffer; the builder must not be used afterwards."""
        if not self.count:
            raise ValueError("no patch was added")
        features, uv, target, image = self._rows
        return PatchBuffer(
            features=features,
            uv=uv,
            target=target,
            image=image,
            camera_from_world=jnp.asarray(np.stack(self._poses)),
            intrinsics=jnp.asarray(np.array(self._intrinsics, np.float32)),
            frame=jnp.asarray(np.array(self._frames, np.int32)),
            count=self.count,
        )


@program(donate_argnums=0)
def _write_block(
    rows: tuple[jax.Array, ...], block: tuple[jax.Array, ...], start: int
) -> tuple[jax.Array, ...]:
    return tuple(
        jax.lax.dynamic_update_slice_in_dim(row, new, start, axis=0)
        for row, new in zip(rows, block, strict=True)
    )


def free_device_bytes(device: Any) -> int:
    """Free memory of a device, as far as it tells."""
    if device.platform == "cpu":
        return free_host_bytes()
    stats = device.memory_stats() or {}
    return stats.get("bytes_limit", _UNKNOWN_MEMORY) - stats.get("bytes_in_use", 0)


def free_host_bytes() -> int:
    """Free memory of this machine; 2 GiB where it cannot be told."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _UNKNOWN_MEMORY
