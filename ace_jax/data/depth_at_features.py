"""Depth lookup at feature positions: median of a 3x3 window or interpolated, no depth edges."""

import numpy as np

MAX_BEND = (0.03, 0.01)  # of a surface, relative, and more per metre: a depth camera's noise


# A neighbourhood whose spread exceeds this share of its depth is an edge, where colour and depth
# are not known to show the same surface.
EDGE_RATIO = 0.05


def sample_depth(depth: np.ndarray, uv: np.ndarray, planar_radius: float = 0.0) -> np.ndarray:
    """Median depth of the 3x3 pixels around each feature; 0 at edges, holes and borders.

    Args:
        depth: (H, W) metres; 0, NaN and inf mean unknown.
        uv: (N, 2) pixels.
        planar_radius: pixels around a feature that must be one surface, see `is_planar`; 0: no
            matter.

    Returns:
        (N,) float32 metres, 0 where unknown.
    """
    height, width = depth.shape
    u = np.rint(uv[:, 0]).astype(np.int64)
    v = np.rint(uv[:, 1]).astype(np.int64)
    inside = (u >= 1) & (u < width - 1) & (v >= 1) & (v < height - 1)
    u = np.clip(u, 1, width - 2)
    v = np.clip(v, 1, height - 2)
    du, dv = np.meshgrid([-1, 0, 1], [-1, 0, 1])
    patch = depth[v[:, None] + dv.ravel(), u[:, None] + du.ravel()]
    known = np.isfinite(patch) & (patch > 0)
    count = known.sum(1)
    enough = inside & (count >= 5)
    # Sorted with the unknown ones last; numpy's nanmedian takes ten times as long.
    patch = np.sort(np.where(known, patch, np.inf), axis=1)
    patch[~enough] = 0.0
    every, last = np.arange(len(patch)), np.maximum(count, 1) - 1
    median = (patch[every, last // 2] + patch[every, (last + 1) // 2]) / 2
    spread = patch[every, last] - patch[:, 0]
    good = enough & (spread < EDGE_RATIO * median)
    if planar_radius > 0:
        good &= is_planar(depth, uv, median, planar_radius)
    return np.where(good, median, 0.0).astype(np.float32)


def interpolated_depth(depth: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Depth at the sub-pixel position of each feature; 0 at edges, holes and borders.

    Where `sample_depth` knows a surface, inverse depth, which is linear in the pixel on a plane, is
    interpolated between the four pixels around the position; where one of them is unknown, the
    median stays.

    Args:
        depth: (H, W) metres; 0, NaN and inf mean unknown.
        uv: (N, 2) pixels.

    Returns:
        (N,) float32 metres, 0 where unknown.
    """
    median = sample_depth(depth, uv)
    height, width = depth.shape
    corner = np.floor(uv).astype(np.int64)
    u, v = np.clip(corner[:, 0], 0, width - 2), np.clip(corner[:, 1], 0, height - 2)
    du, dv = uv[:, 0] - u, uv[:, 1] - v
    around = np.stack([depth[v, u], depth[v, u + 1], depth[v + 1, u], depth[v + 1, u + 1]])
    weights = np.stack([(1 - du) * (1 - dv), du * (1 - dv), (1 - du) * dv, du * dv])
    known = (np.isfinite(around) & (around > 0)).all(axis=0) & (median > 0)
    inverse = (weights / np.where(known, around, 1.0)).sum(axis=0)
    return np.where(known, 1.0 / np.maximum(inverse, 1e-6), median).astype(np.float32)


def is_planar(
    depth: np.ndarray, uv: np.ndarray, at_feature: np.ndarray, radius: float
) -> np.ndarray:
    """Whether each feature lies on one surface, as far as `radius` around it.

    A blob beside a depth edge is placed by both surfaces: as the camera moves, it follows the
    nearer one, by 2 to 4 % more than its depth says (measured on synthetic rooms and a Kinect), and
    its position is twice as uncertain. On a plane inverse depth is linear in the pixel, so the mean
    of two opposite neighbours is the centre's; across an edge it is not.

    Args:
        depth: (H, W) metres; 0, NaN and inf mean unknown.
        uv: (N, 2) pixels.
        at_feature: (N,) metres, see `sample_depth`.
        radius: pixels; the size of a blob.

    Returns:
        (N,) bool; neighbours of unknown depth count as on the plane.
    """
    height, width = depth.shape
    turns = np.arange(4) * np.pi / 4
    offsets = np.rint(radius * np.stack([np.cos(turns), np.sin(turns)], axis=1)).astype(np.int64)
    pixels = np.rint(uv).astype(np.int64)[:, None]
    ends = []
    for sign in (1, -1):
        u, v = np.moveaxis(pixels + sign * offsets, -1, 0)
        inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        ends.append(np.where(inside, depth[np.clip(v, 0, height - 1), np.clip(u, 0, width - 1)], 0))
    known = np.isfinite(ends[0]) & np.isfinite(ends[1]) & (ends[0] > 0) & (ends[1] > 0)
    one, other = (np.where(known, end, 1.0) for end in ends)
    bend = np.abs(at_feature[:, None] * (1.0 / one + 1.0 / other) - 2.0)
    allowed = MAX_BEND[0] + MAX_BEND[1] * at_feature
    return np.all(~known | (bend < allowed[:, None]), axis=1)
