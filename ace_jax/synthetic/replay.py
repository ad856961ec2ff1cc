"""Frames of a source in another order, without rendering a frame twice."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from scipy.spatial.transform import Rotation

from ace_jax.data.frame import Frame, FrameSource
from ace_jax.data.subset import SubsetSource
from ace_jax.synthetic.trajectory import RATE

TELEPORTS = 50
STAY = 10  # frames between two teleports
FAR_METRES, FAR_ANGLE = 0.5, np.deg2rad(40.0)  # what makes a jump a teleport: either


class ReplaySource(SubsetSource):
    """Frames of another source by a list of indices, with time running on evenly.

    Frames are numbered and named anew; poses are the frames' own.

    Attributes:
        name: of this source.
        camera: intrinsics.
        has_depth: whether frames carry depth.
        indices: (N,) frame numbers of the other source.
        teleports: (K,) numbers of this source's frames that do not continue the one before.
    """

    def __init__(
        self, source: FrameSource, indices: np.ndarray, name: str, teleports: Iterable[int] = ()
    ):
        """See the class."""
        self.indices = np.asarray(indices, np.int64)
        super().__init__(source, indices=self.indices.tolist())
        self.teleports = np.asarray(list(teleports), np.int64)
        self.name = name

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        return dataclasses.replace(frame, name=f"{frame.index:06d}", timestamp=frame.index / RATE)

    def timestamps(self) -> np.ndarray:
        """(N,) float64 seconds."""
        return np.arange(len(self)) / RATE

    def names(self) -> list[str]:
        """Frame names, six digits."""
        return [f"{i:06d}" for i in range(len(self))]


def to_and_fro(count: int, length: int) -> np.ndarray:
    """(length,) numbers of `count` frames played forwards, backwards, forwards, ..."""
    period = max(2 * count - 2, 1)
    phase = np.arange(length) % period
    return np.minimum(phase, period - phase)


def kidnapped(poses: np.ndarray, mapped: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A mapping pass, then `TELEPORTS` jumps, each followed by `STAY` frames in a row.

    Args:
        poses: (N, 4, 4) world_from_camera of the frames to choose from.
        mapped: the first so many frames are played in order; jumps land behind them, or anywhere
            if these are all.
        seed: of the jumps.

    Returns:
        Frame numbers (mapped + TELEPORTS STAY,) and where in them the jumps are (TELEPORTS,).
    """
    rng = np.random.default_rng([seed, 5])
    low = mapped if mapped + STAY < len(poses) else 0
    indices = list(range(mapped))
    jumps = []
    for _ in range(TELEPORTS):
        here = poses[indices[-1]]
        targets = np.arange(low, max(len(poses) - STAY + 1, low + 1))
        apart = np.linalg.norm(poses[targets, :3, 3] - here[:3, 3], axis=-1)
        turned = Rotation.from_matrix(here[:3, :3].T @ poses[targets, :3, :3]).magnitude()
        far = targets[(apart > FAR_METRES) | (turned > FAR_ANGLE)]
        start = int(rng.choice(far if len(far) else targets))
        jumps.append(len(indices))
        indices += range(start, min(start + STAY, len(poses)))
    return np.array(indices), np.array(jumps)
