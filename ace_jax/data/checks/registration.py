"""Checks the registration of depth to colour: depth discontinuities should lie on image edges.

The near side of depth edges is correlated with the strength of image edges over shifts and zooms.
Registered depth has its peak at no shift and no zoom. Unregistered depth has it at the ratio of the
two focal lengths (a Kinect's 0.9, a RealSense's up to 1.6) and at a shift of some pixels (the
distance of the two cameras).

Many transforms are tried, and the best of many beats the identity by chance alone. So each frame
judges a transform that other frames chose (cross-validation): the gain and its uncertainty are of
frames that took no part in the choice.
"""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np

from ace_jax.data.checks.finding import Finding
from ace_jax.data.frame import Frame

ZOOMS = np.geomspace(1 / 1.7, 1.7, 23)  # 5 % apart; the middle one is 1
_WIDTH = 320  # pixels to work at
_SHIFT = 24  # pixels at that width: 6 cm between the cameras at 0.7 m
_NEAR = 2  # so far the peak of registered depth may be off: sensors round corners
_MIN_EDGES = 150  # pixels; an image with fewer says nothing
_MIN_FRAMES = 4
_FOLDS = 8  # of the frames; each judges what the others chose
_MIN_PEAK = 0.4  # of the excess; below, the edges have nothing to do with each other
_MISSING = 0.85  # registered depth has at least so much of the peak in the middle
_CERTAIN = 3.0  # standard errors of the gain


@dataclasses.dataclass(frozen=True)
class Alignment:
    """How depth edges fit image edges.

    Attributes:
        frames: how many frames had edges to judge by.
        peak: the greatest excess of edge strength at depth edges over the image's mean, as a
            multiple of that mean, over all shifts and zooms; 0 is chance.
        centre: the greatest excess without zoom and within 4 px (of 640) of no shift.
        zoom: of depth about the image's middle, at the peak.
        shift: (x, y) pixels of a 640 px wide image, at the peak.
        gain: by how much the excess grows, on average over the depth edges, when the depth of each
            frame is moved as other frames would have it.
        gain_error: standard error of the gain.
    """

    frames: int
    peak: float
    centre: float
    zoom: float
    shift: tuple[int, int]
    gain: float
    gain_error: float

    @property
    def unregistered(self) -> bool:
        """Whether depth clearly belongs elsewhere."""
        return (
            self.peak >= _MIN_PEAK
            and self.centre <= _MISSING * self.peak
            and self.gain >= _CERTAIN * self.gain_error
        )


@dataclasses.dataclass(frozen=True)
class _Edges:
    """Of one frame at the working size: depth edges (E, 2) as pixels x, y, and image edges (H, W)
    as strength over its mean, less 1."""

    depth: np.ndarray
    image: np.ndarray

    def moved(self, zoom: float, shift: tuple[int, int] = (0, 0)) -> np.ndarray:
        """Pixels (M, 2) of the depth edges that stay in the image."""
        size = np.array(self.image.shape[::-1])
        middle = (size - 1) / 2
        pixels = np.rint((self.depth - middle) * zoom + middle + shift).astype(int)
        return pixels[((pixels >= 0) & (pixels < size)).all(axis=1)]

    def excess(self, zoom: float, shift: tuple[int, int]) -> float:
        """Mean image edge at the moved depth edges."""
        x, y = self.moved(zoom, shift).T
        return float(self.image[y, x].mean()) if len(x) else 0.0


def align(frames: list[Frame]) -> Alignment | None:
    """Correlates depth edges and image edges of frames; None if there is too little to see."""
    edges = [
        found
        for frame in frames
        if frame.depth is not None and (found := _edges_of(frame)) is not None
    ]
    if len(edges) < _MIN_FRAMES:
        return None
    folds = [edges[start::_FOLDS] for start in range(min(_FOLDS, len(edges)))]
    parts = [_correlation(fold) for fold in folds]
    total, count = (sum(arrays) for arrays in zip(*parts, strict=True))
    gains, weights = [], []
    for fold, (own, own_count) in zip(folds, parts, strict=True):
        best, centre = _choices(total - own, count - own_count)
        gains += [frame.excess(*best) - frame.excess(*centre) for frame in fold]
        weights += [len(frame.depth) for frame in fold]
    gain, share = np.average(gains, weights=weights), np.array(weights) / np.sum(weights)
    variance = np.sum((share * (gains - gain)) ** 2) * len(gains) / (len(gains) - 1)
    best, centre = _choices(total, count)
    zoom, (x, y) = best
    return Alignment(
        frames=len(edges),
        peak=_value(total, count, best),
        centre=_value(total, count, centre),
        zoom=zoom,
        shift=(2 * x, 2 * y),
        gain=float(gain),
        gain_error=float(np.sqrt(variance)),
    )


def judge(alignment: Alignment | None) -> list[Finding]:
    """The fault that an alignment shows."""
    if alignment is None or not alignment.unregistered:
        return []
    x, y = alignment.shift
    return [
        Finding(
            "unregistered_depth",
            "depth is not registered to colour",
            f"depth edges fit image edges best when depth is zoomed by {alignment.zoom:.3g} and "
            f"moved by ({x}, {y}) px (of 640): {alignment.peak:.2f}, as it is "
            f"{alignment.centre:.2f}, over {alignment.frames} frames",
            "switch on depth registration (alignment to colour) in the recording software; run "
            "SLAM with --register_depth, which estimates it; or warp depth by the calibration of "
            "the two cameras (ace_jax.data.registration.DepthRegistration)",
        )
    ]


