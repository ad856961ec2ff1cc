"""Generic TFDS builder over the registered data sets, and access to the data that it has built.

A builder is a class `Builder(FrameBuilder, tfds.core.GeneratorBasedBuilder)` in `datasets/` that
names a kind of recording and its scenes; its citation is in `CITATIONS.bib` beside it, its home
page in `ace_jax.data.catalogue`. Data is fetched beforehand
(`python -m ace_jax.data download`); the data root is TFDS's `--manual_dir`. Build with
`--file_format=array_record`: such files are read without TensorFlow, at random, and so shuffled and
sharded by `pipeline.frame_batches`.

TensorFlow Datasets is imported inside functions, as it is an extra (`tfds`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ace_jax.data.catalogue import DATA_SETS
from ace_jax.data.frame import BadFrame, Frame, FrameSource
from ace_jax.data.images import SATURATED
from ace_jax.data.pipeline import Example, to_example
from ace_jax.data.registry import open_sequence
from ace_jax.data.selection import open_frames
from ace_jax.geometry.camera import Camera

UNITS_PER_METRE = 5000.0  # of the stored depth: 0.2 mm steps, up to 13 m


class FrameBuilder:
    """Common part of all builders; the first line of a builder's docstring is its description.

    Attributes:
        KIND: of the recordings, see `registry.FORMATS`.
        SCENES: the names that follow it, as in `registry.open_sequence`. Scenes that are not under
            the data root are left out.
        SPLITS: the data set's official splits; ("train",) alone takes each scene as a whole.
        HAS_DEPTH: whether frames carry depth.
        MAX_FRAMES: at most so many of each recording; None for all.
    """

    KIND: ClassVar[str]
    SCENES: ClassVar[tuple[str, ...]]
    SPLITS: ClassVar[tuple[str, ...]] = ("train",)
    HAS_DEPTH: ClassVar[bool] = True
    MAX_FRAMES: ClassVar[int | None] = None
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS: ClassVar[str | None]

    def __init_subclass__(cls, **options: Any) -> None:
        """Tells TFDS how the data is fetched, unless it is rendered."""
        fetched = cls.KIND in DATA_SETS
        how = f"python -m ace_jax.data download {cls.KIND} --data_root DATA"
        cls.MANUAL_DOWNLOAD_INSTRUCTIONS = how if fetched else None
        super().__init_subclass__(**options)

    def _info(self) -> Any:
        import tensorflow_datasets as tfds

        features = {
            "rgb": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "intrinsics": tfds.features.Tensor(shape=(4,), dtype=np.float64),
            "world_from_camera": tfds.features.Tensor(shape=(4, 4), dtype=np.float64),
            "timestamp": np.float64,
            "recording": tfds.features.Text(),
            "name": tfds.features.Text(),
        }
        if self.HAS_DEPTH:
            features["depth"] = tfds.features.Image(
                shape=(None, None, 1), dtype=np.uint16, encoding_format="png"
            )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            description=f"{self.__doc__} Depth: {UNITS_PER_METRE:g} units per metre, 0 unknown. "
            "world_from_camera: OpenCV axes, NaN where unknown.",
            homepage=DATA_SETS[self.KIND].page if self.KIND in DATA_SETS else "",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
        root = Path(dl_manager.manual_dir) if self.MANUAL_DOWNLOAD_INSTRUCTIONS else Path()
        return {split: self._generate_examples(root, self.names(split)) for split in self.SPLITS}

    @classmethod
    def names(cls, split: str) -> tuple[str, ...]:
        """The recordings of a split; `KIND/SCENE:SPLIT` is a scene's official split."""
        suffix = f":{split}" if len(cls.SPLITS) > 1 else ""
        return tuple(f"{cls.KIND}/{scene}{suffix}" for scene in cls.SCENES)

    def _generate_examples(
        self, root: Path, names: tuple[str, ...]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for name in names:
            source = self._open(name, root)
            if source is None:
                continue
            for index in range(len(source))[: self.MAX_FRAMES]:
                try:
                    frame = source[index]
                except BadFrame:
                    continue
                yield f"{name}#{index:06d}", self._encode(name, frame)

    def _open(self, name: str, root: Path) -> FrameSource | None:
        """A recording; None if its data set's folder lacks it (a part was not downloaded)."""
        recording, _, split = name.partition(":")
        kind, _, rest = recording.partition("/")
        places = (f"{kind}/{rest}", f"{kind.capitalize()}/{rest}", f"{kind}/scans/{rest}")
        if kind != "synthetic" and not any((root / place).is_dir() for place in places):
            return None
        return (
            open_frames(recording, root, split=split) if split else open_sequence(recording, root)
        )

    def _encode(self, recording: str, frame: Frame) -> dict[str, Any]:
        camera, pose = frame.camera, frame.world_from_camera
        example = {
            "rgb": frame.rgb,
            "intrinsics": np.array(camera.intrinsics, np.float64),
            "world_from_camera": np.full((4, 4), np.nan) if pose is None else pose,
            "timestamp": np.float64(frame.timestamp),
            "recording": recording,
            "name": frame.name,
        }
        if self.HAS_DEPTH:
            depth = np.zeros(frame.rgb.shape[:2]) if frame.depth is None else frame.depth
            units = np.rint(depth * UNITS_PER_METRE)
            units[~(units < SATURATED)] = 0  # too far, or NaN
            example["depth"] = units.astype(np.uint16)[:, :, None]
        return example


class TfdsTable:
    """Examples of a built data set in the form of `pipeline.FrameTable`; needs no TensorFlow."""

    def __init__(self, source: Any, size: tuple[int, int]) -> None:
        """Wraps a random-access source.

        Args:
            source: of `tfds.data_source(NAME, split=..., data_dir=...)`, an array_record.
            size: width and height to which frames are scaled.
        """
        self._source, self._size = source, size

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Example:
        stored = self._source[index]
        rgb = np.asarray(stored["rgb"])
        depth = None
        if "depth" in stored:
            depth = np.asarray(stored["depth"])[:, :, 0].astype(np.float32)
            depth /= np.float32(UNITS_PER_METRE)
        values = (float(value) for value in stored["intrinsics"])
        pose = np.asarray(stored["world_from_camera"])
        frame = Frame(
            index=index,
            name=str(stored["name"]),
            timestamp=float(stored["timestamp"]),
            rgb=rgb,
            depth=depth,
            camera=Camera(*values, width=rgb.shape[1], height=rgb.shape[0]),
            world_from_camera=pose if np.isfinite(pose).all() else None,
        )
        return to_example(frame, self._size) | {"frame": np.int32(index)}
