"""The mesh of a run: where the surfaces are, in their colours; and what is missing is said."""

import sys
import types

import numpy as np
import pytest
from slam_scene import HALF, RoomSource, world_from_camera

from ace_jax.errors import UserError
from ace_jax.slam.reporting import mesh


def _open3d():
    return pytest.importorskip("open3d", exc_type=ImportError)


def test_the_walls_of_the_room_are_where_they_were(tmp_path):
    o3d = _open3d()
    source = RoomSource(13, bad=(4,))
    moved = np.eye(4)
    moved[:3, 3] = [0.5, -1.0, 2.0]  # the map's world is another than the room's
    tracked = [types.SimpleNamespace(index=i) for i in range(0, 13, 2)]

    def corrected_pose(frame):
        if frame.index == 8:  # lost, or in a map of its own
            return None
        return np.linalg.inv(moved @ world_from_camera(frame.index))

    poses = types.SimpleNamespace(corrected=corrected_pose)
    system = types.SimpleNamespace(frames=tracked, poses=poses)
    frames = list(mesh.posed_frames(source, system))
    assert [frame.index for frame, _ in frames] == [0, 2, 6, 10, 12]
    vertices, triangles = mesh.write_mesh(tmp_path / "mesh.ply", frames, voxel=0.04)
    read = o3d.io.read_triangle_mesh(str(tmp_path / "mesh.ply"))
    points = np.asarray(read.vertices) - moved[:3, 3]
    assert len(points) == vertices > 1000
    assert len(read.triangles) == triangles
    off = np.abs(HALF - np.abs(points)).min(axis=1)  # distance to the nearest wall
    assert np.quantile(off, 0.95) < 0.02
    colours = np.asarray(read.vertex_colors)
    assert colours.std() > 0.05
    assert read.has_vertex_normals()


def test_nothing_seen_is_one_line(tmp_path):
    _open3d()
    with pytest.raises(UserError, match="track more frames"):
        mesh.write_mesh(tmp_path / "mesh.ply", [])
    assert not (tmp_path / "mesh.ply").exists()


def test_what_is_missing_is_said_before_the_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(UserError, match="pip install open3d"):
        mesh.require(RoomSource(3))
    monkeypatch.setitem(sys.modules, "open3d", types.ModuleType("open3d"))
    with pytest.raises(UserError, match="no depth"):
        mesh.require(RoomSource(3, has_depth=False))
    with pytest.raises(UserError, match="record them first"):
        mesh.require(RoomSource(3, name="live/realsense"))
    mesh.require(RoomSource(3))
