"""What goes wrong with a camera's stream, done to any source: for tests and benchmarks.

Each fault is a function from a source to a source; `FAULTS` has them by name. They never touch the
poses: a frame keeps the pose that its picture was taken at, whatever was done to the picture.
"""

import dataclasses
from collections.abc import Callable, Mapping

import cv2
import numpy as np

from ace_jax.data.frame import Frame, FrameSource
from ace_jax.data.subset import SubsetSource

Effect = Callable[[Frame], Frame]

RATE = 30.0  # frames a second that durations are counted in
TELEPORTS, STAY = 20, 10  # jumps of a kidnapped camera, and frames after each
PASSER_BY_SHARE = 0.4  # of the image
WALKING_PACE = 0.8  # m/s
_SKIN = np.array([120, 70, 55])
_DARK = 3.0  # grey level of noise that a covered lens still gives


class FaultySource(SubsetSource):
    """Frames of another source: in another order, at other times, some of them spoilt.

    Frames are numbered anew; names and poses are the frames' own.

    Attributes:
        name: of this source.
        camera: intrinsics.
        has_depth: whether frames carry depth (those that are not spoilt).
        order: (N,) frame numbers of the other source.
        disturbed: (N,) bool, whether something was done to the frame.
        jumps: (K,) numbers of this source's frames that do not continue the one before.
    """

    def __init__(
        self,
        source: FrameSource,
        name: str,
        order: np.ndarray | None = None,
        timestamps: np.ndarray | None = None,
        effects: Mapping[int, Effect] | None = None,
        jumps: np.ndarray | None = None,
    ):
        """See the class.

        Args:
            source: the undisturbed one.
            name: of the fault.
            order: frame numbers; all of them in their order by default.
            timestamps: (N,) seconds; by default the frames' own.
            effects: what is done to the frame at a position; it may raise `BadFrame`.
            jumps: see the class.
        """
        self.order = np.arange(len(source)) if order is None else np.asarray(order, np.int64)
        super().__init__(source, indices=self.order.tolist())
        self.name = f"{source.name}, {name}"
        own = super().timestamps()
        self._timestamps = own if timestamps is None else np.asarray(timestamps, np.float64)
        self._effects = dict(effects or {})
        self.disturbed = np.isin(np.arange(len(self)), list(self._effects))
        self.jumps = np.zeros(0, np.int64) if jumps is None else np.asarray(jumps, np.int64)

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        frame = dataclasses.replace(frame, timestamp=float(self._timestamps[frame.index]))
        effect = self._effects.get(frame.index)
        return frame if effect is None else effect(frame)

    def timestamps(self) -> np.ndarray:
        """(N,) float64 seconds; they may stand still or go back."""
        return self._timestamps.copy()


def dropped(source: FrameSource, share: float = 0.3, seed: int = 0) -> FaultySource:
    """A share of the frames never arrives."""
    keep = np.random.default_rng([seed, 1]).random(len(source)) >= share
    keep[0] = True
    return FaultySource(source, f"{share:.0%} dropped", np.flatnonzero(keep))


