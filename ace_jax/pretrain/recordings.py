"""RGB-D recordings as a scene source, through the readers of `ace_jax.data`.

A scene is a run of consecutive frames of one recording. Its first two thirds are the mapping pass;
queries are from the last third, as far in time, and mostly in viewpoint, as one recording allows.
Illumination does not change within a recording, so queries are drawn through a change of exposure
and tint, blurred and made noisy; real other days would be better (RIO10, Indoor-6) where a data set
has them.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from ace_jax.data.frame import Frame, FrameSource
from ace_jax.data.registry import open_sequence
from ace_jax.errors import UserError
from ace_jax.pretrain.conditions import HARD, draw_conditions, photograph
from ace_jax.pretrain.scenes import Views, identity_of

_VERSION = 2  # part of the cache's key: raise it when the images change
_MAPPED = 2.0 / 3.0  # of a run
_TINT, _EXPOSURE = 0.08, 0.25  # standard deviations of a query's log gains, by channel and overall


class RecordingScenes:
    """Runs of recordings; a recording without depth or poses is refused."""

    def __init__(
        self,
        name: str,
        openers: Sequence[Callable[[], FrameSource]],
        lengths: Sequence[int],
        frames: int,
        identity: str,
        size: tuple[int, int] | None = (320, 240),
    ):
        """See `open_recordings` and `tfds.open_tfds`.

        Args:
            name: of the source.
            openers: give a recording each.
            lengths: frames of each recording.
            frames: of a scene.
            identity: what the recordings' names do not say.
            size: width and height to which images are scaled; None: as they are.
        """
        self.name, self._openers, self._size = name, list(openers), size
        self._runs = [
            (recording, start, min(start + frames, length))
            for recording, length in enumerate(lengths)
            for start in range(0, max(length - frames // 2, 1), frames)
        ]
        self.identity = identity_of(
            version=_VERSION, name=name, frames=frames, size=size, more=identity
        )

    def __len__(self) -> int:
        return len(self._runs)

    def images(self, number: int, views: Views) -> list[Frame]:
        """See `SceneSource`."""
        recording, start, stop = self._runs[number]
        source = self._openers[recording]()
        poses = source.poses()
        if poses is None or not source.has_depth:
            raise UserError(f"{source.name} lacks {'poses' if poses is None else 'depth'}: it "
                            "cannot be pre-trained on")  # fmt: skip
        usable = start + np.flatnonzero(np.isfinite(poses[start:stop]).all(axis=(1, 2)))
        cut = int(len(usable) * _MAPPED) if views.query else len(usable)
        mapped = _spread(usable[:cut], views.mapping + views.held_out, source.name)
        inner = np.linspace(0, len(mapped) - 1, views.held_out + 2).round().astype(int)[1:-1]
        queries = _spread(usable[cut:], views.query, source.name)
        rng = np.random.default_rng([number, 23])
        order = [*np.delete(mapped, inner), *mapped[inner]]
        frames = [_scaled(source[int(i)], self._size) for i in order]
        return frames + [_disturbed(_scaled(source[int(i)], self._size), rng) for i in queries]


def open_recordings(
    names: Sequence[str], data_root: Path | str, frames: int, size: tuple[int, int] | None
) -> RecordingScenes:
    """Recordings by their names in `data.registry`.

    Raises:
        UserError: one is not there.
    """

    def opener(name: str) -> Callable[[], FrameSource]:
        return lambda: open_sequence(name, data_root)

    lengths = [len(open_sequence(name, data_root)) for name in names]
    return RecordingScenes(
        "recordings", [opener(n) for n in names], lengths, frames, "|".join(names), size
    )


def _spread(usable: np.ndarray, count: int, name: str) -> np.ndarray:
    if len(usable) < count:
        raise UserError(
            f"{name}: {len(usable)} frames with poses where {count} images are needed; lower "
            "config.views or raise the source's frames"
        )
    return usable[np.linspace(0, len(usable) - 1, count).round().astype(int)]


def _scaled(frame: Frame, size: tuple[int, int] | None) -> Frame:
    """The frame at another size; intrinsics follow."""
    camera = frame.camera
    if size is None or (camera.width, camera.height) == tuple(size):
        return frame
    return dataclasses.replace(
        frame,
        rgb=cv2.resize(frame.rgb, tuple(size), interpolation=cv2.INTER_AREA),
        depth=cv2.resize(frame.depth, tuple(size), interpolation=cv2.INTER_NEAREST_EXACT),
        camera=camera.resized(*size),
    )


def _disturbed(frame: Frame, rng: np.random.Generator) -> Frame:
    """The frame under another exposure and white balance, out of focus, in motion, with noise."""
    gain = np.exp(_EXPOSURE * rng.normal() + _TINT * rng.normal(size=3))
    # Gains act on light, and stored values are about its square root.
    rgb = np.sqrt(np.clip((frame.rgb / 255.0) ** 2 * gain, 0.0, 1.0)).astype(np.float32)
    conditions = draw_conditions(HARD, rng.uniform(), rng)
    conditions.motion[:3, 3] = 0.0  # depth has holes, and turning needs none
    rgb = photograph(rgb, frame.depth, frame.camera, conditions, 1.0)
    return dataclasses.replace(frame, rgb=(255.0 * rgb + 0.5).astype(np.uint8))
