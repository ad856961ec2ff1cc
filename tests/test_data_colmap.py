"""COLMAP models, as COLMAP itself (pycolmap) writes them."""

import cv2
import numpy as np
import pytest
from data_scene import CAMERA, PlaneSource, pose, texture

from ace_jax.data.colmap import MODELS, Colmap, read_model
from ace_jax.data.export import export
from ace_jax.data.frame import metric
from ace_jax.data.registry import open_sequence
from ace_jax.data.selection import open_frames
from ace_jax.errors import UserError
from ace_jax.geometry.rigid import invert

pycolmap = pytest.importorskip("pycolmap", reason="pycolmap writes the models to compare with")

PARAMETERS = {
    "SIMPLE_PINHOLE": [50, 32, 24],
    "PINHOLE": [50, 52, 32, 24],
    "SIMPLE_RADIAL": [50, 32, 24, 0.05],
    "RADIAL": [50, 32, 24, 0.05, -0.02],
    "OPENCV": [50, 52, 32, 24, 0.05, -0.02, 0.001, 0.002],
    "OPENCV_FISHEYE": [50, 52, 32, 24, 0.05, -0.02, 0.01, 0.002],
    "FULL_OPENCV": [50, 52, 32, 24, 0.05, -0.02, 0.001, 0.002, 0.01, 0.003, 0.002, 0.001],
    "SIMPLE_RADIAL_FISHEYE": [50, 32, 24, 0.05],
    "RADIAL_FISHEYE": [50, 32, 24, 0.05, -0.02],
}


def write_model(folder, model, parameters, binary, count=3):
    """A model of plane frames, written by pycolmap; returns its camera."""
    reconstruction = pycolmap.Reconstruction()
    camera = pycolmap.Camera(model=model, width=64, height=48, params=parameters, camera_id=7)
    reconstruction.add_camera_with_trivial_rig(camera)
    for i in range(count):
        image = pycolmap.Image(name=f"room/{i:03d}.png", camera_id=7, image_id=i + 1)
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(np.array([1.0, 2.0]))] * i)
        camera_from_world = pycolmap.Rigid3d(invert(pose(i))[:3])
        reconstruction.add_image_with_trivial_frame(image, camera_from_world)
    (folder / "sparse/0").mkdir(parents=True)
    (reconstruction.write_binary if binary else reconstruction.write_text)(folder / "sparse/0")
    (folder / "images/room").mkdir(parents=True)
    for i in range(count):
        picture = texture(CAMERA, pose(i))[:, :, ::-1]
        cv2.imwrite(str(folder / f"images/room/{i:03d}.png"), picture)
    return camera


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("model", sorted(PARAMETERS))
def test_models_written_by_colmap(tmp_path, model, binary):
    theirs = write_model(tmp_path, model, PARAMETERS[model], binary)
    source = open_sequence(f"colmap/{tmp_path}", "x")
    assert source.names() == [f"room/{i:03d}.png" for i in range(3)]
    np.testing.assert_allclose(source.poses(), [pose(i) for i in range(3)], atol=1e-9)
    assert source[2].rgb.shape == (48, 64, 3)
    assert not metric(source)
    # Our lens takes a ray to the same pixel as COLMAP's, half a pixel further.
    camera, lens = read_model(tmp_path / "sparse/0")[0][7]
    ray = np.array([0.3, -0.2, 1.0])
    wanted = np.array(theirs.img_from_cam(ray)) - 0.5
    ideal = np.array([camera.fx * ray[0] + camera.cx, camera.fy * ray[1] + camera.cy])
    if lens is not None:
        from ace_jax.geometry.distortion import distort

        ideal = np.asarray(distort(ideal, camera, lens))
    np.testing.assert_allclose(ideal, wanted, atol=1e-4)


def test_positions_are_scaled_to_metres(tmp_path):
    write_model(tmp_path, "PINHOLE", PARAMETERS["PINHOLE"], True)
    source = open_frames(f"colmap/{tmp_path}", "x", frames="1:", scale=0.25)
    assert metric(source)
    assert not metric(open_frames(f"colmap/{tmp_path}", "x", frames="1:"))
    wanted = np.array([pose(i) for i in (1, 2)])
    wanted[:, :3, 3] *= 0.25
    np.testing.assert_allclose(source.poses(), wanted, atol=1e-9)
    np.testing.assert_allclose(source[1].world_from_camera, wanted[1], atol=1e-9)
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="--scale"):
            open_frames(f"colmap/{tmp_path}", "x", scale=scale)


def test_all_of_colmaps_models_are_named():
    for number, model in MODELS.items():
        name = model if isinstance(model, str) else model.name
        assert int(getattr(pycolmap.CameraModelId, name)) == number
    assert {m.name for m in MODELS.values() if not isinstance(m, str)} == set(PARAMETERS)


def test_our_export_opens_in_colmap(tmp_path):
    export(PlaneSource(3), tmp_path / "own", "colmap")
    theirs = pycolmap.Reconstruction(tmp_path / "own/sparse/0")
    found = {image.name: image.cam_from_world().matrix() for image in theirs.images.values()}
    for i in range(3):
        np.testing.assert_allclose(found[f"{i:06d}.png"], invert(pose(i))[:3], atol=1e-9)


@pytest.mark.parametrize("binary", [False, True])
def test_damaged_models_are_one_line(tmp_path, binary):
    write_model(tmp_path, "OPENCV", PARAMETERS["OPENCV"], binary)
    suffix = "bin" if binary else "txt"
    for name in ("cameras", "images"):
        path = tmp_path / f"sparse/0/{name}.{suffix}"
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * 0.8)].rstrip(b"0123456789. \n"))
        if binary or name == "cameras":
            with pytest.raises(UserError, match="damaged"):
                Colmap(tmp_path)
        path.write_bytes(data)
    assert len(Colmap(tmp_path)) == 3


def test_other_refusals(tmp_path):
    write_model(tmp_path / "fov", "FOV", [50, 50, 32, 24, 0.5], True)
    with pytest.raises(UserError, match="FOV is not supported; run `colmap image_undistorter`"):
        Colmap(tmp_path / "fov")
    with pytest.raises(UserError, match="no COLMAP model"):
        Colmap(tmp_path)
    write_model(tmp_path / "out", "PINHOLE", PARAMETERS["PINHOLE"], False)
    path = tmp_path / "out/sparse/0/images.txt"
    path.write_text(path.read_text().replace("room/001.png", "../../001.png"))
    with pytest.raises(UserError, match="leads out of the folder"):
        Colmap(tmp_path / "out")
