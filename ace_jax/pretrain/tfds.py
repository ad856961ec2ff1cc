"""TFDS data sets as a scene source, read through grain without TensorFlow.

Build with `--file_format=array_record`, whose examples are stored in no order: they are gathered by
recording first, reading everything but the images.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ace_jax.data.frame import Frame
from ace_jax.data.tfds_frames import UNITS_PER_METRE
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.pretrain.recordings import RecordingScenes

_THREADS = 8
_MISSING = "TFDS sources need: pip install grain tensorflow-datasets array_record"


class StoredRecording:
    """One recording of a data set, in the order of its timestamps."""

    def __init__(self, name: str, stored: Sequence[Any], rows: np.ndarray, poses: np.ndarray):
        """A recording.

        Args:
            name: of the recording.
            stored: the data set's examples.
            rows: (N,) its examples.
            poses: (N, 4, 4) world_from_camera, NaN where unknown.
        """
        self.name, self._stored, self._rows, self._poses = name, stored, rows, poses
        self.has_depth = True

    def __len__(self) -> int:
        return len(self._rows)

    def poses(self) -> np.ndarray:
        """(N, 4, 4) float64."""
        return self._poses

    def __getitem__(self, index: int) -> Frame:
        example = self._stored[int(self._rows[index])]
        if "depth" not in example:
            raise UserError(f"{self.name} lacks depth: it cannot be pre-trained on")
        rgb = np.asarray(example["rgb"])
        values = (float(value) for value in example["intrinsics"])
        depth = np.asarray(example["depth"])[:, :, 0].astype(np.float32)
        return Frame(
            index=index,
            name=str(example["name"]),
            timestamp=float(example["timestamp"]),
            rgb=rgb,
            depth=depth / np.float32(UNITS_PER_METRE),
            camera=Camera(*values, width=rgb.shape[1], height=rgb.shape[0]),
            world_from_camera=self._poses[index],
        )


def gather(stored: Sequence[Any], light: Sequence[Any] | None = None) -> list[StoredRecording]:
    """The recordings among a data set's examples.

    Args:
        stored: random access to the examples.
        light: the same without decoded images, quicker to go through; None: `stored`.
    """
    rows: dict[str, list[tuple[float, int, np.ndarray]]] = {}
    for row, example in enumerate(_read_all(stored if light is None else light)):
        recording = example["recording"]
        name = recording.decode() if isinstance(recording, bytes) else str(recording)
        pose = np.asarray(example["world_from_camera"], np.float64)
        rows.setdefault(name, []).append((float(example["timestamp"]), row, pose))
    result = []
    for name in sorted(rows):
        _, order, poses = zip(*sorted(rows[name], key=lambda item: item[:2]), strict=True)
        result.append(StoredRecording(name, stored, np.array(order), np.stack(poses)))
    return result


def _read_all(stored: Sequence[Any]) -> Iterator[Any]:
    """All examples in order, read ahead by several threads."""
    try:
        import grain
    except ImportError as error:
        raise UserError(_MISSING) from error
    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=4 * _THREADS)
    return iter(grain.MapDataset.source(stored).to_iter_dataset(options))


def open_tfds(
    name: str, split: str, data_dir: Path | str, frames: int, size: tuple[int, int] | None
) -> RecordingScenes:
    """The recordings of a built data set as scenes of `frames` frames.

    Raises:
        UserError: it is not built, or an extra is missing.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(_MISSING) from error
    skip = tfds.decode.SkipDecoding()
    try:
        stored = tfds.data_source(name, split=split, data_dir=str(data_dir))
        light = tfds.data_source(
            name, split=split, data_dir=str(data_dir), decoders={"rgb": skip, "depth": skip}
        )
    except Exception as error:  # TFDS has many kinds for what all means: it is not there
        reason = (str(error).strip().splitlines() or ["unreadable"])[0]
        raise UserError(
            f"no TFDS data set {name} under {data_dir} ({reason}); build it with "
            "tfds build --file_format=array_record, see docs/datasets.md"
        ) from error
    found = gather(stored, light)
    return RecordingScenes(
        name.replace("/", "_"),
        [lambda r=r: r for r in found],
        [len(r) for r in found],
        frames,
        f"{name}:{split}",
        size,
    )