_Transform = tuple[float, tuple[int, int]]  # zoom, and shift (x, y) at the working size


def _correlation(frames: Sequence[_Edges]) -> tuple[np.ndarray, np.ndarray]:
    """Image edges summed over the moved depth edges of frames of one size.

    Returns:
        (zooms, shifts y, shifts x) sums, and (zooms,) how many depth edges were in the image.
    """
    from scipy import fft  # here: SLAM asks for it with `--register_depth` alone

    shape = tuple(fft.next_fast_len(side + _SHIFT, real=True) for side in frames[0].image.shape)
    spectra = [fft.rfft2(frame.image, shape) for frame in frames]
    sums, counts = [], []
    for zoom in ZOOMS:
        product, count = 0, 0
        for frame, spectrum in zip(frames, spectra, strict=True):
            x, y = frame.moved(zoom).T
            marked = np.bincount(y * shape[1] + x, minlength=shape[0] * shape[1])
            marked = marked.reshape(shape).astype(np.float32)
            product = product + np.conj(fft.rfft2(marked)) * spectrum
            count += len(x)
        sums.append(np.roll(fft.irfft2(product, shape), (_SHIFT, _SHIFT), (0, 1)))
        counts.append(count)
    return np.array(sums)[:, : 2 * _SHIFT + 1, : 2 * _SHIFT + 1], np.array(counts)


def _choices(sums: np.ndarray, counts: np.ndarray) -> tuple[_Transform, _Transform]:
    """The best transform of all, and the best of those that registered depth may show.

    By the significance of the excess, which grows with the square root of the count: a few edges
    that are left in the image must not win by chance.
    """
    significance = sums / np.sqrt(np.maximum(counts, 1))[:, None, None]
    near = slice(_SHIFT - _NEAR, _SHIFT + _NEAR + 1)
    registered = np.full_like(significance, -np.inf)
    registered[len(ZOOMS) // 2, near, near] = significance[len(ZOOMS) // 2, near, near]
    best, centre = (
        np.unravel_index(values.argmax(), values.shape) for values in (significance, registered)
    )
    return tuple(
        (float(ZOOMS[zoom]), (int(x - _SHIFT), int(y - _SHIFT))) for zoom, y, x in (best, centre)
    )


def _value(sums: np.ndarray, counts: np.ndarray, transform: _Transform) -> float:
    """The mean excess at a transform."""
    zoom = int(np.abs(ZOOMS - transform[0]).argmin())
    x, y = transform[1]
    return float(sums[zoom, y + _SHIFT, x + _SHIFT] / max(counts[zoom], 1))


def _edges_of(frame: Frame) -> _Edges | None:
    """A frame's edges; None if there are too few."""
    size = (_WIDTH, round(frame.depth.shape[0] * _WIDTH / frame.depth.shape[1]))
    depth = np.where(np.isfinite(frame.depth), frame.depth, np.float32(0))
    depth = cv2.resize(depth, size, interpolation=cv2.INTER_NEAREST)
    y, x = np.nonzero(near_edges(depth))
    if len(x) < _MIN_EDGES:
        return None
    strength = _edge_strength(cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA))
    image = strength / max(float(strength.mean()), 1e-6) - 1
    return _Edges(np.stack([x, y], axis=1), image)


def near_edges(depth: np.ndarray) -> np.ndarray:
    """(H, W) bool, the near side of depth edges (steps of 15 %), away from the border.

    Depth is often unknown beside an edge: what lies behind was hidden from one of the sensor's two
    eyes. So holes count as what `filled` takes them for.
    """
    square = np.ones((3, 3), np.uint8)
    surface = filled(depth)
    nearest = cv2.erode(np.where(surface > 0, surface, np.float32(1e9)), square)
    farthest = cv2.dilate(surface, square)
    edges = (depth > 0) & (farthest > 1.15 * nearest) & (surface < 1.03 * nearest)
    inner = np.zeros_like(edges)
    inner[8:-8, 8:-8] = edges[8:-8, 8:-8]
    return inner


def filled(depth: np.ndarray) -> np.ndarray:
    """(H, W) depth without speckles, and holes as the farther of what is known around them."""
    smooth = np.where(depth > 0, cv2.medianBlur(depth, 3), 0)
    return np.where(smooth > 0, smooth, _farther_side(smooth))


def _farther_side(depth: np.ndarray) -> np.ndarray:
    """(H, W) the greatest of the nearest known depths to the left, right, above and below."""

    def before(image: np.ndarray) -> np.ndarray:
        """The last known depth of each row up to a pixel, 0 if there is none."""
        last = np.maximum.accumulate(np.where(image > 0, np.arange(image.shape[1]), 0), axis=1)
        return np.take_along_axis(image, last, axis=1)

    rows, columns = (
        np.maximum(before(image), before(image[:, ::-1])[:, ::-1]) for image in (depth, depth.T)
    )
    return np.maximum(rows, columns.T)


def _edge_strength(rgb: np.ndarray) -> np.ndarray:
    """(H, W) float32 gradient magnitude, clipped and relative to its surroundings."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey = cv2.GaussianBlur(grey, (0, 0), 0.8)
    strength = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    strength = np.minimum(strength, np.percentile(strength, 95))
    return strength / (cv2.GaussianBlur(strength, (0, 0), 16) + 8)
