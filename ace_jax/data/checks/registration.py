"""Whether depth is registered to colour: depth jumps where the image has edges.

The near side of depth edges is correlated with the strength of image edges over shifts and zooms.
Registered depth has its peak at no shift and no zoom. A Kinect's raw depth peaks at a zoom of 0.9
(the two focal lengths) and a shift of about ten pixels (the distance of the two cameras).
"""

import dataclasses

import cv2
import numpy as np

from ace_jax.data.checks.finding import Finding
from ace_jax.data.frame import Frame

ZOOMS = np.linspace(0.85, 1.15, 7)
_WIDTH = 320  # pixels to work at
_SHIFT = 16  # pixels at that width
_NEAR = 2  # so far the peak of registered depth may be off: sensors round corners
_MIN_EDGES = 150  # pixels; an image with fewer says nothing
_MIN_FRAMES = 4
_MIN_PEAK = 0.4  # of the correlation, in units of the mean edge strength
_MISSING = 0.6  # registered depth has at least so much of the peak in the middle


@dataclasses.dataclass(frozen=True)
class Alignment:
    """How depth edges fit image edges.

    Attributes:
        frames: how many frames had edges to judge by.
        peak: best correlation over all shifts and zooms.
        centre: best correlation without zoom and within 4 px (of 640) of no shift.
        zoom: of depth about the image's middle, at the peak.
        shift: (x, y) pixels of a 640 px wide image, at the peak.
    """

    frames: int
    peak: float
    centre: float
    zoom: float
    shift: tuple[int, int]


def align(frames: list[Frame]) -> Alignment | None:
    """Correlates depth edges and image edges of frames; None if there is too little to see."""
    scores = [
        score
        for frame in frames
        if frame.depth is not None and (score := _correlation(frame)) is not None
    ]
    if len(scores) < _MIN_FRAMES:
        return None
    mean = np.mean(scores, axis=0)
    zoom, y, x = np.unravel_index(mean.argmax(), mean.shape)
    near = slice(_SHIFT - _NEAR, _SHIFT + _NEAR + 1)
    return Alignment(
        frames=len(scores),
        peak=float(mean.max()),
        centre=float(mean[len(ZOOMS) // 2, near, near].max()),
        zoom=float(ZOOMS[zoom]),
        shift=(2 * int(x - _SHIFT), 2 * int(y - _SHIFT)),
    )


def judge(alignment: Alignment | None) -> list[Finding]:
    """The fault that an alignment shows."""
    if (
        alignment is None
        or alignment.peak < _MIN_PEAK
        or alignment.centre > _MISSING * alignment.peak
    ):
        return []
    x, y = alignment.shift
    return [
        Finding(
            "unregistered_depth",
            "depth is not registered to colour",
            f"depth edges fit image edges best when depth is zoomed by {alignment.zoom:.3g} and "
            f"moved by ({x}, {y}) px (of 640): {alignment.peak:.2f}, as it is "
            f"{alignment.centre:.2f}, over {alignment.frames} frames",
            "switch on depth registration (alignment to colour) in the recording software, or "
            "warp depth by the calibration of the two cameras "
            "(ace_jax.data.registration.DepthRegistration)",
        )
    ]


def _correlation(frame: Frame) -> np.ndarray | None:
    """(zooms, shifts y, shifts x) mean edge strength under moved depth edges."""
    size = (_WIDTH, round(frame.depth.shape[0] * _WIDTH / frame.depth.shape[1]))
    depth_edges = near_edges(cv2.resize(frame.depth, size, interpolation=cv2.INTER_NEAREST))
    if depth_edges.sum() < _MIN_EDGES:
        return None
    strength = _edge_strength(cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA))
    border = [_SHIFT] * 4
    strength = cv2.copyMakeBorder(strength - strength.mean(), *border, cv2.BORDER_CONSTANT)
    middle = (np.array(size) - 1) / 2
    scores = []
    for zoom in ZOOMS:
        moved = np.array([[zoom, 0, (1 - zoom) * middle[0]], [0, zoom, (1 - zoom) * middle[1]]])
        edges = cv2.warpAffine(depth_edges, moved, size)
        scores.append(cv2.matchTemplate(strength, edges, cv2.TM_CCORR) / edges.sum())
    return np.array(scores)


def near_edges(depth: np.ndarray) -> np.ndarray:
    """(H, W) float32, 1 on the near side of depth edges (steps of 8 %), away from the border."""
    square = np.ones((3, 3), np.uint8)
    nearest = cv2.erode(np.where(depth > 0, depth, np.float32(1e9)), square)
    farthest = cv2.dilate(depth, square)
    edges = (farthest > 1.08 * nearest) & (depth > 0) & (depth < 1.03 * nearest)
    inner = np.zeros_like(edges)
    inner[8:-8, 8:-8] = edges[8:-8, 8:-8]
    return inner.astype(np.float32)


def _edge_strength(rgb: np.ndarray) -> np.ndarray:
    """(H, W) float32 gradient magnitude, clipped and relative to its surroundings."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey = cv2.GaussianBlur(grey, (0, 0), 0.8)
    strength = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    strength = np.minimum(strength, np.percentile(strength, 95))
    return strength / (cv2.GaussianBlur(strength, (0, 0), 16) + 8)
