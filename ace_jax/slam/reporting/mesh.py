"""A coloured mesh from a finished run: depth fused along the estimated trajectory.

Truncated signed distances in voxel blocks (Curless and Levoy, SIGGRAPH 1996; Niessner et al.,
SIGGRAPH Asia 2013), by Open3D.
"""

import dataclasses
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ace_jax.data.frame import BadFrame, Frame, FrameSource
from ace_jax.errors import UserError
from ace_jax.files import replacing
from ace_jax.geometry.host_camera import intrinsic_matrix
from ace_jax.geometry.rigid import invert
from ace_jax.progress import ProgressBar
from ace_jax.slam.landmark_slam import LandmarkSlam


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Fusion of depth images into a mesh: see `reporting.mesh`.

    Attributes:
        voxel (m; judged): edge of a voxel.
        max_depth (m; judged): that is fused; a depth camera's noise grows with the square.
        truncation (voxels; theory: Curless and Levoy, several times the noise): of the signed
            distance.
        block (voxels; size): along a block's edge.
        blocks (blocks; size): to begin with (100 MB).
        min_frames (frames; judged): that must have seen a surface.
        max_frames (frames; size): that are fused; more add little to a room.
    """

    voxel: float = 0.015
    max_depth: float = 4.0
    truncation: float = 4.0
    block: int = 8
    blocks: int = 10_000
    min_frames: int = 3
    max_frames: int = 300


def require_open3d() -> Any:
    """Open3D.

    Raises:
        UserError: it is not installed, or cannot be loaded.
    """
    try:
        return importlib.import_module("open3d")
    except ImportError as error:
        raise UserError(
            f"--mesh needs the extra `mesh`: pip install open3d ({error}); or leave --mesh away"
        ) from error


def require(source: FrameSource) -> None:
    """Finds out before the run whether a mesh can be made after it.

    Raises:
        UserError: Open3D is missing, or the recording has no depth or cannot be read again.
    """
    require_open3d()
    if not source.has_depth:
        raise UserError(f"{source.name}: no depth, so no mesh; leave --mesh away")
    if source.name.startswith("live/"):
        raise UserError("a camera's images are gone after the run: record them first for --mesh")


def posed_frames(source: FrameSource, system: LandmarkSlam) -> Iterable[tuple[Frame, np.ndarray]]:
    """At most 300 of the run's frames with their final world_from_camera (4, 4), read again."""
    tracked = [frame for frame in system.frames if system.poses.corrected(frame) is not None]
    step = max(1, -(-len(tracked) // MeshConfig.max_frames))
    chosen = tracked[::step]
    with ProgressBar(len(chosen), "mesh", unit="frame") as bar:
        for done, tracked_frame in enumerate(chosen):
            bar.show(done)
            try:
                frame = source[tracked_frame.index]
            except BadFrame:
                continue
            if frame.depth is not None:
                yield frame, invert(system.poses.corrected(tracked_frame))
        bar.show(len(chosen))


def write_mesh(
    path: Path, frames: Iterable[tuple[Frame, np.ndarray]], voxel: float = MeshConfig.voxel
) -> tuple[int, int]:
    """Fuses frames and writes the mesh.

    Args:
        path: a PLY file.
        frames: with world_from_camera (4, 4).
        voxel: edge length, metres.

    Returns:
        Numbers of vertices and triangles.

    Raises:
        UserError: Open3D is missing, or nothing could be fused.
    """
    o3d = require_open3d()
    tensor = o3d.core.Tensor
    grid = o3d.t.geometry.VoxelBlockGrid(
        attr_names=("tsdf", "weight", "color"),
        attr_dtypes=(o3d.core.float32,) * 3,
        attr_channels=((1), (1), (3)),
        voxel_size=voxel,
        block_resolution=MeshConfig.block,
        block_count=MeshConfig.blocks,
    )
    fused = 0
    for frame, world_from_camera in frames:
        depth = o3d.t.geometry.Image(np.ascontiguousarray(frame.depth, np.float32))
        colour = o3d.t.geometry.Image(np.ascontiguousarray(frame.rgb, np.float32) / 255.0)
        intrinsics = tensor(intrinsic_matrix(frame.camera))
        camera_from_world = tensor(invert(world_from_camera))
        place = (intrinsics, camera_from_world, 1.0, MeshConfig.max_depth, MeshConfig.truncation)
        if not ((frame.depth > 0) & (frame.depth < MeshConfig.max_depth)).any():
            continue  # Open3D raises where there is nothing to integrate
        blocks = grid.compute_unique_block_coordinates(depth, *place)
        grid.integrate(blocks, depth, colour, intrinsics, *place)
        fused += 1
    mesh = None
    if fused:
        # A surface that one frame alone saw is often none.
        mesh = grid.extract_triangle_mesh(weight_threshold=min(MeshConfig.min_frames, fused) - 0.5)
    if mesh is None or len(mesh.triangle.indices) == 0:
        raise UserError("no surface was seen often enough for a mesh: track more frames")
    mesh = mesh.to_legacy()
    mesh.vertex_colors = o3d.utility.Vector3dVector(
        np.clip(np.asarray(mesh.vertex_colors), 0.0, 1.0)
    )
    mesh.compute_vertex_normals()
    with replacing(path) as temporary:
        o3d.io.write_triangle_mesh(str(temporary), mesh)
    return len(mesh.vertices), len(mesh.triangles)
