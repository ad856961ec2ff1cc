"""Frames of many scenes as batches, for training: shuffled, deterministic, resumable, sharded.

    table = FrameTable([open_sequence("7scenes/chess/seq-01", root), ...], size=(320, 240))
    batches = iter(frame_batches(table, batch_size=32, seed=0, workers=4))
    batch = next(batches)           # a dict of arrays with a leading batch axis
    state = batches.get_state()     # keep it in the checkpoint
    batches.set_state(state)        # goes on with the batch after `batch`

The order is a function of the seed and the shard alone: neither the number of workers nor a restart
changes it. Through `grain` (extra `pretrain`), which needs no TensorFlow.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import cv2
import numpy as np
from absl import flags

from ace_jax.data.frame import BadFrame, Frame, FrameSource
from ace_jax.errors import UserError

Example = dict[str, Any]


class Table(Protocol):
    """Examples by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


@dataclasses.dataclass(frozen=True)
class Shard:
    """This host's part: examples index, index + count, ... of the shuffled order."""

    index: int = 0
    count: int = 1

    @classmethod
    def of_this_process(cls) -> "Shard":
        """One shard for each JAX process."""
        import jax

        return cls(jax.process_index(), jax.process_count())


class FrameTable:
    """Frames of several sources as examples of one size.

    An example has `rgb` (H, W, 3) uint8, `depth` (H, W) float32 metres (0 unknown), `intrinsics`
    (4,) float32 fx fy cx cy in pixels, `world_from_camera` (4, 4) float32 (NaN unknown), `scene`
    and `frame` () int32 (the source's number, and the frame's within it), and `valid` () bool:
    False for a frame that cannot be read, whose other entries are zero.
    """

    def __init__(
        self, sources: Sequence[FrameSource], *, size: tuple[int, int] | None = None
    ) -> None:
        """Joins sources.

        Args:
            sources: recordings, one scene each; they are read from several threads.
            size: width and height to which frames are scaled; the first source's by default.

        Raises:
            UserError: there are no sources.
        """
        if not sources:
            raise UserError("a training set needs at least one recording")
        self._sources = list(sources)
        self._starts = [0, *itertools.accumulate(len(source) for source in sources)]
        camera = sources[0].camera
        self.size = size or (int(camera.width), int(camera.height))

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Example:
        index = range(len(self))[index]
        scene = bisect.bisect_right(self._starts, index) - 1
        number = index - self._starts[scene]
        try:
            example = to_example(self._sources[scene][number], self.size)
        except BadFrame:
            example = _blank(self.size)
        return example | {"scene": np.int32(scene), "frame": np.int32(number)}


def to_example(frame: Frame, size: tuple[int, int]) -> Example:
    """A frame scaled to (width, height); depth by nearest neighbour, so that edges stay."""
    camera = frame.camera
    depth = frame.depth
    if depth is None:
        depth = np.zeros((camera.height, camera.width), np.float32)
    rgb = frame.rgb
    if tuple(size) != (camera.width, camera.height):
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        depth = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST_EXACT)
    pose = frame.world_from_camera
    return {
        "rgb": rgb,
        "depth": depth.astype(np.float32, copy=False),
        "intrinsics": np.array(camera.resized(*size).intrinsics, np.float32),
        "world_from_camera": np.full((4, 4), np.nan, np.float32)
        if pose is None
        else pose.astype(np.float32),
        "valid": np.bool_(True),
    }


def _blank(size: tuple[int, int]) -> Example:
    return {
        "rgb": np.zeros((size[1], size[0], 3), np.uint8),
        "depth": np.zeros((size[1], size[0]), np.float32),
        "intrinsics": np.zeros(4, np.float32),
        "world_from_camera": np.zeros((4, 4), np.float32),
        "valid": np.bool_(False),
    }


def frame_batches(
    table: Table,
    *,
    batch_size: int,
    seed: int,
    shard: Shard | None = None,
    epochs: int | None = None,
    transform: Callable[[Example, np.random.Generator], Example] | None = None,
    threads: int = 4,
    workers: int = 0,
) -> Any:
    """A `grain.IterDataset` of batches; incomplete ones are dropped.

    Args:
        table: examples; each epoch has them all, in another order.
        batch_size: of this shard.
        seed: of the order and of the transform's generators.
        shard: of this host; None: all examples.
        epochs: how often; None: for ever.
        transform: augmentation of one example; its generator depends on the seed and the
            example's position in the order alone.
        threads: that read, in each process.
        workers: processes that read; 0: none but this one. The table is sent to them by pickle.

    Returns:
        Its iterators have `get_state` and `set_state`.

    Raises:
        UserError: `grain` is missing, or a batch takes more examples than a shard has.
    """
    try:
        import grain
    except ImportError as error:
        raise UserError("training input needs the extra `pretrain`: pip install grain") from error
    shard = shard or Shard()
    if not 0 <= shard.index < shard.count:
        raise UserError(f"shard {shard.index} of {shard.count}: count from 0")
    available = len(range(shard.index, len(table), shard.count))
    if batch_size > available:
        raise UserError(f"a batch of {batch_size} from a shard of {available} frames")
    # Shuffled before it is sharded, so that shards differ from epoch to epoch; `repeat` before
    # `batch`, so that no frame is lost at an epoch's end.
    dataset = grain.MapDataset.source(table).seed(seed).shuffle()[shard.index :: shard.count]
    dataset = dataset.repeat(epochs)
    if transform is not None:
        dataset = dataset.random_map(transform, seed=seed)
    dataset = dataset.batch(batch_size, drop_remainder=True)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2 * threads, 1))
    iterable = dataset.to_iter_dataset(options)
    if workers:
        if not flags.FLAGS.is_parsed():  # grain reads a flag of its own; in a notebook none are
            flags.FLAGS.mark_as_parsed()
        iterable = iterable.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return iterable
