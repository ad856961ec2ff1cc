"""Coloured points from posed depth images, to initialise Gaussian splatting or a NeRF."""

import dataclasses

import numpy as np

from ace_jax.data.frame import Frame
from ace_jax.geometry import rigid
from ace_jax.geometry.host_camera import unproject

TOTAL = 100_000  # size: points of a whole recording, as many as a COLMAP model of a room has
MAX_DEPTH = 10.0  # metres, beyond which consumer depth cameras know little


@dataclasses.dataclass(frozen=True)
class SeedPoints:
    """Points that one image shows.

    Attributes:
        uv: (K, 2) int pixels, the centre of the top-left one at (0, 0).
        xyz: (K, 3) world, metres.
        rgb: (K, 3) uint8.
    """

    uv: np.ndarray
    xyz: np.ndarray
    rgb: np.ndarray


def seed_points(frame: Frame, count: int) -> SeedPoints | None:
    """At most so many pixels with depth, chosen at random, always the same ones.

    Args:
        frame: one with a pose.
        count: at most so many.

    Returns:
        None without a pose or depth.
    """
    if frame.world_from_camera is None or frame.depth is None:
        return None
    v, u = np.nonzero((frame.depth > 0) & (frame.depth < MAX_DEPTH))
    chosen = np.random.default_rng(frame.index).permutation(len(u))[:count]
    uv = np.stack([u[chosen], v[chosen]], axis=1)
    depth = frame.depth[uv[:, 1], uv[:, 0]]
    xyz = rigid.transform(frame.world_from_camera, unproject(uv, depth, frame.camera))
    return SeedPoints(uv, xyz, frame.rgb[uv[:, 1], uv[:, 0]])


def ply_text(points: list[SeedPoints]) -> str:
    """The content of a PLY file, which `nerfstudio` and viewers read."""
    header = ["ply", "format ascii 1.0", f"element vertex {sum(len(p.xyz) for p in points)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    header += [f"property uchar {channel}" for channel in ("red", "green", "blue")]
    rows = [
        f"{x:.5f} {y:.5f} {z:.5f} {r} {g} {b}"
        for p in points
        for (x, y, z), (r, g, b) in zip(p.xyz.tolist(), p.rgb.tolist(), strict=True)
    ]
    return "\n".join([*header, "end_header", *rows]) + "\n"
