"""What is written in a layout is read back by its reader."""

import dataclasses
import json

import numpy as np
import pytest
from data_scene import CAMERA, NORMAL, OFFSET, PlaneSource, pose

from ace_jax.data.ace_layout import AceLayout
from ace_jax.data.colmap import Colmap
from ace_jax.data.export import LAYOUTS, export
from ace_jax.data.folder import Folder
from ace_jax.data.frame import FrameSource
from ace_jax.data.images import SATURATED
from ace_jax.data.nerfstudio import Nerfstudio
from ace_jax.data.registry import open_sequence
from ace_jax.data.replica import Replica
from ace_jax.data.seed_points import seed_points
from ace_jax.data.seven_scenes import SevenScenes
from ace_jax.data.tum import Tum
from ace_jax.errors import UserError
from ace_jax.geometry.host_camera import project

READERS = {
    "replica": Replica,
    "tum": Tum,
    "7scenes": SevenScenes,
    "folder": Folder,
    "ace": AceLayout,
    "colmap": Colmap,
    "nerfstudio": Nerfstudio,
}
TIMELESS = ("ace", "colmap", "nerfstudio")  # times are positions
POSED = ("colmap", "nerfstudio")  # they hold no frame without a pose
LAYOUT = pytest.mark.parametrize("layout", sorted(LAYOUTS))


@LAYOUT
def test_round_trip(tmp_path, layout):
    source = PlaneSource(5, lost=(3,), first_time=0.5)
    assert export(source, tmp_path / "seq-01", layout) == 5
    back = READERS[layout](tmp_path / "seq-01")
    assert isinstance(back, FrameSource)
    assert back.camera == CAMERA
    assert back.has_depth
    if layout in POSED:
        assert len(back) == 4
        np.testing.assert_allclose(back.poses(), np.delete(source.poses(), 3, 0), atol=1e-6)
        return
    if layout != "ace":
        np.testing.assert_allclose(back.timestamps(), source.timestamps(), atol=1e-6)
    if layout == "tum":  # between two poses a trajectory has one
        assert np.abs(back.poses()[3] - pose(3)).max() < 0.01
    else:
        assert np.isnan(back.poses()[3]).all()
        assert back[3].world_from_camera is None
    unit = 1 / LAYOUTS[layout].units_per_metre
    for i in (0, 1, 2, 4):
        written, read = source[i], back[i]
        np.testing.assert_allclose(read.world_from_camera, written.world_from_camera, atol=1e-6)
        np.testing.assert_allclose(read.depth, written.depth, atol=0.5001 * unit)
        np.testing.assert_array_equal(read.depth == 0, written.depth == 0)
        if layout == "replica":
            assert np.abs(read.rgb.astype(int) - written.rgb).mean() < 4
        else:
            np.testing.assert_array_equal(read.rgb, written.rgb)


@LAYOUT
def test_without_depth_and_poses(tmp_path, layout):
    source = PlaneSource(3, has_depth=False, lost=(0, 1, 2))
    export(source, tmp_path / "seq-01", layout)
    if layout in POSED:
        with pytest.raises(UserError, match=r"no registered images|no frames"):
            READERS[layout](tmp_path / "seq-01")
        return
    back = READERS[layout](tmp_path / "seq-01")
    assert not back.has_depth
    assert back.poses() is None
    assert back[2].depth is None


@LAYOUT
def test_bad_frames_are_left_out_and_the_rest_stays_aligned(tmp_path, layout):
    source = PlaneSource(5, bad=(0, 2))
    assert export(source, tmp_path / "seq-01", layout) == 3
    back = READERS[layout](tmp_path / "seq-01")
    if layout not in TIMELESS:
        np.testing.assert_allclose(back.timestamps(), source.timestamps()[[1, 3, 4]], atol=1e-6)
    np.testing.assert_allclose(back.poses(), [pose(1), pose(3), pose(4)], atol=1e-6)


@pytest.mark.parametrize("layout", POSED)
def test_points_to_begin_gaussian_splatting_with(tmp_path, layout):
    """They lie on the plane that the images show, in its colours, where their images see them."""
    source = PlaneSource(5, lost=(3,), bad=(1,))
    export(source, tmp_path, layout)
    if layout == "nerfstudio":
        assert (
            json.loads((tmp_path / "transforms.json").read_text())["ply_file_path"] == "points.ply"
        )
        header, body = (tmp_path / "points.ply").read_text().split("end_header\n")
        rows = np.array([line.split() for line in body.splitlines()], float)
        assert f"element vertex {len(rows)}\n" in header
    else:
        lines = (tmp_path / "sparse/0/points3D.txt").read_text().splitlines()[1:]
        table = np.array([line.split() for line in lines], float)
        np.testing.assert_array_equal(table[:, 0], np.arange(1, len(table) + 1))
        rows = table[:, 1:7]
        images = (tmp_path / "sparse/0/images.txt").read_text().splitlines()[1:]
        seen = {
            int(i.split()[0]): np.array(p.split(), float)
            for i, p in zip(images[::2], images[1::2], strict=True)
        }
        shown = [seen[int(image)].reshape(-1, 3)[int(k)] for image, k in table[:, 8:10]]
        np.testing.assert_array_equal([number for _, _, number in shown], table[:, 0])
        cameras = Colmap(tmp_path)
        order = sorted(seen)
        for (u, v, _), xyz, image in zip(
            shown[::997], rows[::997, :3], table[::997, 8], strict=True
        ):
            inside = np.linalg.inv(cameras.poses()[order.index(image)]) @ [*xyz, 1.0]
            found = project(inside[:3], CAMERA) + 0.5
            np.testing.assert_allclose(found, [u, v], atol=0.01)
    known = sum(np.count_nonzero(source[i].depth) for i in (0, 2, 4))
    assert len(rows) == known  # all: the images are small
    np.testing.assert_allclose(rows[:, :3] @ NORMAL, OFFSET, atol=1e-3)
    waves = np.sin(rows[:, :1] * [3, 4, 5] + rows[:, 1:2] * [4, 2, 3])
    np.testing.assert_allclose(rows[:, 3:], 127.5 + 100 * waves, atol=1.5)