def disordered(source: FrameSource, share: float = 0.1, seed: int = 0) -> FaultySource:
    """Some frames come twice, as many change places with the next one; stamps go with them."""
    rng = np.random.default_rng([seed, 2])
    order = np.arange(len(source))
    # Pairs that share no frame: a frame moves by one place at most.
    swapped = 2 * np.flatnonzero(rng.random((len(order) - 1) // 2) < share) + 1
    order[swapped], order[swapped + 1] = order[swapped + 1], order[swapped]
    times = 1 + (rng.random(len(order)) < share)
    return FaultySource(source, "twice and out of order", np.repeat(order, times))


def black(source: FrameSource, count: int = 30, at: int | None = None) -> FaultySource:
    """The light goes out: no picture, no depth."""

    def effect(frame: Frame) -> Frame:
        depth = None if frame.depth is None else np.zeros_like(frame.depth)
        return dataclasses.replace(frame, rgb=np.zeros_like(frame.rgb), depth=depth)

    return _during(source, f"{count} black frames", count, effect, at)


def blurred(
    source: FrameSource, seconds: float = 2.0, width: float = 0.04, at: int | None = None
) -> FaultySource:
    """Motion blur over a share `width` of the image's width, its direction turning."""

    def effect(frame: Frame) -> Frame:
        size = 2 * round(width * frame.rgb.shape[1] / 2) + 1
        angle = 0.35 * frame.index
        kernel = np.zeros((size, size), np.float32)
        middle = (size - 1) / 2
        along = 16 * middle * np.array([np.cos(angle), np.sin(angle)])
        ends = [tuple(np.rint(16 * middle + sign * along).astype(int).tolist()) for sign in (-1, 1)]
        cv2.line(kernel, *ends, 1.0, 1, cv2.LINE_AA, 4)
        rgb = cv2.filter2D(frame.rgb, -1, kernel / kernel.sum())
        return dataclasses.replace(frame, rgb=rgb)

    return _during(source, f"{seconds:g} s motion blur", round(seconds * RATE), effect, at)


def without_depth(source: FrameSource, seconds: float = 3.0, at: int | None = None) -> FaultySource:
    """The depth camera pauses."""
    return _during(
        source,
        f"{seconds:g} s without depth",
        round(seconds * RATE),
        lambda frame: dataclasses.replace(frame, depth=None),
        at,
    )


def overexposed(
    source: FrameSource, factor: float = 4.0, seconds: float = 2.0, at: int | None = None
) -> FaultySource:
    """The exposure is `factor` times too long, at once: most of the picture is white."""

    def effect(frame: Frame) -> Frame:
        rgb = np.minimum(frame.rgb.astype(np.float32) * factor, 255).astype(np.uint8)
        return dataclasses.replace(frame, rgb=rgb)

    return _during(source, f"exposure x{factor:g}", round(seconds * RATE), effect, at)


def covered(source: FrameSource, seconds: float = 1.5, at: int | None = None) -> FaultySource:
    """A hand comes over the lens from below, covers all of it and goes away; no depth there."""
    count = round(seconds * RATE)
    start = _start(source, count, at)

    def effect(frame: Frame) -> Frame:
        height, width = frame.rgb.shape[:2]
        phase = (frame.index - start + 1) / (count + 1)
        reach = np.clip(3 * min(phase, 1 - phase), 0, 1)  # a third of the time to come, and to go
        rng = np.random.default_rng([frame.index, 3])
        noise = cv2.GaussianBlur(rng.normal(0, 1, (height, width, 3)).astype(np.float32), (0, 0), 2)
        light = np.linspace(0.3, 1.0, width)[None, :, None] * (1 - 0.8 * reach)
        hand = np.clip(_SKIN * light + _DARK * noise, 0, 255).astype(np.uint8)
        mask = np.arange(height)[:, None] >= (1 - reach) * height - 1
        mask = mask & np.ones((1, width), bool)
        depth = None if frame.depth is None else np.where(mask, 0, frame.depth)
        return dataclasses.replace(
            frame, rgb=np.where(mask[..., None], hand, frame.rgb), depth=depth
        )

    return _during(source, "hand over the lens", count, effect, start)


def passed(
    source: FrameSource, seconds: float = 4.0, metres: float = 1.0, at: int | None = None
) -> FaultySource:
    """Someone 1 m away walks through the picture and back, 40 % of it wide, at 0.8 m/s."""
    width = source.camera.width
    across = round(PASSER_BY_SHARE * width)
    pace = WALKING_PACE * source.camera.fx / metres / RATE  # pixels a frame

    def left(frames: int) -> int:
        way = (pace * frames) % (2 * (width + across))
        return round(min(way, 2 * (width + across) - way)) - across

    return _hidden(source, "someone walks by", seconds, metres, left, at)


def swayed(
    source: FrameSource, seconds: float = 3.0, metres: float = 1.0, at: int | None = None
) -> FaultySource:
    """Something 1 m away, 40 % of the picture wide, is there at once, and sways to and fro.

    It starts from rest and comes to rest at either side: harder than someone who walks by.
    """
    width = source.camera.width
    across = round(PASSER_BY_SHARE * width)

    def left(frames: int) -> int:
        return round((width - across) * (0.5 - 0.5 * np.cos(2.2 * frames / RATE)))

    return _hidden(source, "something near sways", seconds, metres, left, at)


def _hidden(
    source: FrameSource,
    name: str,
    seconds: float,
    metres: float,
    left: Callable[[int], int],
    at: int | None,
) -> FaultySource:
    """A part of every picture, as high as it is, shows a mirrored picture of the scene.

    So what hides the scene has as many features as the scene has.

    Args:
        source: see `FAULTS`.
        name: of the fault.
        seconds: how long.
        metres: depth of what hides.
        left: its left border in pixels, by frames since the start.
        at: first frame, or None.
    """
    count = round(seconds * RATE)
    start = _start(source, count, at)
    pattern = source[start].rgb[:, ::-1]
    across = round(PASSER_BY_SHARE * pattern.shape[1])

    def effect(frame: Frame) -> Frame:
        first = left(frame.index - start)
        low, high = max(first, 0), min(first + across, frame.rgb.shape[1])
        rgb, depth = frame.rgb.copy(), frame.depth
        if high > low:
            rgb[:, low:high] = pattern[:, low - first : high - first]
            if depth is not None:
                depth = depth.copy()
                depth[:, low:high] = metres
        return dataclasses.replace(frame, rgb=rgb, depth=depth)

    return _during(source, name, count, effect, start)


def stalled(source: FrameSource, seconds: float = 10.0, at: int | None = None) -> FaultySource:
    """No frame for a while; then the camera shows what it had shown half-way to there."""
    stop = len(source) // 2 if at is None else at
    order = np.concatenate([np.arange(stop), np.arange(stop // 2, len(source))])
    times = source.timestamps()[order]
    times[stop:] += times[stop - 1] + seconds - times[stop]
    return FaultySource(source, f"{seconds:g} s stall", order, times, jumps=np.array([stop]))


def kidnapped(source: FrameSource, seed: int = 0) -> FaultySource:
    """Every second frame in order, then jumps to the ones in between, a few frames each.

    No picture after a jump was in the map before.
    """
    rng = np.random.default_rng([seed, 6])
    order = list(range(0, len(source), 2))
    others = np.arange(1, len(source), 2)
    jumps = []
    for _ in range(TELEPORTS):
        far = others[: max(len(others) - STAY, 1)]
        distant = far[np.abs(far - order[-1]) > len(source) // 5]
        first = int(np.searchsorted(others, rng.choice(distant if len(distant) else far)))
        jumps.append(len(order))
        order += others[first : first + STAY].tolist()
    times = source.timestamps()[0] + np.arange(len(order)) / RATE
    return FaultySource(
        source, f"{TELEPORTS} kidnappings", np.array(order), times, jumps=np.array(jumps)
    )


def _start(source: FrameSource, count: int, at: int | None) -> int:
    return max((len(source) - count) // 2, 0) if at is None else at


def _during(
    source: FrameSource, name: str, count: int, effect: Effect, at: int | None
) -> FaultySource:
    """An effect on `count` frames from `at`; in the middle by default."""
    start = _start(source, count, at)
    positions = range(start, min(start + count, len(source)))
    return FaultySource(source, name, effects=dict.fromkeys(positions, effect))


FAULTS: dict[str, Callable[[FrameSource], FaultySource]] = {
    "dropped": dropped,
    "disordered": disordered,
    "black": black,
    "blurred": blurred,
    "without_depth": without_depth,
    "overexposed": overexposed,
    "covered": covered,
    "passed": passed,
    "swayed": swayed,
    "stalled": stalled,
    "kidnapped": kidnapped,
}