def test_points_are_limited():
    frame = PlaneSource(1)[0]
    points = seed_points(frame, 50)
    assert points.xyz.shape == (50, 3)
    np.testing.assert_array_equal(points.uv, seed_points(frame, 50).uv)
    far = dataclasses.replace(frame, depth=np.full_like(frame.depth, 20.0))
    assert len(seed_points(far, 50).xyz) == 0
    assert seed_points(dataclasses.replace(frame, depth=None), 50) is None
    assert seed_points(dataclasses.replace(frame, world_from_camera=None), 50) is None


@LAYOUT
def test_frames_with_cameras_of_their_own_keep_them_or_are_resampled(tmp_path, layout):
    class Focusing(PlaneSource):
        own_cameras = True

        def __getitem__(self, index):
            other = dataclasses.replace(self, camera=CAMERA.replace(fx=CAMERA.fx + 5.0 * index))
            return PlaneSource.__getitem__(other, index)

    source = Focusing(2)
    export(source, tmp_path / "seq-01", layout)
    back = READERS[layout](tmp_path / "seq-01")[1]
    if layout in ("ace", *POSED):
        assert back.camera == source[1].camera
        np.testing.assert_array_equal(back.rgb, source[1].rgb)
    else:
        assert back.camera == CAMERA
        inner = (slice(8, -8), slice(8, -8))
        assert np.abs(back.rgb[inner].astype(int) - PlaneSource(2)[1].rgb[inner]).mean() < 3.0


def test_depth_that_does_not_fit_is_unknown(tmp_path):
    class Far(PlaneSource):
        def __getitem__(self, index):
            frame = super().__getitem__(index)
            depth = frame.depth.copy()
            depth[3, :4] = (70.0, np.nan, np.inf, -1.0)
            return dataclasses.replace(frame, depth=depth)

    export(Far(1), tmp_path / "seq-01", "7scenes")
    depth = SevenScenes(tmp_path / "seq-01")[0].depth
    np.testing.assert_array_equal(depth[3, :4], 0)
    assert depth[3, 6] > 1


def test_times_off_the_grid_become_positions_where_a_layout_has_no_times(tmp_path):
    source = PlaneSource(3, first_time=17.013, period=0.05)
    export(source, tmp_path / "a", "replica")
    np.testing.assert_allclose(Replica(tmp_path / "a").timestamps(), np.arange(3) / 30)
    export(source, tmp_path / "b", "folder")
    np.testing.assert_allclose(Folder(tmp_path / "b").timestamps(), source.timestamps())


def test_refusals(tmp_path):
    with pytest.raises(UserError, match="no layout 'kitti'"):
        export(PlaneSource(), tmp_path / "a", "kitti")
    export(PlaneSource(1), tmp_path / "a", "folder")
    with pytest.raises(UserError, match="in use"):
        export(PlaneSource(1), tmp_path / "a", "folder")
    with pytest.raises(UserError, match="same time"):
        export(PlaneSource(2, period=0.0), tmp_path / "b", "tum")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        export(PlaneSource(1), tmp_path / "file" / "below", "folder")


@pytest.mark.parametrize("layout", ["replica", "tum", "7scenes", "ace", "colmap"])
@pytest.mark.parametrize("name", ["7scenes/redkitchen/seq-01", "tum/freiburg1_rpy"])
def test_real_recordings_survive_every_layout(shared_dir, tmp_path, name, layout):
    source = open_sequence(name, shared_dir / "data", start=20, stride=30, max_frames=3)
    assert export(source, tmp_path / "seq-01", layout) == 3
    back = READERS[layout](tmp_path / "seq-01")
    np.testing.assert_allclose(back.poses(), source.poses(), atol=1e-6)
    half = 0.5001 / LAYOUTS[layout].units_per_metre
    for i in range(3):
        read, written = back[i], source[i]
        limit = (SATURATED - 1) / LAYOUTS[layout].units_per_metre
        fits = written.depth < limit
        np.testing.assert_allclose(read.depth[fits], written.depth[fits], atol=half)
        if layout != "replica":  # JPEG
            np.testing.assert_array_equal(read.rgb, written.rgb)
    camera = [getattr(back[0].camera, key) for key in ("fx", "fy", "cx", "cy", "width", "height")]
    expected = [getattr(source.camera, key) for key in ("fx", "fy", "cx", "cy", "width", "height")]
    np.testing.assert_allclose(camera, expected, atol=1e-6)
